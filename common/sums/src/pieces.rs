//! Which custodian holds which piece of a key: replicated secret sharing (Ito, Saito, Nishizeki 1987).
//!
//! With n custodians and threshold t there is one piece for each subset T of t-1 custodians, held by exactly the
//! custodians that are NOT in T. So a coalition of t-1 custodians misses the piece named after it, while of any t
//! custodians at least one lies outside of each T: together they hold everything. Adding pieces needs no
//! interpolation, hence no coefficients that would blow up short polynomials.

use crate::error::PlanError;
use std::collections::{BTreeSet, VecDeque};

/// Most pieces into which a key may be cut.
pub const MAX_PIECES: usize = 512;

/// The pieces of n custodians with threshold t. Custodians are numbered by their order in the study, pieces by the
/// lexicographic order of their subsets T.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PieceTable {
    custodians: usize,
    threshold: usize,
    holders: Vec<Vec<usize>>,
    held: Vec<Vec<u32>>,
}

/// Pieces that one custodian answers for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The custodian.
    pub custodian: usize,
    /// Its pieces, ascending.
    pub pieces: Vec<u32>,
}

impl PieceTable {
    /// The table of `custodians` custodians of which any `threshold` can open.
    ///
    /// # Errors
    /// [`PlanError::Threshold`] unless `2 <= threshold <= custodians`, and [`PlanError::TooManyPieces`] above
    /// [`MAX_PIECES`] pieces.
    pub fn new(custodians: usize, threshold: usize) -> Result<Self, PlanError> {
        if threshold < 2 || threshold > custodians {
            return Err(PlanError::Threshold {
                custodians,
                threshold,
            });
        }
        let count = binomial_capped(custodians, threshold - 1);
        if count > MAX_PIECES {
            return Err(PlanError::TooManyPieces {
                custodians,
                threshold,
            });
        }
        let mut holders = Vec::with_capacity(count);
        let mut held = vec![Vec::new(); custodians];
        let mut without: Vec<usize> = (0..threshold - 1).collect();
        loop {
            let holding: Vec<usize> = (0..custodians).filter(|c| !without.contains(c)).collect();
            for &custodian in &holding {
                held[custodian].push(holders.len() as u32);
            }
            holders.push(holding);
            if !next_subset(&mut without, custodians) {
                break;
            }
        }
        Ok(Self {
            custodians,
            threshold,
            holders,
            held,
        })
    }

    /// n.
    pub fn custodians(&self) -> usize {
        self.custodians
    }

    /// t.
    pub fn threshold(&self) -> usize {
        self.threshold
    }

    /// Number of pieces: the binomial of n over t-1.
    pub fn len(&self) -> usize {
        self.holders.len()
    }

    /// Never true: a table has at least one piece.
    pub fn is_empty(&self) -> bool {
        self.holders.is_empty()
    }

    /// The custodians that hold a piece, ascending; nobody holds a piece that does not exist.
    pub fn holders(&self, piece: u32) -> &[usize] {
        self.holders.get(piece as usize).map_or(&[], Vec::as_slice)
    }

    /// The pieces that a custodian holds, ascending; a custodian that does not exist holds none.
    pub fn held_by(&self, custodian: usize) -> &[u32] {
        self.held.get(custodian).map_or(&[], Vec::as_slice)
    }

    /// Divides all pieces among the available custodians as evenly as their holdings allow; `None` if some piece has no
    /// available holder. Custodians without pieces are left out. The same input gives the same answer everywhere.
    ///
    /// A semi-matching: first greedily, then improved along chains that move one piece from a custodian to one with
    /// at least two fewer (Harvey, Ladner, Lovasz, Tamir, "Semi-matchings for bipartite graphs and load balancing",
    /// J. Algorithms 2006: without such chains the loads are as even as possible). Every move lowers the sum of the
    /// squared loads, so it ends.
    pub fn assign(&self, available: &BTreeSet<usize>) -> Option<Vec<Assignment>> {
        let mut owned: Vec<BTreeSet<u32>> = vec![BTreeSet::new(); self.custodians];
        for piece in 0..self.len() as u32 {
            let lightest = self
                .holders(piece)
                .iter()
                .copied()
                .filter(|custodian| available.contains(custodian))
                .min_by_key(|&custodian| (owned[custodian].len(), custodian))?;
            owned[lightest].insert(piece);
        }
        while self.lighten(&mut owned, available) {}
        let given = owned
            .into_iter()
            .enumerate()
            .filter(|(_, pieces)| !pieces.is_empty());
        Some(
            given
                .map(|(custodian, pieces)| Assignment {
                    custodian,
                    pieces: pieces.into_iter().collect(),
                })
                .collect(),
        )
    }

