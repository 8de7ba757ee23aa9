//! Shared by the tests: one key per parameter set, since making one takes a second.
#![allow(dead_code, reason = "each test uses a part")]

use galen_exact::{ClientKey, EvaluationKey, ParameterSet, Program, Querier};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

type Keys = HashMap<&'static str, (ClientKey, Arc<EvaluationKey>)>;

/// The secret key of a set and its evaluation key, which went through bytes.
pub(crate) fn keys(set: &ParameterSet) -> (ClientKey, Arc<EvaluationKey>) {
    static KEYS: OnceLock<Mutex<Keys>> = OnceLock::new();
    let mut all = KEYS.get_or_init(Mutex::default).lock().unwrap();
    let make = || {
        let client = ClientKey::generate(set).unwrap();
        let bytes = client.serving_key().to_bytes();
        let serving = galen_exact::ServingKey::from_bytes(set, &bytes).unwrap();
        (client, Arc::new(serving.expand()))
    };
    all.entry(set.name()).or_insert_with(make).clone()
}

/// Encrypts, evaluates and decrypts rows of circuit inputs, all through bytes.
pub(crate) fn evaluate(program: &Arc<Program>, rows: &[Vec<i64>]) -> Vec<Vec<i64>> {
    let (client, evaluation) = keys(program.parameters());
    let querier = Querier::open(program, client).unwrap();
    let query = querier.encrypt(rows).unwrap().to_bytes();
    let plan = program.plan();
    assert_eq!(
        query.len(),
        plan.query_header_bytes + rows.len() * plan.query_bytes_per_patient
    );
    let answer = program.answer(&evaluation, &query, &|_, _| true).unwrap();
    querier.decrypt(&answer, rows.len()).unwrap()
}

/// Integers from 0 to below `bound`, the same in every run.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> i64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        ((self.0 >> 33) % bound) as i64
    }
}
