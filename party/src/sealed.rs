//! Results on disk: the derived state and every opened sum, each a sealed file that replaces its predecessor in one step.
//!
//! They lie beside the database, not in it, so that `party query`, `party opened` and `party model export` can read them while
//! the daemon has the database locked.

use crate::derive::Derived;
use crate::error::PartyError;
use crate::home::{self, Home};
use galen_core::study::Purpose;
use galen_core::{Digest, PartyId, StudyDigest};
use galen_models::Personal;
use galen_store::{Crypter, Files, Store};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The sum of a round, as every receiver opens it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenedSum {
    /// The round.
    pub round: u32,
    /// The attempt that was opened.
    pub attempt: u32,
    /// What it is for.
    pub purpose: Purpose,
    /// Whose values it adds up.
    pub contributors: Vec<PartyId>,
    /// Digest of the sum blob.
    pub sum: Digest,
    /// Digest of the state that follows from it.
    pub result: Digest,
    /// Largest remainder met when opening.
    pub max_noise: u64,
    /// Largest remainder that would have been accepted.
    pub noise_bound: u64,
    /// Contributors whose fingerprint could not be checked when this party opened the sum: they were gone, and the coordinator had deleted
    /// what they sent.
    pub unchecked: BTreeSet<PartyId>,
    /// The sums.
    pub values: Vec<i64>,
}

/// How sums were encrypted in the study's rounds, as the records said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SumSecurity {
    /// Ring degree.
    pub n: u32,
    /// log2 of the largest modulus of all rounds.
    pub log2_q: f64,
    /// The largest that 128-bit security allows at this degree.
    pub bound: u32,
    /// Pieces of each one-round key.
    pub pieces: u32,
    /// Custodians.
    pub custodians: u32,
    /// Custodians that can open together.
    pub threshold: u32,
    /// Custodians that must endorse a set.
    pub agreement: u32,
}

/// The derived state with what belongs to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Which study it belongs to.
    pub study: StudyDigest,
    /// The state.
    pub derived: Derived,
    /// How the sums were encrypted; `None` before the first one.
    pub security: Option<SumSecurity>,
    /// What this hospital keeps to itself; `None` before its first round, and where everything is shared.
    pub personal: Option<Personal>,
}

/// Private parameters as they were trained for a round whose sum is not opened yet: they count when it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Pending {
    study: StudyDigest,
    round: u32,
    private: Vec<f64>,
}

/// The folder of sealed files.
#[derive(Clone, Debug)]
pub struct Sealed {
    files: Files,
    folder: PathBuf,
    crypter: Crypter,
}

const STATE: &str = "state";
const PENDING: &str = "private";

fn sum_name(round: u32) -> String {
    format!("sum-{round:05}")
}

impl Sealed {
    /// Opens the folder, making it if there is none. The storage key must exist: opening the store makes it.
    pub fn open(home: &Home) -> Result<Self, PartyError> {
        let key = home.store().join("storage.key");
        if !key.exists() {
            return Err(PartyError::NotYet(
                "nothing has been opened yet: `party serve` has not run on this folder".into(),
            ));
        }
        home::make_private(&home.shared())?;
        Ok(Self {
            files: Files::folder(),
            folder: home.shared(),
            crypter: Crypter::load(&key)?,
        })
    }

