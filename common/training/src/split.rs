//! Holding patients out for evaluation.

use crate::table::Table;
use galen_core::PartyId;
use galen_models::random::Stream;

/// One hospital's patients in two disjoint parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// The patients to learn from.
    pub train: Table,
    /// The patients to evaluate on.
    pub held_out: Table,
}

/// Holds out the fraction `held_out` of each class (rounded to whole patients), drawn from the study's public seed and the party's
/// name. Patients keep their order within each part.
pub fn split(table: &Table, held_out: f64, seed: u64, party: &PartyId) -> Split {
    let mut stream = Stream::new("galen split v1", seed, &[party.as_str().as_bytes()]);
    let mut out = vec![false; table.len()];
    for class in [false, true] {
        let mut members: Vec<usize> = (0..table.len()).filter(|&i| table.labels[i] == class).collect();
        stream.shuffle(&mut members);
        let count = (members.len() as f64 * held_out).round() as usize;
        members.iter().take(count).for_each(|&i| out[i] = true);
    }
    let part = |wanted| {
        let indices: Vec<usize> = (0..table.len()).filter(|&i| out[i] == wanted).collect();
        table.select(&indices)
    };
    Split {
        train: part(false),
        held_out: part(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(labels: &[bool]) -> Table {
        Table {
            features: (0..labels.len()).map(|i| vec![Some(i as f64)]).collect(),
            labels: labels.to_vec(),
        }
    }

    fn party(name: &str) -> PartyId {
        PartyId::new(name).unwrap()
    }

    #[test]
    fn the_split_follows_from_seed_and_party() {
        let all = table(&[true; 40]);
        let base = split(&all, 0.3, 1, &party("a"));
        assert_eq!(base, split(&all, 0.3, 1, &party("a")));
        assert_ne!(base, split(&all, 0.3, 2, &party("a")));
        assert_ne!(base, split(&all, 0.3, 1, &party("b")));
    }

    proptest! {
        #[test]
        fn parts_are_disjoint_complete_and_stratified(
            labels in proptest::collection::vec(any::<bool>(), 0..80),
            fraction in 0.05f64..0.5,
            seed in any::<u64>(),
        ) {
            let all = table(&labels);
            let parts = split(&all, fraction, seed, &party("p"));
            let ids = |t: &Table| t.features.iter().map(|f| f[0].unwrap() as usize).collect::<Vec<_>>();
            let mut both = [ids(&parts.train), ids(&parts.held_out)].concat();
            both.sort_unstable();
            prop_assert_eq!(both, (0..labels.len()).collect::<Vec<_>>());
            for class in [false, true] {
                let count = |l: &[bool]| l.iter().filter(|&&x| x == class).count();
                let expected = (count(&labels) as f64 * fraction).round() as usize;
                prop_assert_eq!(count(&parts.held_out.labels), expected);
            }
            for part in [&parts.train, &parts.held_out] {
                for (id, label) in ids(part).into_iter().zip(&part.labels) {
                    prop_assert_eq!(labels[id], *label);
                }
            }
        }
    }
}
