//! What a querier needs in order to ask a quantised model, and all that the coordinator needs in order to evaluate it.
//!
//! An interface is a JSON document: the [`Subject`], what may be revealed, the most patients of a query, and the quantised model. Unlike a
//! network under CKKS, a quantised model is known to both sides, since both compile it; what an answer reveals is all that a querier
//! learns beyond. Whoever reads an interface takes it from somebody who may lie: every range is derived anew, parameters are those of the
//! program's own list, and sizes are bounded.

use crate::codec::MAX_PATIENTS;
use crate::file::{FileError, MAX_FILE_BYTES, Written};
use crate::program::Program;
use crate::quantised::{Quantised, QuantisedError};
use crate::reveal::{Reveal, RevealError};
use galen_models::{Subject, SubjectError};
use serde::{Deserialize, Serialize};

/// Version of the document.
const FORMAT: u32 = 1;

/// What a querier needs to know of a quantised model, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Interface {
    subject: Subject,
    reveals: Vec<Reveal>,
    patients: usize,
    quantised: Quantised,
}

/// An interface that must not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InterfaceError {
    /// More bytes than any interface has.
    #[error("the interface has {0} bytes, at most {MAX_FILE_BYTES} are read")]
    TooLong(usize),
    /// Not an interface.
    #[error("this is no exact model (line {line}, column {column}): {detail}")]
    Malformed {
        /// Line of the document, from 1.
        line: usize,
        /// Column of the document.
        column: usize,
        /// What the reader says.
        detail: String,
    },
    /// Another version of the document.
    #[error("an exact model of version {0}; this program reads version {FORMAT}: update it")]
    Version(u32),
    /// What the model is about.
    #[error(transparent)]
    Subject(#[from] SubjectError),
    /// Inputs of another number than the subject says.
    #[error("subject.input: {subject} values, the model has {features} features")]
    Inputs {
        /// Values of the subject.
        subject: usize,
        /// Features of the model.
        features: usize,
    },
    /// Nothing is revealed, or the same twice.
    #[error("reveals: name each of scores, label and decision at most once, and at least one")]
    Reveals,
    /// No patients in a query, or more than any query takes.
    #[error("patients: {0}, a query takes 1 to {MAX_PATIENTS}")]
    Patients(usize),
    /// What is to be revealed does not fit the model.
    #[error(transparent)]
    Reveal(#[from] RevealError),
    /// The model.
    #[error(transparent)]
    Model(#[from] FileError),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    galen_exact: u32,
    subject: Subject,
    reveals: Vec<Reveal>,
    patients: usize,
    model: Written,
}

/// Only the version of a document.
#[derive(Deserialize)]
struct Version {
    galen_exact: u32,
}

impl Interface {
    /// Of a model that reveals one of `reveals`, to queries of at most `patients` patients.
    pub fn new(
        subject: Subject,
        quantised: Quantised,
        reveals: Vec<Reveal>,
        patients: usize,
    ) -> Result<Self, InterfaceError> {
        subject.check(quantised.scores())?;
        let features = quantised.encoder().features().len();
        if subject.input.len() != features {
            let subject = subject.input.len();
            return Err(InterfaceError::Inputs { subject, features });
        }
        let mut names: Vec<&str> = reveals.iter().map(|reveal| reveal.name()).collect();
        names.sort_unstable();
        names.dedup();
        if names.is_empty() || names.len() != reveals.len() {
            return Err(InterfaceError::Reveals);
        }
        if !(1..=MAX_PATIENTS).contains(&patients) {
            return Err(InterfaceError::Patients(patients));
        }
        for &reveal in &reveals {
            quantised.circuit(reveal)?;
        }
        Ok(Self {
            subject,
            reveals,
            patients,
            quantised,
        })
    }

    /// The same model with other answers and queries.
    ///
    /// # Errors
    /// Those of [`Interface::new`].
    pub fn offering(self, reveals: Vec<Reveal>, patients: usize) -> Result<Self, InterfaceError> {
        Self::new(self.subject, self.quantised, reveals, patients)
    }

    /// As bytes: JSON. Their digest names the version of the model.
    pub fn to_bytes(&self) -> Result<Vec<u8>, InterfaceError> {
        let document = Document {
            galen_exact: FORMAT,
            subject: self.subject.clone(),
            reveals: self.reveals.clone(),
            patients: self.patients,
            model: self.quantised.written(),
        };
        serde_json::to_vec(&document).map_err(malformed)
    }

    /// From bytes. Refuses whatever could do a querier or the coordinator harm, and says what.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InterfaceError> {
        if bytes.len() > MAX_FILE_BYTES {
            return Err(InterfaceError::TooLong(bytes.len()));
        }
        let version: Version = serde_json::from_slice(bytes).map_err(malformed)?;
        if version.galen_exact != FORMAT {
            return Err(InterfaceError::Version(version.galen_exact));
        }
        let document: Document = serde_json::from_slice(bytes).map_err(malformed)?;
        let quantised = Quantised::read(document.model)?;
        Self::new(document.subject, quantised, document.reveals, document.patients)
    }

    /// What the model predicts from what.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// What an answer may reveal, the usual first.
    pub fn reveals(&self) -> &[Reveal] {
        &self.reveals
    }

    /// Patients of a query, at most.
    pub fn max_patients(&self) -> usize {
        self.patients
    }

    /// The model.
    pub fn quantised(&self) -> &Quantised {
        &self.quantised
    }

    /// The program that computes what is to be revealed, the same for everybody.
    pub fn program(&self, reveal: Reveal) -> Result<Program, QuantisedError> {
        self.quantised.program(reveal)
    }
}

fn malformed(error: serde_json::Error) -> InterfaceError {
    InterfaceError::Malformed {
        line: error.line(),
        column: error.column(),
        detail: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trees::{Forest, Node};
    use galen_core::Digest;
    use galen_models::Shape;
    use serde_json::{Value, json};

    fn interface() -> Interface {
        let tree = Node::Split {
            feature: 1,
            threshold: 0.25,
            below: Box::new(Node::Leaf(-1.0)),
            from: Box::new(Node::Leaf(2.0)),
        };
        let quantised = Forest::new(2, 1, 0.0, vec![tree]).unwrap().quantise(8).unwrap();
        let subject = Subject {
            model: Digest::of(b"tree"),
            title: "illness".into(),
            classes: vec!["well".into(), "ill".into()],
            input: Shape::Features(2),
            standardisation: None,
        };
        let reveals = vec![Reveal::Label, Reveal::Decision { threshold: 3 }, Reveal::Scores];
        Interface::new(subject, quantised, reveals, 64).unwrap()
    }

    #[test]
    fn bytes_give_the_same_interface_and_programs() {
        let interface = interface();
        let bytes = interface.to_bytes().unwrap();
        let read = Interface::from_bytes(&bytes).unwrap();
        assert_eq!(read, interface);
        assert_eq!(read.to_bytes().unwrap(), bytes);
        for &reveal in interface.reveals() {
            let digest = |of: &Interface| of.program(reveal).unwrap().digest();
            assert_eq!(digest(&read), digest(&interface));
        }
        let narrow = interface.offering(vec![Reveal::Label], 7).unwrap();
        assert_eq!(
            (narrow.reveals(), narrow.max_patients()),
            (&[Reveal::Label][..], 7)
        );
    }

    /// Whatever somebody may say that is not so.
    #[test]
    fn a_false_interface_is_refused() {
        let good: Value = serde_json::from_slice(&interface().to_bytes().unwrap()).unwrap();
        let cases = [
            ("/galen_exact", json!(2)),
            ("/subject/input", json!(3)),
            ("/subject/classes", json!(["a"])),
            ("/subject/title", json!("a\u{7}b")),
            ("/reveals", json!([])),
            ("/reveals", json!(["label", "label"])),
            ("/reveals", json!(["weights"])),
            (
                "/reveals",
                json!([{"decision": {"threshold": 1}}, {"decision": {"threshold": 2}}]),
            ),
            ("/patients", json!(0)),
            ("/patients", json!(4097)),
            ("/model/scale", json!(0.0)),
            ("/model/inputs", json!([[0, 9]])),
            ("/model/format", json!("galen exact model v9")),
        ];
        for (place, value) in cases {
            let mut changed = good.clone();
            *changed.pointer_mut(place).unwrap() = value.clone();
            let bytes = serde_json::to_vec(&changed).unwrap();
            assert!(
                Interface::from_bytes(&bytes).is_err(),
                "{place} = {value} was taken"
            );
        }
        let mut more = good.clone();
        more["weights"] = json!([1.0]);
        assert!(Interface::from_bytes(&serde_json::to_vec(&more).unwrap()).is_err());
        let bytes = serde_json::to_vec(&good).unwrap();
        for end in 0..bytes.len() {
            assert!(Interface::from_bytes(&bytes[..end]).is_err());
        }
        let long = vec![b' '; MAX_FILE_BYTES + 1];
        assert!(matches!(
            Interface::from_bytes(&long),
            Err(InterfaceError::TooLong(_))
        ));
    }

    #[test]
    fn a_decision_of_many_classes_is_refused() {
        let split = |value| Node::Leaf(value);
        let trees = vec![split(0.0), split(1.0), split(2.0)];
        let quantised = Forest::new(1, 3, 0.0, trees).unwrap().quantise(8).unwrap();
        let subject = Subject {
            classes: Vec::new(),
            input: Shape::Features(1),
            ..interface().subject
        };
        let decision = vec![Reveal::Decision { threshold: 0 }];
        let refused = Interface::new(subject, quantised, decision, 1);
        assert!(matches!(refused, Err(InterfaceError::Reveal(_))));
    }
}