    /// Moves one piece along a chain that starts at some custodian and ends at one with two fewer; false if there is none.
    fn lighten(&self, owned: &mut [BTreeSet<u32>], available: &BTreeSet<usize>) -> bool {
        for start in 0..owned.len() {
            // came_from[v] = (u, p): piece p of u may go to v.
            let mut came_from: Vec<Option<(usize, u32)>> = vec![None; owned.len()];
            let mut queue = VecDeque::from([start]);
            while let Some(at) = queue.pop_front() {
                if owned[at].len() + 2 <= owned[start].len() {
                    let mut to = at;
                    while let Some((from, piece)) = came_from[to] {
                        owned[from].remove(&piece);
                        owned[to].insert(piece);
                        to = from;
                    }
                    return true;
                }
                for &piece in &owned[at] {
                    for &next in self.holders(piece) {
                        if next != start && available.contains(&next) && came_from[next].is_none() {
                            came_from[next] = Some((at, piece));
                            queue.push_back(next);
                        }
                    }
                }
            }
        }
        false
    }
}

/// The next subset of the same size in lexicographic order; false after the last.
fn next_subset(subset: &mut [usize], of: usize) -> bool {
    let size = subset.len();
    for i in (0..size).rev() {
        if subset[i] < of - size + i {
            subset[i] += 1;
            for j in i + 1..size {
                subset[j] = subset[j - 1] + 1;
            }
            return true;
        }
    }
    false
}

/// n over k, or anything above [`MAX_PIECES`] where it is larger than that.
fn binomial_capped(n: usize, k: usize) -> usize {
    let k = k.min(n - k);
    let mut value = 1usize;
    for i in 0..k {
        // The product is divisible: value is n over i before, n over i+1 after. It rises up to the middle, so a value
        // above the cap stays above it.
        let Some(product) = value.checked_mul(n - i) else {
            return usize::MAX;
        };
        value = product / (i + 1);
        if value > MAX_PIECES {
            return value;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subsets(n: usize, size: usize) -> Vec<Vec<usize>> {
        (0u32..1 << n)
            .filter(|mask| mask.count_ones() as usize == size)
            .map(|mask| (0..n).filter(|i| mask >> i & 1 == 1).collect())
            .collect()
    }

    #[test]
    fn every_coalition_below_the_threshold_lacks_exactly_one_piece_and_any_t_hold_all() {
        for n in 2..=7 {
            for t in 2..=n {
                let table = PieceTable::new(n, t).unwrap();
                let union = |coalition: &[usize]| -> BTreeSet<u32> {
                    coalition
                        .iter()
                        .flat_map(|&c| table.held_by(c).iter().copied())
                        .collect()
                };
                let mut lacked = BTreeSet::new();
                for coalition in subsets(n, t - 1) {
                    let held = union(&coalition);
                    let missing: Vec<u32> = (0..table.len() as u32).filter(|p| !held.contains(p)).collect();
                    assert_eq!(missing.len(), 1, "n={n} t={t} {coalition:?}");
                    assert!(table.holders(missing[0]).iter().all(|c| !coalition.contains(c)));
                    lacked.insert(missing[0]);
                }
                assert_eq!(
                    lacked.len(),
                    table.len(),
                    "each piece is the one that some coalition lacks"
                );
                for size in 1..t - 1 {
                    for coalition in subsets(n, size) {
                        assert!(union(&coalition).len() < table.len());
                    }
                }
                for coalition in subsets(n, t) {
                    assert_eq!(union(&coalition).len(), table.len(), "n={n} t={t} {coalition:?}");
                }
                for piece in 0..table.len() as u32 {
                    assert_eq!(table.holders(piece).len(), n - t + 1);
                }
            }
        }
    }

    #[test]
    fn assignments_cover_all_pieces_once_and_are_as_even_as_can_be() {
        for (n, t) in [(4, 3), (5, 3), (7, 4), (9, 5), (6, 6), (6, 2)] {
            let table = PieceTable::new(n, t).unwrap();
            for size in 0..=n {
                for available in subsets(n, size) {
                    let available: BTreeSet<usize> = available.into_iter().collect();
                    let Some(assignments) = table.assign(&available) else {
                        assert!(size < t);
                        continue;
                    };
                    assert!(size >= t);
                    let mut all: Vec<u32> = assignments.iter().flat_map(|a| a.pieces.clone()).collect();
                    all.sort_unstable();
                    assert_eq!(all, (0..table.len() as u32).collect::<Vec<_>>());
                    for a in &assignments {
                        assert!(available.contains(&a.custodian));
                        assert!(a.pieces.iter().all(|p| table.held_by(a.custodian).contains(p)));
                    }
                    if size == n {
                        let loads: Vec<usize> = assignments.iter().map(|a| a.pieces.len()).collect();
                        let heaviest = loads.iter().max().unwrap();
                        assert_eq!(*heaviest, table.len().div_ceil(n), "n={n} t={t}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_no_sharing_is_refused() {
        for (n, t) in [(0, 0), (3, 0), (3, 1), (3, 4)] {
            assert!(matches!(PieceTable::new(n, t), Err(PlanError::Threshold { .. })));
        }
        assert_eq!(PieceTable::new(9, 5).unwrap().len(), 126);
        assert_eq!(PieceTable::new(512, 2).unwrap().len(), 512);
        assert!(matches!(
            PieceTable::new(12, 6),
            Err(PlanError::TooManyPieces { .. })
        ));
        assert!(matches!(
            PieceTable::new(513, 2),
            Err(PlanError::TooManyPieces { .. })
        ));
        assert!(matches!(
            PieceTable::new(400, 200),
            Err(PlanError::TooManyPieces { .. })
        ));
    }
}
