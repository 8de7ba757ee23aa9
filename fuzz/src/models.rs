//! Models, and the sums that they are made from. Opened sums come from all hospitals together, one of which may have sent nonsense.

use crate::memory::bounded;
use crate::stored::patients;
use crate::{HINTED, choose, postcard_again};
use galen_core::study::{DataSchema, EvaluationPlan};
use galen_models::agenda::ReleasedModel;
use galen_models::fixed::{FixedPoint, MAX_MAGNITUDE};
use galen_models::{FedAvg, Histograms, Layer, Model, ModelFile, ModelSpec, Shape, Statistics};
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
        evaluated(&model);
    }
}

/// Evaluates a model, and what folding makes of it, if that does not take long.
fn evaluated(model: &Model) {
    let summary = model.spec().summary().unwrap();
    let values: usize = summary.layers.iter().map(|layer| layer.output.len()).sum();
    if values > 1 << 14 || summary.cost.weight_products > 1 << 20 {
        return;
    }
    let row = vec![0.5; model.spec().inputs()];
    let outputs = model.forward(&[&row]).unwrap().into_values();
    assert_eq!(outputs.len(), model.spec().outputs());
    // Parameters may overflow where layers become one.
    if let Ok(folded) = model.folded() {
        assert_eq!(folded.forward(&[&row]).unwrap().width(), outputs.len());
    }
}

/// [`ModelFile::from_safetensors`]: a model with what its file says about it.
fn annotated(data: &[u8]) {
    if let Ok(file) = bounded(data, 1 << 20, 256, || ModelFile::from_safetensors(data)) {
        let again = ModelFile::from_safetensors(&file.to_safetensors().unwrap()).unwrap();
        assert_eq!(again, file);
        let inputs = file.annotations.input_ranges(file.model.spec());
        assert!(inputs.is_none_or(|ranges| ranges.len() == file.model.spec().inputs()));
    }
}

/// [`Model::from_onnx`]. Everything that is read can be written; the `f32` in which it is may be infinite.
fn onnx(data: &[u8]) {
    if let Ok(model) = bounded(data, 64 << 20, 4096, || Model::from_onnx(data)) {
        assert!(model.params().iter().all(|p| p.is_finite()));
        let written = model.to_onnx().unwrap();
        if let Ok(again) = Model::from_onnx(&written) {
            assert_eq!(again.spec().input, model.spec().input);
            assert_eq!(again.spec().outputs(), model.spec().outputs());
        }
        evaluated(&model);
    }
}

/// [`Model::from_tensors`]: another framework's weights for a network of every kind of module.
fn tensors(data: &[u8]) {
    static SPEC: LazyLock<ModelSpec> = LazyLock::new(|| toml::from_str(NETWORK).unwrap());
    let none = std::collections::BTreeMap::new();
    if let Ok(model) = bounded(data, 1 << 20, 64, || {
        Model::from_tensors(SPEC.clone(), data, &none)
    }) {
        assert!(model.params().iter().all(|p| p.is_finite()));
        assert_eq!(*model.spec(), *SPEC);
    }
}

/// The network for which weights are read.
pub const NETWORK: &str = r#"
input = [1, 3, 3]
layers = [
    { conv2d = { channels = 2, kernel = 2 } },
    { batch_norm = {} },
    "flatten",
    { residual = { outputs = 2, scale = 0.5, power = 2 } },
    { dense = { outputs = 1 } },
]
"#;

/// [`ModelSpec::parse_toml`]: a network as people write it. Errors name a line of the text.
fn network(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match ModelSpec::parse_toml(std::path::Path::new("x.toml"), text) {
        Ok(spec) => {
            let written = toml::to_string(&spec).unwrap();
            assert_eq!(toml::from_str::<ModelSpec>(&written).unwrap(), spec);
            assert!(!spec.summary().unwrap().to_string().is_empty());
        }
        Err(error) => assert!(error.to_string().starts_with("x.toml:")),
    }
}

/// Models and networks of other programs and people: annotated files, ONNX, weights, TOML.
pub fn imports(data: &[u8]) {
    choose(&[annotated, onnx, tensors, network], data);
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
    let sharing = galen_models::course::Sharing::all(base.spec());
    if let Ok(step) = average.average(&sharing, &padded(average.values(&sharing))) {
        let moved = step.iter().map(|s| s * s).sum::<f64>();
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
