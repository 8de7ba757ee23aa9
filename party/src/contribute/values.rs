//! What a contributor adds in each kind of round, from its patients and the derived state.

use crate::data::Patients;
use crate::derive::{DeriveError, Derived};
use galen_core::PartyId;
use galen_core::study::{Purpose, Study};
use galen_models::{CodecError, Course, CourseError, ModelError, Personal, histogram};
use galen_training::federated::{Hospital, LocalError};
use galen_training::{Device, PreprocessError, Progress};

/// Why values cannot be computed. No text names a patient's value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ValuesError {
    /// An earlier round's result is missing or impossible.
    #[error(transparent)]
    Derive(#[from] DeriveError),
    /// The patients do not fit the schema; the reader of the data checks the same before.
    #[error("the patients cannot be encoded for this round")]
    Codec(#[source] CodecError),
    /// The patients do not fit the preprocessing.
    #[error(transparent)]
    Preprocess(#[from] PreprocessError),
    /// Training failed.
    #[error(transparent)]
    Train(#[from] LocalError),
    /// The study's training is impossible.
    #[error(transparent)]
    Course(#[from] CourseError),
    /// The model cannot be evaluated.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// What values are computed from.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// The study.
    pub study: &'a Study,
    /// Who computes.
    pub party: &'a PartyId,
    /// Its patients.
    pub patients: &'a Patients,
    /// What is known from earlier rounds.
    pub derived: &'a Derived,
    /// What this hospital keeps to itself.
    pub personal: Option<&'a Personal>,
    /// What trains.
    pub device: &'a Device,
}

/// What computing a round's values gives.
#[derive(Debug)]
pub struct Computed {
    /// What is added up.
    pub values: Vec<i64>,
    /// After a training round in which something is private: the private parameters as they were trained.
    pub private: Option<Vec<f64>>,
}

impl From<Vec<i64>> for Computed {
    fn from(values: Vec<i64>) -> Self {
        let private = None;
        Self { values, private }
    }
}

/// The values of the round that follows the derived state.
pub fn values(sources: Sources<'_>, progress: &mut dyn FnMut(Progress)) -> Result<Computed, ValuesError> {
    let Sources {
        study,
        party,
        patients,
        derived,
        personal,
        device,
    } = sources;
    let purpose = derived
        .next_purpose(study)
        .ok_or(DeriveError::NoRound(derived.applied()))?;
    match purpose {
        Purpose::Statistics => {
            let values = patients.train.statistics(&study.data);
            Ok(values.map_err(ValuesError::Codec)?.into())
        }
        Purpose::Training => {
            let examples = derived.preprocessor(study)?.examples(&patients.train)?;
            let course = Course::of(study)?;
            let hospital = Hospital {
                study,
                course: &course,
                party: party.as_str(),
                // Training rounds count from 0; round 0 of the study is the statistics round.
                round: derived.applied().saturating_sub(1),
                learned: derived.learned(),
                personal,
                classes: derived.statistics(study)?.classes,
            };
            let step = hospital.train(device, &examples, progress)?;
            let values = step.contribution(&course).map_err(ValuesError::Codec)?;
            let private = (!course.sharing().is_whole()).then(|| step.private(&course));
            Ok(Computed { values, private })
        }
        Purpose::Evaluation => {
            let (model, held_out) = (derived.trained(study, personal)?, &patients.held_out);
            let preprocessor = derived.preprocessor(study)?;
            let scores = preprocessor.probabilities::<ValuesError>(&model, held_out)?;
            let values = histogram::contribution(&scores, &held_out.labels, &study.evaluation, &study.data);
            Ok(values.map_err(ValuesError::Codec)?.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use galen_core::Digest;
    use galen_models::Model;
    use galen_models::agenda::{self, ReleasedModel};
    use galen_training::baseline::{self, Hospital};

    /// Deriving round by round gives what the unencrypted federation gives, bit for bit.
    #[test]
    fn the_rounds_give_the_sums_and_the_model_of_the_baseline() {
        let study = testing::study();
        let frozen = testing::frozen(&[]);
        let device = Device::cpu();
        let temp = tempfile::tempdir().unwrap();
        let (mut hospitals, mut parties) = (Vec::new(), Vec::new());
        for (seed, member) in study.party.iter().enumerate() {
            let path = temp.path().join(member.name.as_str());
            testing::write_table(&path, 40 + seed, seed);
            hospitals.push(Hospital::load(&study, &member.name, &path).unwrap());
            parties.push((
                member.name.clone(),
                Patients::load(&path, &study, &member.name).unwrap(),
            ));
        }
        let expected = baseline::federated(&study, &device, &hospitals).unwrap();
        let secret = Digest::of(b"opening secret");
        let mut sums = Vec::new();
        let mut derived = Derived::initial(&frozen);
        let mut digests = vec![derived.digest()];
        for round in 0..agenda::rounds(&study) {
            assert_eq!(derived.applied(), round);
            assert_eq!(derived.is_trained(&study), round > study.training_rounds());
            let mut sum = vec![0; agenda::shape(&study, round).unwrap().unwrap().values];
            for (party, patients) in &parties {
                let sources = Sources {
                    study: &study,
                    party,
                    patients,
                    derived: &derived,
                    personal: None,
                    device: &device,
                };
                let values = values(sources, &mut |_| {}).unwrap().values;
                sum.iter_mut().zip(values).for_each(|(s, v)| *s += v);
            }
            derived = derived.apply(&study, &sum, &secret).unwrap();
            digests.push(derived.digest());
            sums.push(sum);
        }
        assert_eq!(sums[0], expected.statistics_sum);
        assert_eq!(sums[1..=2], expected.training_sums[..]);
        assert_eq!(sums[3], expected.evaluation_sum);
        assert_eq!(derived.trained(&study, None).unwrap(), expected.trained.model);
        assert_eq!(
            derived.preprocessor(&study).unwrap(),
            expected.trained.preprocessor
        );
        assert_eq!(derived.histograms(&study).unwrap(), Some(expected.histograms));
        let released: ReleasedModel = postcard::from_bytes(&derived.released(&study).unwrap()).unwrap();
        assert_eq!(
            Model::from_safetensors(&released.safetensors).unwrap(),
            expected.trained.model
        );
        assert_eq!(
            released.input_ranges,
            expected.trained.preprocessor.input_ranges()
        );
        // Other keys, other names of the states; but the same model.
        let mut other = Derived::initial(&frozen);
        for (sum, digest) in sums.iter().zip(&digests[1..]) {
            other = other.apply(&study, sum, &Digest::of(b"another secret")).unwrap();
            assert_ne!(other.digest(), *digest);
        }
        assert_eq!(other.released(&study).unwrap(), derived.released(&study).unwrap());
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), 5, "every state has a name of its own");
        // After the last round nothing follows.
        assert!(matches!(
            derived.apply(&study, &sums[3], &secret),
            Err(DeriveError::NoRound(4))
        ));
        let (party, patients) = &parties[0];
        let sources = Sources {
            study: &study,
            party,
            patients,
            derived: &derived,
            personal: None,
            device: &device,
        };
        assert!(values(sources, &mut |_| {}).is_err());
    }

    /// Of images as of tables: what a party computes round by round gives the sums and the model of the unencrypted federation.
    #[test]
    fn a_study_on_images_gives_the_sums_and_the_model_of_the_baseline() {
        let study = testing::images();
        assert_eq!(study.check(), []);
        let frozen = testing::frozen_of(study.clone(), &[]);
        let device = Device::cpu();
        let temp = tempfile::tempdir().unwrap();
        let (mut hospitals, mut parties) = (Vec::new(), Vec::new());
        for (seed, member) in study.party.iter().enumerate() {
            let folder = temp.path().join(member.name.as_str());
            std::fs::create_dir(&folder).unwrap();
            let path = testing::write_images(&folder, 40 + 2 * seed, seed);
            hospitals.push(Hospital::load(&study, &member.name, &path).unwrap());
            let patients = Patients::load(&path, &study, &member.name).unwrap();
            assert_eq!(patients.classes(), [20 + seed; 2]);
            parties.push((member.name.clone(), patients));
        }
        let expected = baseline::federated(&study, &device, &hospitals).unwrap();
        let mut derived = Derived::initial(&frozen);
        for round in 0..agenda::rounds(&study) {
            let shape = agenda::shape(&study, round).unwrap().unwrap();
            let mut sum = vec![0; shape.values];
            for (party, patients) in &parties {
                let sources = Sources {
                    study: &study,
                    party,
                    patients,
                    derived: &derived,
                    personal: None,
                    device: &device,
                };
                let values = values(sources, &mut |_| {}).unwrap().values;
                assert_eq!(values.len(), shape.values, "round {round}");
                assert!(values.iter().all(|value| value.unsigned_abs() <= shape.max_abs));
                sum.iter_mut().zip(values).for_each(|(s, v)| *s += v);
            }
            match round {
                // Of the statistics round only the classes of the patients to learn from: 14 of 20, 15 of 21 and 15 of 22 each.
                0 => assert_eq!((&sum, &sum[..]), (&expected.statistics_sum, &[44, 44][..])),
                1 | 2 => assert_eq!(sum, expected.training_sums[round as usize - 1]),
                _ => assert_eq!(sum, expected.evaluation_sum),
            }
            derived = derived
                .apply(&study, &sum, &Digest::of(b"opening secret"))
                .unwrap();
        }
        assert_eq!(derived.trained(&study, None).unwrap(), expected.trained.model);
        let released: ReleasedModel = postcard::from_bytes(&derived.released(&study).unwrap()).unwrap();
        let model = Model::from_safetensors(&released.safetensors).unwrap();
        assert_eq!(model.spec().input, study.data.input());
        assert_eq!(released.input_ranges, [galen_models::Range::new(0.0, 1.0); 16]);
    }

    /// The heart study with a recipe, private normalisations and server momentum, over few rounds.
    fn personal() -> Study {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/studies/heart");
        let mut study: Study = galen_core::config::load(&folder.join("personal.toml")).unwrap();
        for (stage, epochs) in study
            .training
            .recipe
            .as_mut()
            .unwrap()
            .stages
            .iter_mut()
            .zip([2, 3, 1])
        {
            stage.epochs = epochs;
        }
        study
    }

    /// Each hospital goes through all rounds by what it has stored and nothing else, as if it were started anew before every round: states, models
    /// and sums are those of the unencrypted federation, and the teacher is part of what is stored.
    #[test]
    fn a_recipe_goes_on_from_what_is_stored() {
        let study = personal();
        assert_eq!(study.check(), []);
        let frozen = testing::frozen_of(study.clone(), &[]);
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/studies/heart");
        let device = Device::cpu();
        let (mut hospitals, mut parties) = (Vec::new(), Vec::new());
        for member in &study.party {
            let csv = folder.join(format!("{}.csv", member.name));
            hospitals.push(Hospital::load(&study, &member.name, &csv).unwrap());
            let patients = Patients::load(&csv, &study, &member.name).unwrap();
            let stored = postcard::to_stdvec(&(Derived::initial(&frozen), None::<Personal>)).unwrap();
            parties.push((member.name.clone(), patients, stored));
        }
        let expected = baseline::federated(&study, &device, &hospitals).unwrap();
        let course = Course::of(&study).unwrap();
        let secret = Digest::of(b"opening secret");
        for round in 0..agenda::rounds(&study) {
            let mut sum = vec![0; agenda::shape(&study, round).unwrap().unwrap().values];
            let mut trained = Vec::new();
            for (party, patients, stored) in &parties {
                let (derived, personal): (Derived, Option<Personal>) = postcard::from_bytes(stored).unwrap();
                let sources = Sources {
                    study: &study,
                    party,
                    patients,
                    derived: &derived,
                    personal: personal.as_ref(),
                    device: &device,
                };
                let computed = values(sources, &mut |_| {}).unwrap();
                sum.iter_mut().zip(computed.values).for_each(|(s, v)| *s += v);
                trained.push(computed.private);
            }
            let mut digests = Vec::new();
            for ((_, _, stored), private) in parties.iter_mut().zip(trained) {
                let (derived, personal): (Derived, Option<Personal>) = postcard::from_bytes(stored).unwrap();
                let next = derived.apply(&study, &sum, &secret).unwrap();
                next.verify(&study, round + 1, &next.digest()).unwrap();
                let is_training = agenda::purpose(&study, round) == Some(Purpose::Training);
                assert_eq!(private.is_some(), is_training);
                let personal = if is_training {
                    course.personal(round - 1, personal.as_ref(), private)
                } else {
                    personal
                };
                digests.push(next.digest());
                *stored = postcard::to_stdvec(&(next, personal)).unwrap();
            }
            assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "round {round}");
            let known = match round {
                0 => &expected.statistics_sum,
                round if round <= 6 => &expected.training_sums[round as usize - 1],
                _ => &expected.evaluation_sum,
            };
            assert_eq!(&sum, known, "round {round}");
        }
        for (party, _, stored) in &parties {
            let (derived, personal): (Derived, Option<Personal>) = postcard::from_bytes(stored).unwrap();
            let model = derived.trained(&study, personal.as_ref()).unwrap();
            assert_eq!(model, expected.models[party]);
            assert!(derived.learned().is_some_and(|learned| learned.teacher.is_some()));
            assert!(personal.is_some_and(|personal| personal.teacher.is_some()));
        }
    }

    #[test]
    fn a_different_sum_gives_a_different_state() {
        let (study, frozen) = (testing::study(), testing::frozen(&[]));
        let initial = Derived::initial(&frozen);
        let sums = [10, 20, 30, 5 << 20, 9 << 20];
        let secret = Digest::of(b"opening secret");
        let state = initial.apply(&study, &sums, &secret).unwrap();
        let mut other = sums;
        other[3] += 1;
        assert_ne!(
            initial.apply(&study, &other, &secret).unwrap().digest(),
            state.digest()
        );
        assert!(matches!(
            initial.trained(&study, None),
            Err(DeriveError::Missing(_))
        ));
        assert!(matches!(
            initial.preprocessor(&study),
            Err(DeriveError::Missing(_))
        ));
        assert!(initial.apply(&study, &sums[1..], &secret).is_err());
    }

    #[test]
    fn no_error_text_holds_a_value() {
        let error = ValuesError::Codec(CodecError::Column {
            row: 1,
            column: "age".into(),
            value: 777.0,
            min: 0.0,
            max: 1.0,
        });
        assert!(!error.to_string().contains("777"));
    }
}