    /// Opens a folder among a store's own files, sealed under the same storage key.
    pub fn beside(store: &Store, folder: PathBuf) -> Self {
        Self {
            files: store.files().clone(),
            folder,
            crypter: store.crypter().clone(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name).with_extension("sealed")
    }

    fn write<T: Serialize>(&self, name: &str, value: &T) -> Result<(), PartyError> {
        let content = zeroize::Zeroizing::new(postcard::to_stdvec(value).map_err(PartyError::internal)?);
        let sealed = self.crypter.seal_file(name, &content)?;
        Ok(self.files.write(&self.path(name), &sealed)?)
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, PartyError> {
        let path = self.path(name);
        let Some(sealed) = self.files.find(&path)? else {
            return Ok(None);
        };
        let broken =
            |path: &Path| PartyError::home(path, "was changed, or is sealed under another storage key");
        let content = self
            .crypter
            .open_file(name, &sealed)?
            .ok_or_else(|| broken(&path))?;
        let (value, rest) = postcard::take_from_bytes(&content).map_err(|_| broken(&path))?;
        if rest.is_empty() {
            Ok(Some(value))
        } else {
            Err(broken(&path))
        }
    }

    /// Writes the sum of a round. Durable when this returns.
    pub fn put_sum(&self, sum: &OpenedSum) -> Result<(), PartyError> {
        self.write(&sum_name(sum.round), sum)
    }

    /// Writes the derived state. Durable when this returns; until then the former one stands.
    pub fn put_state(&self, state: &State) -> Result<(), PartyError> {
        self.write(STATE, state)
    }

    /// Keeps private parameters as they were trained for a round, in the place of those for another. Durable when this returns.
    pub fn put_private(&self, study: &StudyDigest, round: u32, private: Vec<f64>) -> Result<(), PartyError> {
        let study = *study;
        let pending = Pending {
            study,
            round,
            private,
        };
        self.write(PENDING, &pending)
    }

    /// The private parameters that were trained for a round, if they are those kept last.
    pub fn private(&self, study: &StudyDigest, round: u32) -> Result<Option<Vec<f64>>, PartyError> {
        let pending: Option<Pending> = self.read(PENDING)?;
        let pending = pending.filter(|pending| (pending.study, pending.round) == (*study, round));
        Ok(pending.map(|pending| pending.private))
    }

    /// The derived state, if there is one for this study.
    pub fn state(&self, study: &StudyDigest) -> Result<Option<State>, PartyError> {
        let Some(state) = self.any_state()? else {
            return Ok(None);
        };
        if state.study == *study {
            Ok(Some(state))
        } else {
            Err(PartyError::home(
                self.path(STATE),
                "belongs to another study; use a folder per study",
            ))
        }
    }

    /// The opened sums of the rounds before `rounds`. Those before `first` may be missing: a party that joined has not opened them.
    pub fn sums(&self, first: u32, rounds: u32) -> Result<Vec<OpenedSum>, PartyError> {
        let sum = |round| match self.read(&sum_name(round)) {
            Ok(None) if round >= first => {
                Some(Err(PartyError::home(self.path(&sum_name(round)), "is missing")))
            }
            read => read.transpose(),
        };
        (0..rounds).filter_map(sum).collect()
    }

    /// Removes the derived state, if there is one. Durable when this returns.
    pub fn remove_state(&self) -> Result<(), PartyError> {
        home::remove_durably(&self.path(STATE))
    }

    /// The derived state, whatever study it belongs to.
    pub fn any_state(&self) -> Result<Option<State>, PartyError> {
        self.read(STATE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn sum(round: u32) -> OpenedSum {
        OpenedSum {
            round,
            attempt: 1,
            purpose: Purpose::Statistics,
            contributors: vec![testing::name("a")],
            sum: Digest::of(b"s"),
            result: Digest::of(b"r"),
            max_noise: 3,
            noise_bound: 9,
            unchecked: BTreeSet::new(),
            values: vec![-1, 5],
        }
    }

    #[test]
    fn state_and_sums_come_back_only_whole_and_for_their_study() {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::create(temp.path()).unwrap();
        assert!(matches!(Sealed::open(&home), Err(PartyError::NotYet(_))));
        let _store = Store::open(&home.store()).unwrap();
        let sealed = Sealed::open(&home).unwrap();
        let study = testing::frozen(&[]);
        assert_eq!(sealed.state(&study.digest()).unwrap(), None);
        let state = State {
            study: study.digest(),
            derived: Derived::initial(&study),
            security: None,
            personal: Some(Personal {
                params: vec![0.5],
                teacher: None,
            }),
        };
        sealed.put_state(&state).unwrap();
        assert_eq!(sealed.state(&study.digest()).unwrap(), Some(state));
        assert!(sealed.state(&Digest::of(b"other")).is_err());
        sealed.put_private(&study.digest(), 3, vec![1.5]).unwrap();
        assert_eq!(sealed.private(&study.digest(), 3).unwrap(), Some(vec![1.5]));
        assert_eq!(sealed.private(&study.digest(), 2).unwrap(), None);
        assert_eq!(sealed.private(&Digest::of(b"other"), 3).unwrap(), None);
        sealed.put_sum(&sum(0)).unwrap();
        sealed.put_sum(&sum(1)).unwrap();
        assert_eq!(sealed.sums(0, 2).unwrap(), [sum(0), sum(1)]);
        let error = sealed.sums(0, 3).unwrap_err().to_string();
        assert!(error.contains("sum-00002"), "{error}");
        // One file cannot take another's place.
        std::fs::copy(sealed.path("sum-00000"), sealed.path("sum-00001")).unwrap();
        assert!(sealed.sums(0, 2).is_err());
        // Who joined has no older ones.
        std::fs::remove_file(sealed.path("sum-00000")).unwrap();
        sealed.put_sum(&sum(1)).unwrap();
        assert_eq!(sealed.sums(1, 2).unwrap(), [sum(1)]);
        assert!(sealed.sums(0, 2).is_err());
        sealed.remove_state().unwrap();
        assert_eq!(sealed.any_state().unwrap(), None);
    }
}
