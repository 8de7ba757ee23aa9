//! Holding patients out for evaluation.

use galen_core::PartyId;
use galen_data::Dataset;
use galen_data::partition::{self, Parts};
use galen_models::random::Stream;

/// Holds out the fraction `held_out` of each class (rounded to whole patients), drawn from the study's public seed and the party's
/// name. Gives indices of patients, in rising order within each part.
pub fn split(labels: &[bool], held_out: f64, seed: u64, party: &PartyId) -> Parts {
    let mut stream = Stream::new("galen split v1", seed, &[party.as_str().as_bytes()]);
    let mut out = vec![false; labels.len()];
    for class in [false, true] {
        let mut members: Vec<usize> = (0..labels.len()).filter(|&i| labels[i] == class).collect();
        stream.shuffle(&mut members);
        let count = (members.len() as f64 * held_out).round() as usize;
        members.iter().take(count).for_each(|&i| out[i] = true);
    }
    let part = |wanted| (0..labels.len()).filter(|&i| out[i] == wanted).collect();
    Parts {
        train: part(false),
        held_out: part(true),
    }
}

/// Holds out samples of two classes as [`split`] does; where patients are known, a patient's samples stay together, and whole patients are
/// counted ([`partition::hold_out`]).
pub fn split_samples(data: &Dataset, held_out: f64, seed: u64, party: &PartyId) -> Parts {
    let by_patient = || {
        data.patients()?;
        let mut stream = Stream::new("galen split of patients v1", seed, &[party.as_str().as_bytes()]);
        let seed = u64::from_be_bytes(std::array::from_fn(|_| stream.below(256) as u8));
        partition::hold_out(data, held_out, seed).ok()
    };
    by_patient().unwrap_or_else(|| {
        let classes = data.classes().unwrap_or_default();
        let labels: Vec<bool> = classes.iter().map(|&class| class == 1).collect();
        split(&labels, held_out, seed, party)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn party(name: &str) -> PartyId {
        PartyId::new(name).unwrap()
    }

    #[test]
    fn the_split_follows_from_seed_and_party() {
        let all = [true; 40];
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
            let parts = split(&labels, fraction, seed, &party("p"));
            let mut both = [parts.train.clone(), parts.held_out.clone()].concat();
            both.sort_unstable();
            prop_assert_eq!(both, (0..labels.len()).collect::<Vec<_>>());
            prop_assert!(parts.train.is_sorted() && parts.held_out.is_sorted());
            for class in [false, true] {
                let count = |of: &mut dyn Iterator<Item = bool>| of.filter(|&x| x == class).count();
                let expected = (count(&mut labels.iter().copied()) as f64 * fraction).round() as usize;
                prop_assert_eq!(count(&mut parts.held_out.iter().map(|&i| labels[i])), expected);
            }
        }
    }
}
