//! The breast cancer data of `configs/studies/breast-cancer`, and a network of 30 features, 16 ReLU units and one logit, trained by
//! `data/train_wdbc.py` on the patients whose number does not divide by 4.
#![allow(dead_code, reason = "each user takes a part")]

use galen_models::{Layer, Model, ModelSpec, Shape};
use serde::Deserialize;

#[derive(Deserialize)]
struct File {
    mean: Vec<f64>,
    deviation: Vec<f64>,
    parameters: Vec<f64>,
}

/// Patients with standardised features; whether the tumour is malignant.
pub(crate) struct Patients {
    pub(crate) rows: Vec<Vec<f64>>,
    pub(crate) malignant: Vec<bool>,
}

pub(crate) struct Wdbc {
    pub(crate) model: Model,
    pub(crate) training: Patients,
    pub(crate) test: Patients,
}

pub(crate) fn load() -> Wdbc {
    let file: File = serde_json::from_str(include_str!("../data/wdbc.json")).unwrap();
    let spec = ModelSpec {
        input: Shape::Features(30),
        layers: vec![
            Layer::Dense { outputs: 16 },
            Layer::Relu,
            Layer::Dense { outputs: 1 },
        ],
    };
    let model = Model::new(spec, file.parameters).unwrap();
    let empty = || Patients {
        rows: Vec::new(),
        malignant: Vec::new(),
    };
    let (mut training, mut test) = (empty(), empty());
    let sites = [
        include_str!("../../../../configs/studies/breast-cancer/east.csv"),
        include_str!("../../../../configs/studies/breast-cancer/south.csv"),
        include_str!("../../../../configs/studies/breast-cancer/west.csv"),
    ];
    for line in sites.iter().flat_map(|site| site.lines().skip(1)) {
        let values: Vec<f64> = line.split(',').map(|value| value.parse().unwrap()).collect();
        let standardised = values[1..31].iter().zip(&file.mean).zip(&file.deviation);
        let part = if (values[0] as u64).is_multiple_of(4) {
            &mut test
        } else {
            &mut training
        };
        part.rows.push(
            standardised
                .map(|((value, mean), deviation)| (value - mean) / deviation)
                .collect(),
        );
        part.malignant.push(values[31] == 0.0);
    }
    Wdbc {
        model,
        training,
        test,
    }
}

impl Patients {
    /// The share of patients for whom `decide` is right.
    pub(crate) fn accuracy(&self, decide: impl Fn(&[f64]) -> bool) -> f64 {
        let right = self
            .rows
            .iter()
            .zip(&self.malignant)
            .filter(|(row, truth)| decide(row) == **truth);
        right.count() as f64 / self.rows.len() as f64
    }
}

/// The network's own decision in `f64`.
pub(crate) fn float(model: &Model) -> impl Fn(&[f64]) -> bool {
    let params = model.params().to_vec();
    move |row| {
        let (weights, rest) = params.split_at(480);
        let (biases, rest) = rest.split_at(16);
        let units = weights.chunks_exact(30).zip(biases);
        let values = units.map(|(w, b)| (b + w.iter().zip(row).map(|(w, x)| w * x).sum::<f64>()).max(0.0));
        rest[16] + values.zip(rest).map(|(h, v)| h * v).sum::<f64>() >= 0.0
    }
}
