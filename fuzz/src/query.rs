//! What the coordinator reads of a query, and what a querier reads of an answer and of an interface. The keys follow from a constant, so that
//! a corpus stays valid.

use galen_ckks::context::Context;
use galen_coordinator::serving::check_key;
use galen_inference::{Interface, Program, Querier, ServingKey};
use galen_models::{Model, ModelFile, ModelSpec, Range};
use std::sync::LazyLock;

/// A model with a querier.
pub struct Service {
    pub program: Program,
    pub querier: Querier,
    pub key: Vec<u8>,
}

/// Of a single weight: everything is as short as it can be.
pub static SERVICE: LazyLock<Service> = LazyLock::new(|| {
    let spec: ModelSpec = toml::from_str("input = 1\nlayers = [{ dense = { outputs = 1 } }]").unwrap();
    let mut file = ModelFile::from(Model::new(spec, vec![0.75, 0.25]).unwrap());
    file.annotations.inputs = vec![Range::new(-1.0, 1.0)];
    let program = Program::compile_file(&file, 6).unwrap();
    let mut secret = Querier::generate(program.interface()).unwrap().secret_bytes();
    let seed = secret.len() - 32;
    secret[seed..].fill(7);
    let querier = Querier::open(program.interface(), &secret).unwrap();
    let key = querier.serving_key().unwrap().to_bytes().unwrap();
    Service {
        program,
        querier,
        key,
    }
});

/// Key and interface of a model whose patients are packed: of two weights, since one leaves nothing to rotate.
pub fn packed() -> (Vec<u8>, Vec<u8>) {
    let spec: ModelSpec = toml::from_str("input = 2\nlayers = [{ dense = { outputs = 1 } }]").unwrap();
    let mut file = ModelFile::from(Model::new(spec, vec![0.75, -0.5, 0.25]).unwrap());
    file.annotations.inputs = vec![Range::new(-1.0, 1.0)];
    let program = Program::compile_packed(&file, 6, u64::MAX).unwrap();
    let querier = Querier::generate(program.interface()).unwrap();
    let key = querier.serving_key().unwrap().to_bytes().unwrap();
    (key, program.interface().to_bytes().unwrap())
}

/// A key, a batch, an answer or an interface: whatever is taken is like what its maker writes.
pub fn query(data: &[u8]) {
    super::choose(&[key, batch, answer, interface], data);
}

fn key(data: &[u8]) {
    if let Ok(name) = check_key(data) {
        let preset = ServingKey::preset_of(data).unwrap();
        let context = Context::new(&preset).unwrap();
        let read = ServingKey::from_bytes(&context, data).unwrap();
        assert_eq!(read.key_set(&context), name);
        assert_eq!(read.to_bytes().unwrap(), data);
    }
}

fn batch(data: &[u8]) {
    let Service {
        program,
        querier,
        key,
    } = &*SERVICE;
    if let Ok(answer) = program.answer(key, data, &mut |_, _| {}) {
        assert_eq!(answer.len(), program.plan().answer_bytes);
        // What it holds may be anything; reading it gives rows or the one error.
        if let Ok(rows) = querier.outputs(&answer, 1) {
            assert_eq!(rows.len(), 1);
        }
    }
}

fn answer(data: &[u8]) {
    let querier = &SERVICE.querier;
    if let Ok(rows) = querier.outputs(data, 2) {
        let largest = querier.interface().largest_output() + 1.0;
        assert!(rows.iter().flatten().all(|output| output.abs() <= largest));
    }
}

fn interface(data: &[u8]) {
    if let Ok(read) = Interface::from_bytes(data) {
        let again = Interface::from_bytes(&read.to_bytes().unwrap()).unwrap();
        assert_eq!(again, read);
        let (preset, sizes) = (read.context().preset(), read.sizes());
        assert!(
            preset
                .security_bound()
                .is_some_and(|bound| preset.log2_qp() <= bound)
        );
        assert!(read.max_patients() > 0 && read.packed_width().is_none_or(|_| read.inputs() == 1));
        assert!(sizes.batch > 0 && read.ranges().len() == read.subject().input.len());
        // Whatever it says, a patient in its ranges can be encrypted.
        if read.ranges().len() <= 4 && preset.degree() <= 8192 {
            let row: Vec<f64> = read.ranges().iter().map(|range| range.max).collect();
            Querier::generate(&read).unwrap().encrypt_batch(&[row]).unwrap();
        }
    }
}
