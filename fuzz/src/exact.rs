//! What both sides read of the exact engine: models, trees, keys, queries and answers. The key follows from a constant, so that a corpus stays
//! valid.

use galen_exact::{
    ClientKey, Forest, Interface, Kind, Node, ParameterSet, Program, Querier, Query, Reveal, ServingKey, peek,
};
use galen_models::{Shape, Subject};
use std::sync::{Arc, LazyLock};

/// A model of one question with a querier.
pub struct Service {
    pub interface: Interface,
    pub program: Arc<Program>,
    pub querier: Querier,
}

/// Everything is as short as it can be.
pub static SERVICE: LazyLock<Service> = LazyLock::new(|| {
    let tree = Node::Split {
        feature: 0,
        threshold: 0.25,
        below: Box::new(Node::Leaf(-1.0)),
        from: Box::new(Node::Leaf(2.0)),
    };
    let forest = Forest::new(1, 1, 0.0, vec![tree]).unwrap();
    let subject = Subject {
        model: galen_core::Digest::of(b"tree"),
        title: "illness".into(),
        classes: vec!["well".into(), "ill".into()],
        input: Shape::Features(1),
        standardisation: None,
    };
    let interface = Interface::new(subject, forest.quantise(4).unwrap(), vec![Reveal::Label], 2).unwrap();
    let program = Arc::new(interface.program(Reveal::Label).unwrap());
    let key = ClientKey::from_secret_bytes(program.parameters(), &[7; 16]).unwrap();
    let querier = Querier::open(&program, key).unwrap();
    Service {
        interface,
        program,
        querier,
    }
});

/// An interface, a dump of trees, a key, a query or an answer: whatever is taken is like what its maker writes.
pub fn exact(data: &[u8]) {
    super::choose(&[interface, trees, key, query, answer], data);
}

fn interface(data: &[u8]) {
    if let Ok(read) = Interface::from_bytes(data) {
        let again = Interface::from_bytes(&read.to_bytes().unwrap()).unwrap();
        assert_eq!(again, read);
        // Whatever it says, any row of finite numbers stays within the ranges that the tables read.
        let features = read.quantised().encoder().features().len();
        for value in [-1e300, 0.0, 1e300] {
            let row = vec![value; features];
            let inputs = read.quantised().encode(&[&row]).unwrap();
            for &reveal in read.reveals() {
                read.quantised()
                    .circuit(reveal)
                    .unwrap()
                    .evaluate(&inputs[0])
                    .unwrap();
            }
        }
    }
}

fn trees(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(forest) = Forest::from_xgboost(text, &["age", "sex"], 1, 0.5)
        && let Ok(quantised) = forest.quantise(6)
    {
        for row in [[0.0, 0.0], [1e9, -1e9]] {
            quantised.evaluate(Reveal::Label, &row).unwrap();
        }
    }
}

fn key(data: &[u8]) {
    if let Ok((set, id)) = peek(Kind::ServingKey, data)
        && let Some(set) = ParameterSet::of_digest(&set)
        && let Ok(read) = ServingKey::from_bytes(&set, data)
    {
        assert_eq!(read.id(), id);
        assert_eq!(read.to_bytes(), data);
    }
}

fn query(data: &[u8]) {
    if let Ok(read) = Query::from_bytes(&SERVICE.program, data) {
        assert!(read.patients() > 0);
        assert_eq!(read.to_bytes(), data);
    }
}

fn answer(data: &[u8]) {
    if let Ok(rows) = SERVICE.querier.decrypt(data, 2) {
        assert!(rows.iter().flatten().all(|output| (0..=1).contains(output)));
    }
}
