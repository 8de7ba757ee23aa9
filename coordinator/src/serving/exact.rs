//! Quantised models, evaluated exactly under TFHE: their programs, and the key that was expanded last.

use super::registry::Compiled;
use galen_core::{Code, Digest, Refusal};
use galen_exact::{
    EvaluationKey, Interface, Kind, ParameterSet, Program, Reveal, RunError, ServingKey, peek,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The program that computes one thing that may be revealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExactProgram {
    /// What it reveals.
    pub reveal: Reveal,
    /// Names it in queries.
    pub program: Digest,
    /// Name of the parameter set.
    pub parameters: String,
    /// Bytes of a query beside its patients.
    pub header_bytes: u64,
    /// Bytes of a query for each patient.
    pub patient_bytes: u64,
}

impl ExactProgram {
    /// The patients of a query of this length, if there is one.
    pub(super) fn patients(&self, bytes: u64) -> Option<u64> {
        let patients = bytes.checked_sub(self.header_bytes)?;
        (self.patient_bytes > 0 && patients.is_multiple_of(self.patient_bytes))
            .then(|| patients / self.patient_bytes)
    }
}

/// Compiles what an interface offers.
pub(super) fn compiled(interface: &[u8]) -> Result<Compiled, String> {
    let interface = Interface::from_bytes(interface).map_err(|e| e.to_string())?;
    let programs = interface.reveals().iter().map(|&reveal| {
        let program = interface.program(reveal).map_err(|e| e.to_string())?;
        let plan = program.plan();
        Ok(ExactProgram {
            reveal,
            program: program.digest(),
            parameters: plan.parameters.clone(),
            header_bytes: plan.query_header_bytes as u64,
            patient_bytes: plan.query_bytes_per_patient as u64,
        })
    });
    Ok(Compiled::Tfhe {
        programs: programs.collect::<Result<_, String>>()?,
        patients: interface.max_patients() as u64,
    })
}

/// The program that a query says it was made for.
pub(super) fn program_of(query: &[u8]) -> Option<Digest> {
    Some(peek(Kind::Query, query).ok()?.0)
}

/// Reads a serving key of the exact engine; returns the name of its parameter set. `None` if the bytes are none.
pub(super) fn check_key(bytes: &[u8]) -> Option<Result<String, String>> {
    let (set, _) = peek(Kind::ServingKey, bytes).ok()?;
    let Some(set) = ParameterSet::of_digest(&set) else {
        return Some(Err("it is of no parameter set of this program".into()));
    };
    let read = ServingKey::from_bytes(&set, bytes);
    Some(match read {
        Ok(_) => Ok(set.name().to_owned()),
        Err(error) => Err(error.to_string()),
    })
}

/// A quantised model ready to run.
pub(super) struct Exact(Vec<Program>);

impl Exact {
    /// Of an interface, which was checked when it was registered.
    pub(super) fn new(interface: &[u8]) -> Result<Self, String> {
        let interface = Interface::from_bytes(interface).map_err(|e| e.to_string())?;
        let programs = interface.reveals().iter();
        let programs = programs.map(|&reveal| interface.program(reveal).map_err(|e| e.to_string()));
        Ok(Self(programs.collect::<Result<_, String>>()?))
    }

    /// Evaluates a query. `progress` gets bootstraps done and in all, and says whether to go on.
    pub(super) fn evaluate(
        &self,
        expanded: &mut Expanded,
        (name, key): (&Digest, &[u8]),
        query: &[u8],
        progress: &(dyn Fn(u32, u32) -> bool + Sync),
    ) -> Result<Vec<u8>, Refusal> {
        let asked = program_of(query);
        let program = self.0.iter().find(|program| Some(program.digest()) == asked);
        let program = program
            .ok_or_else(|| Refusal::new(Code::BadQuery, "the query is of another version of the model"))?;
        let key = expanded.key(name, key, program.parameters())?;
        let count = |steps: usize| u32::try_from(steps).unwrap_or(u32::MAX);
        let answer = program.answer(&key, query, &|done, all| progress(count(done), count(all)));
        answer.map_err(|error| match error {
            RunError::Random(error) => Refusal::new(Code::EvaluationFailed, error.to_string()),
            RunError::Cancelled => Refusal::new(Code::EvaluationFailed, "the query was taken back"),
            error => Refusal::new(Code::BadQuery, error.to_string()),
        })
    }
}

/// The key that was expanded last: expanding takes a second, and a few hundred MiB.
#[derive(Default)]
pub(super) struct Expanded(Option<(Digest, Arc<EvaluationKey>)>);

impl Expanded {
    fn key(
        &mut self,
        name: &Digest,
        bytes: &[u8],
        set: &ParameterSet,
    ) -> Result<Arc<EvaluationKey>, Refusal> {
        if let Some((known, key)) = &self.0
            && known == name
        {
            return Ok(Arc::clone(key));
        }
        // First, so that never two are held.
        self.0 = None;
        let key = ServingKey::from_bytes(set, bytes);
        let key = key.map_err(|error| Refusal::new(Code::BadQuery, error.to_string()))?;
        let key = Arc::new(key.expand());
        self.0 = Some((*name, Arc::clone(&key)));
        Ok(key)
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use galen_exact::{Forest, Node};
    use galen_models::{Shape, Subject};

    /// A tree of two features and one question.
    pub(in crate::serving) fn interface() -> Interface {
        let tree = Node::Split {
            feature: 1,
            threshold: 0.25,
            below: Box::new(Node::Leaf(-1.0)),
            from: Box::new(Node::Leaf(2.0)),
        };
        let forest = Forest::new(2, 1, 0.0, vec![tree]).unwrap();
        let subject = Subject {
            model: Digest::of(b"tree"),
            title: String::new(),
            classes: Vec::new(),
            input: Shape::Features(2),
            standardisation: None,
        };
        Interface::new(subject, forest.quantise(8).unwrap(), vec![Reveal::Label], 3).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use galen_exact::Querier;

    #[test]
    fn a_query_is_evaluated_by_the_program_that_it_names_and_stops_when_told() {
        let interface = testing::interface();
        let bytes = interface.to_bytes().unwrap();
        let Compiled::Tfhe { programs, patients } = compiled(&bytes).unwrap() else {
            panic!("another engine")
        };
        let program = Arc::new(interface.program(Reveal::Label).unwrap());
        assert_eq!((programs[0].program, patients), (program.digest(), 3));
        let querier = Querier::generate(&program).unwrap();
        let key = querier.serving_key().to_bytes();
        assert_eq!(check_key(&key).unwrap().unwrap(), programs[0].parameters);
        assert!(check_key(&key[..key.len() - 1]).unwrap().is_err());
        assert!(check_key(b"none").is_none());

        let rows = interface.quantised().encode(&[[0.0, 0.5], [0.0, 0.0]]).unwrap();
        let query = querier.encrypt(&rows).unwrap().to_bytes();
        assert_eq!(programs[0].patients(query.len() as u64), Some(2));
        assert_eq!(programs[0].patients(query.len() as u64 + 1), None);
        assert_eq!(programs[0].patients(3), None);
        let exact = Exact::new(&bytes).unwrap();
        let (mut expanded, name) = (Expanded::default(), Digest::of(&key));
        let mut evaluate = |query: &[u8], go: bool| {
            exact.evaluate(&mut expanded, (&name, key.as_slice()), query, &|_, _| go)
        };
        let answer = evaluate(&query, true).unwrap();
        assert_eq!(querier.decrypt(&answer, 2).unwrap(), [[1], [0]]);
        assert_eq!(evaluate(&query, false).unwrap_err().code, Code::EvaluationFailed);
        let mut other = query.clone();
        other[7] ^= 1;
        for wrong in [other.as_slice(), &query[..query.len() - 1], b"none"] {
            assert_eq!(evaluate(wrong, true).unwrap_err().code, Code::BadQuery);
        }
    }
}
