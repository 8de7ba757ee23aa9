//! What sums over several sets of the same values tell together.
//!
//! Whoever reads the sums over sets S_1, .., S_k can form every linear combination of them, and a combination whose coefficients are
//! zero outside a set T is a value of the members of T alone. So nothing is learned of fewer than m contributors if no T with fewer than m
//! members carries a combination other than zero. This is decided by linear algebra over the integers modulo a prime: the matrix of the sets'
//! indicators has small entries, and its ranks are those over the rationals unless the prime divides a determinant, which a prime of 31
//! bits and at most six sets does not.

use galen_core::PartyId;
use std::collections::BTreeSet;

const PRIME: u64 = 2_147_483_647;

/// The fewest contributors of whom sums over these sets tell something together; `None` without sets.
pub fn fewest(sets: &[BTreeSet<PartyId>]) -> Option<BTreeSet<PartyId>> {
    let everybody: Vec<&PartyId> = sets
        .iter()
        .flatten()
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let whole = rank(sets, &everybody);
    let mut subsets: Vec<u32> = (1..1_u32 << everybody.len()).collect();
    subsets.sort_by_key(|subset| subset.count_ones());
    let within = |subset: u32, index: usize| subset & (1 << index) != 0;
    subsets.into_iter().find_map(|subset| {
        let outside: Vec<&PartyId> = (0..everybody.len())
            .filter(|index| !within(subset, *index))
            .map(|index| everybody[index])
            .collect();
        // If leaving the members of the subset out loses rank, some combination vanishes everywhere else.
        (rank(sets, &outside) < whole).then(|| {
            let members = (0..everybody.len()).filter(|index| within(subset, *index));
            members.map(|index| everybody[index].clone()).collect()
        })
    })
}

/// Rank of the sets' indicators, restricted to some contributors.
fn rank(sets: &[BTreeSet<PartyId>], among: &[&PartyId]) -> usize {
    let row = |set: &BTreeSet<PartyId>| -> Vec<u64> {
        among.iter().map(|name| u64::from(set.contains(*name))).collect()
    };
    let mut rows: Vec<Vec<u64>> = sets.iter().map(row).collect();
    let mut rank = 0;
    for column in 0..among.len() {
        let Some(pivot) = (rank..rows.len()).find(|row| rows[*row][column] != 0) else {
            continue;
        };
        rows.swap(rank, pivot);
        let (head, tail) = rows.split_at_mut(rank + 1);
        let pivot = &head[rank];
        for row in tail {
            let (a, b) = (row[column], pivot[column]);
            for (value, lead) in row.iter_mut().zip(pivot) {
                *value = (*value * b + (PRIME - a) * lead % PRIME) % PRIME;
            }
        }
        rank += 1;
    }
    rank
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn sets(texts: &[&str]) -> Vec<BTreeSet<PartyId>> {
        let set = |text: &&str| {
            text.chars()
                .map(|c| PartyId::new(c.to_string()).unwrap())
                .collect()
        };
        texts.iter().map(set).collect()
    }

    fn told(texts: &[&str]) -> String {
        let fewest = fewest(&sets(texts)).unwrap();
        fewest.iter().map(PartyId::as_str).collect()
    }

    #[test]
    fn sums_tell_what_their_combinations_are_about() {
        assert_eq!(fewest(&[]), None);
        assert_eq!(told(&["abc"]), "abc");
        assert_eq!(told(&["abc", "abc"]), "abc");
        assert_eq!(told(&["abcd", "abc"]), "d");
        assert_eq!(told(&["abcd", "abce"]), "de");
        assert_eq!(told(&["abc", "def"]), "abc");
        assert_eq!(told(&["abcdef", "abc"]), "abc");
        // Every pair tells of three, all together of one.
        assert_eq!(told(&["abcdefx", "abc", "def"]), "x");
    }
}
