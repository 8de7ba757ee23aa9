//! Malformed, truncated, oversized, foreign and outdated bytes are refused with the error that says so.
#![allow(clippy::unwrap_used, reason = "a failure is the test result")]

mod common;

use common::keys;
use galen_exact::{
    AnswerError, Circuit, ClientKey, CodecError, Interval, Kind, ParameterSet, Program, Querier, Query,
    QueryError, RunError, ServingKey, Sum, peek,
};
use std::sync::Arc;

fn program(weight: i64) -> Arc<Program> {
    let mut circuit = Circuit::new(vec![Interval::new(0, 3); 2]).unwrap();
    let sum = Sum {
        terms: vec![(0, weight), (1, 1)],
        constant: 0,
    };
    let bit = circuit.lookup(sum, 0, |v| i64::from(v >= 4)).unwrap();
    circuit.output(Sum::wire(bit)).unwrap();
    let set = ParameterSet::named("n796_N2048_l1").unwrap();
    Arc::new(Program::compile_under(circuit, &set).unwrap())
}

/// Every way in which bytes can be wrong, from their header on.
fn refusals(kind: Kind, good: &[u8], read: &dyn Fn(&[u8]) -> Result<(), CodecError>) {
    assert_eq!(read(good), Ok(()));
    for length in [0, 3, 5, 37, 69, 73, good.len() / 2, good.len() - 1] {
        assert!(read(&good[..length]).is_err(), "{kind:?} cut to {length} bytes");
    }
    let mut long = good.to_vec();
    long.push(0);
    assert!(matches!(read(&long), Err(CodecError::Length { .. })), "{kind:?}");
    let changed = |at: usize| {
        let mut bytes = good.to_vec();
        bytes[at] ^= 1;
        read(&bytes)
    };
    assert_eq!(changed(0), Err(CodecError::Kind { kind }));
    assert_eq!(changed(4), Err(CodecError::Version { kind, found: 0 }));
    assert!(matches!(changed(6), Err(CodecError::Foreign { .. })));
    assert!(matches!(changed(37), Err(CodecError::Foreign { .. })));
}

#[test]
fn serving_keys() {
    let set = ParameterSet::named("n796_N2048_l1").unwrap();
    let client = ClientKey::generate(&set).unwrap();
    let key = client.serving_key();
    let bytes = key.to_bytes();
    refusals(Kind::ServingKey, &bytes, &|bytes| {
        ServingKey::from_bytes(&set, bytes).map(drop)
    });
    assert_eq!(peek(Kind::ServingKey, &bytes), Ok((set.digest(), client.id())));
    // The same secret gives the same bytes, so that an upload can go on after a restart.
    let again = ClientKey::from_secret_bytes(&set, &client.secret_bytes()).unwrap();
    assert_eq!(again.id(), client.id());
    assert!(again.serving_key() == key);
    assert!(ClientKey::from_secret_bytes(&set, &[0; 15]).is_none());
    let other = ParameterSet::named("n866_N2048_l1").unwrap();
    let refused = ServingKey::from_bytes(&other, &bytes);
    assert!(matches!(
        refused,
        Err(CodecError::Foreign {
            kind: Kind::ServingKey,
            ..
        })
    ));
    assert!(Querier::open(&program(1), ClientKey::generate(&other).unwrap()).is_none());
}

#[test]
fn queries_and_answers() {
    let program = program(1);
    let (client, evaluation) = keys(program.parameters());
    let querier = Querier::open(&program, client).unwrap();
    let query = querier.encrypt(&[[3, 3], [0, 1]]).unwrap();
    let bytes = query.to_bytes();
    refusals(Kind::Query, &bytes, &|bytes| {
        Query::from_bytes(&program, bytes).map(drop)
    });
    let mut patients = bytes.clone();
    patients[70..74].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(
        Query::from_bytes(&program, &patients),
        Err(CodecError::Patients {
            found: u32::MAX as usize
        })
    );
    patients[70..74].copy_from_slice(&3u32.to_le_bytes());
    assert!(matches!(
        Query::from_bytes(&program, &patients),
        Err(CodecError::Length { .. })
    ));
    // Under another key.
    let stranger = Querier::generate(&program).unwrap();
    let foreign = stranger.encrypt(&[[3, 3]]).unwrap().to_bytes();
    let refused = program.answer(&evaluation, &foreign, &|_, _| true);
    assert!(matches!(refused, Err(RunError::ForeignKey { .. })));
    // For another version of the model.
    let newer = self::program(2);
    let refused = newer.answer(&evaluation, &bytes, &|_, _| true);
    assert!(matches!(
        refused,
        Err(RunError::Codec(CodecError::Foreign { .. }))
    ));
    let refused = newer.run(&evaluation, &query, &|_, _| true);
    assert!(matches!(
        refused,
        Err(RunError::Codec(CodecError::Foreign { .. }))
    ));

    let answer = program.answer(&evaluation, &bytes, &|_, _| true).unwrap();
    assert_eq!(querier.decrypt(&answer, 2), Ok(vec![vec![1], vec![0]]));
    // One error, whatever is wrong.
    assert_eq!(querier.decrypt(&answer, 1), Err(AnswerError));
    assert_eq!(querier.decrypt(&answer[1..], 2), Err(AnswerError));
    assert_eq!(querier.decrypt(&bytes, 2), Err(AnswerError));
    assert_eq!(stranger.decrypt(&answer, 2), Err(AnswerError));
    // A body moved by half the torus is outside the range of a bit.
    let mut moved = answer.clone();
    let last = moved.len() - 1;
    moved[last] ^= 0x80;
    assert_eq!(querier.decrypt(&moved, 2), Err(AnswerError));
}

#[test]
fn patients_outside_the_ranges_are_not_encrypted() {
    let program = program(1);
    let (client, _) = keys(program.parameters());
    let querier = Querier::open(&program, client).unwrap();
    let refused = querier.encrypt(&[[0, 0], [0, 4]]);
    assert!(matches!(
        refused,
        Err(QueryError::OutOfRange {
            patient: 1,
            input: 1,
            value: 4,
            ..
        })
    ));
    let refused = querier.encrypt(&[vec![0]]);
    assert!(matches!(
        refused,
        Err(QueryError::Width {
            patient: 0,
            expected: 2,
            found: 1
        })
    ));
    let none: [[i64; 2]; 0] = [];
    assert!(matches!(
        querier.encrypt(&none),
        Err(QueryError::Patients { patients: 0 })
    ));
}
