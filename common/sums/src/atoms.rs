//! Which further sets of one round may be opened beside those that may be open already.
//!
//! In every attempt of a round contributors encrypt the same values. Whoever reads the sums over several sets also reads every
//! linear combination of them, and all of those are combinations of the sums over the sets' *atoms*: the largest groups of
//! contributors that lie in exactly the same of these sets. So if every atom has at least `min_contributors` members, nothing that
//! follows from the sums singles out fewer contributors than one sum over a smallest set would. The family `{S}` has one
//! atom, disjoint halves have two, and two sets that differ by one hospital have an atom of one.

use galen_core::PartyId;
use std::collections::{BTreeMap, BTreeSet};

/// The smallest atom of a family of sets; `None` if all are empty.
pub fn smallest_atom<'a>(sets: impl IntoIterator<Item = &'a BTreeSet<PartyId>>) -> Option<usize> {
    let mut membership: BTreeMap<&PartyId, Vec<usize>> = BTreeMap::new();
    for (index, set) in sets.into_iter().enumerate() {
        for member in set {
            membership.entry(member).or_default().push(index);
        }
    }
    let mut sizes: BTreeMap<Vec<usize>, usize> = BTreeMap::new();
    for lies_in in membership.into_values() {
        *sizes.entry(lies_in).or_default() += 1;
    }
    sizes.into_values().min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(members: impl IntoIterator<Item = u8>) -> BTreeSet<PartyId> {
        let name = |index: u8| PartyId::new(format!("h{index}")).unwrap();
        members.into_iter().map(name).collect()
    }

    #[test]
    fn atoms_of_known_families() {
        let whole = set(0..8);
        let (low, high) = (set(0..4), set(4..8));
        for (family, smallest) in [
            (vec![], None),
            (vec![whole.clone()], Some(8)),
            (vec![whole.clone(), whole.clone()], Some(8)),
            (vec![whole.clone(), low.clone()], Some(4)),
            (vec![whole.clone(), low.clone(), high.clone()], Some(4)),
            (vec![low.clone(), high.clone()], Some(4)),
            (vec![whole.clone(), set(0..7)], Some(1)),
            (vec![low.clone(), set(3..7)], Some(1)),
            (vec![whole, low, set([0, 1, 4, 5])], Some(2)),
        ] {
            assert_eq!(smallest_atom(&family), smallest, "{family:?}");
        }
    }

    proptest! {
        /// What any combination of the sums depends on: a contributor never without its atom.
        #[test]
        fn combinations_of_sums_weigh_members_of_an_atom_alike(
            masks in prop::collection::vec(1u16..1 << 10, 1..5),
            weights in prop::collection::vec(-3i32..4, 5),
        ) {
            let family: Vec<BTreeSet<PartyId>> =
                masks.iter().map(|mask| set((0..10).filter(|i| mask >> i & 1 == 1))).collect();
            let smallest = smallest_atom(&family).unwrap();
            let weight = |member: &PartyId| -> i32 {
                family.iter().zip(&weights).filter(|(set, _)| set.contains(member)).map(|(_, w)| w).sum()
            };
            let everybody: BTreeSet<&PartyId> = family.iter().flatten().collect();
            let touched = everybody.iter().filter(|member| weight(member) != 0).count();
            prop_assert!(touched == 0 || touched >= smallest);
        }
    }
}
