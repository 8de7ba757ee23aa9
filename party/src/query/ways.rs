//! Which of two ways a model is asked in: a patient in every slot, or all values of some patients in one ciphertext.

use super::ask::ModelQuestion;
use super::engine::Known;
use super::journal::Journal;
use super::keys::Keys;
use crate::error::PartyError;
use galen_core::{Digest, PartyId};
use galen_inference::{Expense, LINE_BITS};
use galen_net::protocol::Offer;
use galen_store::Store;
use serde::Serialize;
use std::path::PathBuf;

/// How batches under CKKS are to be packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Packing {
    /// Whatever is faster for the number of patients
    #[default]
    Auto,
    /// A ciphertext for every input, a patient in every slot: for many patients
    Slots,
    /// All values of some patients in one ciphertext: for few
    Packed,
}

impl Packing {
    /// Whether an offer is of this way. There is nothing to pack under TFHE.
    pub(super) fn allows(self, offer: &Offer) -> bool {
        match self {
            Self::Auto => true,
            Self::Slots => !offer.packed,
            Self::Packed => offer.packed,
        }
    }
}

/// What asking in one way takes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Way {
    /// The version.
    pub version: Digest,
    /// Whether all values of some patients are packed into one ciphertext.
    pub packed: bool,
    /// Name of the keys.
    pub keys: String,
    /// Patients of a batch, at most.
    pub max_patients: usize,
    /// Batches for these patients.
    pub batches: usize,
    /// Bytes of all batches.
    pub upload_bytes: u64,
    /// Bytes of all answers.
    pub download_bytes: u64,
    /// Bytes of the key, and whether one is there that was made before.
    pub key_bytes: u64,
    /// See there.
    pub key_known: bool,
    /// Memory for a batch here, about, in bytes.
    pub memory_bytes: u64,
    /// Seconds that the evaluation of all batches is said to take at the coordinator.
    pub evaluation_seconds: f64,
    /// Seconds in all: with batches, answers, and the key if it was not made before, on a line of 100 Mbit/s.
    pub seconds: f64,
    /// Whether it is the one that is taken.
    pub taken: bool,
}

/// What is known of the ways, and why one of them is taken.
pub(super) struct Decision {
    pub(super) ways: Vec<Way>,
    pub(super) taken: usize,
    pub(super) why: String,
}

/// What decides beside the figures.
pub(super) struct Circumstances {
    pub(super) folder: PathBuf,
    pub(super) own: PartyId,
    /// Digest of the patients, and their number.
    pub(super) patients: (Digest, usize),
    pub(super) new_key: bool,
    pub(super) wanted: Packing,
}

impl Circumstances {
    pub(super) fn new(
        question: &ModelQuestion,
        folder: PathBuf,
        own: PartyId,
        patients: (Digest, usize),
    ) -> Self {
        Self {
            folder,
            own,
            patients,
            new_key: question.new_key,
            wanted: question.packing,
        }
    }

    /// Decides; a query that was begun in one way goes on in that way. Blocks.
    pub(super) fn decide(&self, offered: &[(Offer, Known)]) -> Result<Decision, PartyError> {
        let store = Store::open(&self.folder)?;
        let keys = Keys::open(&store)?;
        let unfinished = Journal::open(&store, &self.own)?.all()?;
        let (digest, patients) = self.patients;
        let mut ways = Vec::new();
        for (offer, known) in offered {
            let key_known = !self.new_key && keys.is_usable(&known.key_set())?;
            ways.push(way(offer, known, patients, key_known));
        }
        let begun = offered.iter().position(|(offer, known)| {
            let question = known.question(digest);
            unfinished
                .iter()
                .any(|(_, q)| q.model == offer.version && q.patients == question)
        });
        let (taken, why) = taken(&ways, begun, self.wanted);
        if let Some(way) = ways.get_mut(taken) {
            way.taken = true;
        }
        Ok(Decision { ways, taken, why })
    }
}

fn way(offer: &Offer, known: &Known, patients: usize, key_known: bool) -> Way {
    let most = known.max_patients();
    let batches = patients.div_ceil(most);
    let sizes = || {
        (0..patients)
            .step_by(most)
            .map(|first| (patients - first).min(most))
    };
    let key_bytes = known.key_bytes();
    let evaluation_seconds = known.evaluation_seconds(offer.batch_ms, patients);
    let seconds = match known {
        Known::Ckks(interface) => {
            let expense = Expense::of_interface(interface, offer.batch_ms as f64 / 1000.0);
            expense.seconds(patients, if key_known { 0 } else { key_bytes })
        }
        Known::Tfhe(_) => evaluation_seconds,
    };
    Way {
        version: offer.version,
        packed: offer.packed,
        keys: known.key_set(),
        max_patients: most,
        batches,
        upload_bytes: sizes().map(|size| known.batch_bytes(size)).sum(),
        download_bytes: sizes().map(|size| known.answer_bytes(size)).sum(),
        key_bytes,
        key_known,
        memory_bytes: known.memory_bytes(),
        evaluation_seconds,
        seconds,
        taken: false,
    }
}

/// The index of the way that is taken, and why; equal ones are taken in their order.
fn taken(ways: &[Way], begun: Option<usize>, wanted: Packing) -> (usize, String) {
    let name = |way: &Way| if way.packed { "packed" } else { "slots" };
    if let Some((index, way)) = begun.and_then(|index| Some((index, ways.get(index)?))) {
        return (index, format!("{}: the query was begun in this way", name(way)));
    }
    let fastest = ways
        .iter()
        .enumerate()
        .min_by(|(_, a), (_, b)| a.seconds.total_cmp(&b.seconds));
    let (index, way) = match fastest {
        Some(found) => found,
        None => return (0, String::new()),
    };
    let other = ways.iter().find(|other| other.packed != way.packed);
    let why = match (other, wanted) {
        (Some(other), _) => format!(
            "{}: about {:.2} s in all, {} would take {:.2} s (evaluation, and traffic at {:.0} Mbit/s, with the key where it was not made before)",
            name(way),
            way.seconds,
            name(other),
            other.seconds,
            LINE_BITS / 1e6
        ),
        (None, Packing::Auto) => format!("{}: the only way that is offered", name(way)),
        (None, _) => format!("{}: as asked for", name(way)),
    };
    (index, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(packed: bool, seconds: f64) -> Way {
        Way {
            version: Digest([u8::from(packed); 32]),
            packed,
            keys: String::new(),
            max_patients: 1,
            batches: 1,
            upload_bytes: 1,
            download_bytes: 1,
            key_bytes: 1,
            key_known: false,
            memory_bytes: 1,
            evaluation_seconds: seconds,
            seconds,
            taken: false,
        }
    }

    #[test]
    fn the_faster_way_is_taken_unless_another_was_begun_or_asked_for() {
        let ways = [example(false, 3.0), example(true, 0.5)];
        let (index, why) = taken(&ways, None, Packing::Auto);
        assert_eq!(index, 1);
        assert!(why.contains("0.50 s") && why.contains("3.00 s"), "{why}");
        assert_eq!(
            taken(&[example(false, 0.4), example(true, 0.5)], None, Packing::Auto).0,
            0
        );
        assert_eq!(
            taken(&[example(false, 0.5), example(true, 0.5)], None, Packing::Auto).0,
            0
        );
        let (index, why) = taken(&ways, Some(0), Packing::Auto);
        assert_eq!(index, 0);
        assert!(why.contains("begun"), "{why}");
        assert!(taken(&ways[..1], None, Packing::Auto).1.contains("only way"));
        assert!(taken(&ways[..1], None, Packing::Slots).1.contains("asked for"));
    }
}
