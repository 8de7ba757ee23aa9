//! Models, and the sums that they are made from. Opened sums come from all hospitals together, one of which may have sent nonsense.

use crate::memory::bounded;
use crate::stored::patients;
use crate::{HINTED, choose, postcard_again};
use galen_core::study::{DataSchema, EvaluationPlan};
use galen_models::agenda::ReleasedModel;
use galen_models::fixed::{FixedPoint, MAX_MAGNITUDE};
use galen_models::{FedAvg, Histograms, Layer, Model, ModelSpec, Shape, Statistics};
use std::sync::LazyLock;

/// [`Model::from_safetensors`].
fn safetensors(data: &[u8]) {
    if let Ok(model) = bounded(data, 1 << 20, 64, || Model::from_safetensors(data)) {
        assert!(model.params().len() * 8 <= data.len());
        assert!(model.params().iter().all(|p| p.is_finite()));
        let bytes = model.to_safetensors().unwrap();
        let again = Model::from_safetensors(&bytes).unwrap();
        assert_eq!(again, model);
        assert_eq!(again.digest(), model.digest());
        if model.spec().outputs() == 1 {
            let row = vec![0.5; model.spec().inputs()];
            model.evaluate(&[row]).unwrap();
        }
    }
}

/// The network in a model file's metadata.
fn spec(data: &[u8]) {
    let parsed: Result<ModelSpec, _> = bounded(data, HINTED, 256, || serde_json::from_slice(data));
    let Ok(spec) = parsed else { return };
    let again: ModelSpec = serde_json::from_str(&serde_json::to_string(&spec).unwrap()).unwrap();
    assert_eq!(again, spec);
    if spec.check().is_ok() {
        let blocks = spec.parameters();
        assert_eq!(
            blocks.last().map(|b| b.offset + b.len()),
            Some(spec.parameter_count())
        );
    }
}

/// [`ReleasedModel`]: the blob that the coordinator serves from.
fn released(data: &[u8]) {
    let Some(released) = postcard_again::<ReleasedModel>(data) else {
        return;
    };
    let Ok(model) = Model::from_safetensors(&released.safetensors) else {
        return;
    };
    // Compiling searches for the smallest preset and makes the tables of real ones: only for small networks.
    if model.params().len() <= 64 {
        match galen_inference::Program::compile(&model, &released.input_ranges, 10) {
            Ok(program) => assert!(program.plan().logit_bound.is_finite()),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

static SCHEMA: LazyLock<DataSchema> = LazyLock::new(|| crate::heart().data);

/// Opened sums: statistics, averages, histograms. Eight bytes are one sum.
pub fn sums(data: &[u8]) {
    let sums: Vec<i64> = data
        .as_chunks()
        .0
        .iter()
        .map(|bytes| i64::from_le_bytes(*bytes))
        .collect();
    let padded = |length: usize| -> Vec<i64> { sums.iter().copied().cycle().take(length).collect() };
    if sums.is_empty() {
        return;
    }
    if let Ok(statistics) = Statistics::from_sums(&padded(Statistics::values(&SCHEMA)), &SCHEMA) {
        let finite =
            |c: &galen_models::ColumnStatistics| c.mean.is_finite() && c.std.is_finite() && c.std >= 0.0;
        assert!(statistics.columns.iter().all(finite));
        let _ = galen_training::Preprocessor::new(&SCHEMA, &statistics);
    }
    let plan = EvaluationPlan { bins: 8 };
    if let Ok(histograms) = Histograms::from_sums(&padded(Histograms::values(&plan)), &plan)
        && let Some(roc) = histograms.roc()
    {
        assert!((0.0..=1.0).contains(&roc.auc));
    }
    let base = Model::initial(
        ModelSpec {
            input: Shape::Features(2),
            layers: vec![Layer::Dense { outputs: 1 }],
        },
        1,
    )
    .unwrap();
    let average = FedAvg {
        max_rows: 500,
        clip: 2.0,
        codec: FixedPoint { fraction_bits: 24 },
    };
    if let Ok(model) = average.apply(&base, &padded(average.values(base.spec()))) {
        let moved = model
            .params()
            .iter()
            .zip(base.params())
            .map(|(a, b)| (a - b) * (a - b))
            .sum::<f64>();
        assert!(moved.sqrt() <= 2.0 * (1.0 + 1e-9));
    }
    for (bits, value) in (0..=52).zip(padded(53)) {
        let codec = FixedPoint { fraction_bits: bits };
        let real = codec.decode(value);
        assert!(real.is_finite());
        assert!(value.unsigned_abs() > MAX_MAGNITUDE as u64 || codec.encode(0, real) == Ok(value));
        let _ = codec.encode(0, f64::from_bits(value as u64));
    }
}

/// A hospital's table against a study's schema: [`galen_training::read_csv`]. The first byte says whether a header is expected.
fn csv(data: &[u8]) {
    let Some((&first, text)) = data.split_first() else {
        return;
    };
    let schema = DataSchema {
        header: first & 1 == 1,
        ..SCHEMA.clone()
    };
    let read = bounded(data, 1 << 17, 512, || {
        galen_training::read_csv(text, "x.csv", &schema)
    });
    match read {
        Ok(table) => {
            assert_eq!(table.features.len(), table.labels.len());
            let columns = schema.features().count();
            assert!(table.features.iter().all(|row| row.len() == columns));
            assert!(
                table
                    .features
                    .iter()
                    .flatten()
                    .flatten()
                    .all(|value| value.is_finite())
            );
            let _ = galen_models::statistics::contribution(&table.features, &table.labels, &schema);
        }
        Err(error) => {
            assert!(
                error.line >= 1
                    && error.line as usize
                        <= text.iter().filter(|b| **b == b'\n' || **b == b'\r').count() + 2
            );
            assert!(!error.to_string().is_empty());
        }
    }
}

/// Model files: safetensors, the network alone, and a released model.
pub fn files(data: &[u8]) {
    choose(&[safetensors, spec, released], data);
}

/// Tables: of a hospital, and of patients to be evaluated.
pub fn table(data: &[u8]) {
    choose(&[csv, patients], data);
}
