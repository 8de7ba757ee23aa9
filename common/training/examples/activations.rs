//! Activations for encrypted evaluation against each other, and against ReLU, on biomedical tables.
//!
//! `cargo run --release -p galen-training --example activations -- FOLDER [SEEDS]`, where FOLDER holds `heart_disease_4site.csv`,
//! `breast_cancer.csv` (as scikit-learn ships it) and `support2.csv`.

#![allow(clippy::print_stdout)]

use galen_models::random::Stream;
use galen_models::{Layer, ModelSpec, Shape, metrics};
use galen_training::recipes::{Adaptation, PoolingChoice, Recipe, Replacement};
use galen_training::{Device, Examples, Network, Objective, Options, Targets, fit};
use std::collections::BTreeSet;
use std::error::Error;
use std::path::Path;

/// Columns with at most this many different values are categories.
const CATEGORIES: usize = 8;
/// Shares of the patients for testing, and of the rest for early stopping.
const HELD_OUT: f64 = 0.2;

struct Table {
    name: &'static str,
    objective: Objective,
    /// Per patient the cells of all features.
    cells: Vec<Vec<String>>,
    targets: Vec<f64>,
}

/// Reads a file with a header; `target` turns the cell of the target's column into a number, or leaves the patient out.
fn read(
    path: &Path,
    name: &'static str,
    objective: Objective,
    column: &str,
    unused: &[&str],
    target: impl Fn(&str) -> Option<f64>,
) -> Result<Table, Box<dyn Error>> {
    let mut reader = csv::Reader::from_path(path)?;
    let header: Vec<String> = reader.headers()?.iter().map(str::to_owned).collect();
    let mut table = Table {
        name,
        objective,
        cells: Vec::new(),
        targets: Vec::new(),
    };
    for record in reader.records() {
        let record = record?;
        let mut cells = Vec::new();
        let mut value = None;
        for (title, cell) in header.iter().zip(&record) {
            if title == column {
                value = target(cell);
            } else if !unused.contains(&title.as_str()) {
                cells.push(cell.to_owned());
            }
        }
        if let Some(value) = value {
            table.cells.push(cells);
            table.targets.push(value);
        }
    }
    Ok(table)
}

fn tables(folder: &Path) -> Result<Vec<Table>, Box<dyn Error>> {
    let class = |text: &str| text.parse::<f64>().ok().map(|v| f64::from(u8::from(v > 0.0)));
    // The first line holds counts and class names in place of a header.
    let wdbc = std::fs::read_to_string(folder.join("breast_cancer.csv"))?;
    let columns: Vec<String> = (0..30).map(|i| format!("x{i}")).chain(["class".into()]).collect();
    let body = wdbc.split_once('\n').map_or("", |(_, body)| body);
    let copy = std::env::temp_dir().join(format!("wdbc-{}.csv", std::process::id()));
    std::fs::write(&copy, format!("{}\n{body}", columns.join(",")))?;
    let breast = read(&copy, "WDBC", Objective::Classification, "class", &[], class);
    std::fs::remove_file(&copy)?;
    let heart = folder.join("heart_disease_4site.csv");
    // Scores by others, later events, other prices, and identifiers are no features.
    let unused = [
        "Index", "death", "hospdead", "slos", "d.time", "totcst", "totmcst", "avtisst", "sps", "aps",
        "surv2m", "surv6m", "hday", "prg2m", "prg6m", "dnr", "dnrday", "sfdm2", "adlp", "adls", "adlsc",
    ];
    let charges = |text: &str| text.parse::<f64>().ok().filter(|v| *v > 0.0).map(f64::ln);
    Ok(vec![
        read(
            &heart,
            "heart disease, 4 hospitals",
            Objective::Classification,
            "num",
            &["site"],
            class,
        )?,
        breast?,
        read(
            &folder.join("support2.csv"),
            "SUPPORT2, log charges",
            Objective::Regression,
            "charges",
            &unused,
            charges,
        )?,
    ])
}

/// Model inputs of all patients: standardised by the patients `reference`, limited to four deviations, with indicators of
/// missing values and of categories.
fn encode(table: &Table, reference: &[usize]) -> Vec<Vec<f32>> {
    let mut rows = vec![Vec::new(); table.cells.len()];
    for column in 0..table.cells[0].len() {
        let cell = |patient: usize| table.cells[patient][column].as_str();
        let number = |patient: usize| cell(patient).parse::<f64>().ok();
        let values: BTreeSet<&str> = (0..rows.len()).map(cell).collect();
        let numeric = values.iter().all(|v| v.is_empty() || v.parse::<f64>().is_ok());
        if numeric && values.len() > CATEGORIES {
            let known: Vec<f64> = reference.iter().filter_map(|&p| number(p)).collect();
            let n = known.len().max(1) as f64;
            let mean = known.iter().sum::<f64>() / n;
            let std = (known.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n)
                .sqrt()
                .max(1e-9);
            for (patient, row) in rows.iter_mut().enumerate() {
                let value = number(patient).map_or(0.0, |v| ((v - mean) / std).clamp(-4.0, 4.0));
                row.push(value as f32);
                if values.contains("") {
                    row.push(f32::from(u8::from(number(patient).is_none())));
                }
            }
        } else {
            for value in &values {
                for (patient, row) in rows.iter_mut().enumerate() {
                    row.push(f32::from(u8::from(cell(patient) == *value)));
                }
            }
        }
    }
    rows
}

/// The share `share` of each class, or of all patients for regression.
fn hold_out(table: &Table, patients: &[usize], share: f64, stream: &mut Stream) -> (Vec<usize>, Vec<usize>) {
    let class = |&patient: &usize| match table.objective {
        Objective::Classification => table.targets[patient] > 0.0,
        Objective::Regression => false,
    };
    let (mut kept, mut out) = (Vec::new(), Vec::new());
    for wanted in [false, true] {
        let mut members: Vec<usize> = patients.iter().copied().filter(|p| class(p) == wanted).collect();
        stream.shuffle(&mut members);
        let count = (members.len() as f64 * share).round() as usize;
        out.extend(&members[..count]);
        kept.extend(&members[count..]);
    }
    (kept, out)
}

fn examples(table: &Table, rows: &[Vec<f32>], patients: &[usize], scale: (f64, f64)) -> Examples {
    let targets = patients.iter().map(|&p| table.targets[p]);
    Examples {
        inputs: patients.iter().flat_map(|&p| rows[p].iter().copied()).collect(),
        targets: match table.objective {
            Objective::Classification => Targets::Classes(targets.map(|t| t as u32).collect()),
            Objective::Regression => {
                Targets::Values(targets.map(|t| ((t - scale.0) / scale.1) as f32).collect())
            }
        },
    }
}

/// AUC, or the share of the variance that is explained.
fn judge(outputs: &[f32], test: &Examples) -> f64 {
    match &test.targets {
        Targets::Classes(classes) => {
            let scores: Vec<f64> = outputs.iter().map(|&z| f64::from(z)).collect();
            let labels: Vec<bool> = classes.iter().map(|&c| c == 1).collect();
            metrics::auc(&scores, &labels).unwrap_or(f64::NAN)
        }
        Targets::Values(values) => {
            let n = values.len() as f32;
            let mean = values.iter().sum::<f32>() / n;
            let error: f32 = values.iter().zip(outputs).map(|(v, o)| (v - o).powi(2)).sum();
            let all: f32 = values.iter().map(|v| (v - mean).powi(2)).sum();
            f64::from(1.0 - error / all)
        }
    }
}

fn recipes() -> Result<Vec<(&'static str, Recipe)>, toml::de::Error> {
    let reacthe: Recipe = toml::from_str(include_str!("../../../configs/recipes/reacthe.toml"))?;
    let cryptodl: Recipe = toml::from_str(include_str!("../../../configs/recipes/cryptodl.toml"))?;
    let beaa: Recipe = toml::from_str(include_str!("../../../configs/recipes/beaa.toml"))?;
    let hermite: Recipe = toml::from_str(include_str!("../../../configs/recipes/hermite.toml"))?;
    let relu = Recipe {
        adaptation: None,
        ..cryptodl.clone()
    };
    let square = Recipe {
        adaptation: Some(Adaptation {
            activation: Replacement::Square,
            normalise: false,
            pooling: PoolingChoice::Mean,
        }),
        ..cryptodl.clone()
    };
    Ok(vec![
        ("ReLU", relu),
        ("square", square),
        ("CryptoDL, degree 2", cryptodl),
        ("ReActHE blocks", reacthe),
        ("BEAA, element-wise", beaa),
        ("Hermite", hermite),
    ])
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("usage: activations FOLDER [SEEDS]")?;
    let seeds: u64 = arguments.next().map_or(Ok(3), |text| text.parse())?;
    println!("| data | activation | parameters | AUC or R2 | spread | largest input of an activation |");
    println!("|---|---|---|---|---|---|");
    for table in tables(Path::new(&folder))? {
        for (name, recipe) in recipes()? {
            let mut scores = Vec::new();
            let (mut parameters, mut reach) = (0, 0.0f64);
            for seed in 1..=seeds {
                let mut stream = Stream::new("activations split", seed, &[]);
                let all: Vec<usize> = (0..table.targets.len()).collect();
                let (rest, test) = hold_out(&table, &all, HELD_OUT, &mut stream);
                let (train, validation) = hold_out(&table, &rest, HELD_OUT, &mut stream);
                let rows = encode(&table, &train);
                let n = train.len() as f64;
                let mean = train.iter().map(|&p| table.targets[p]).sum::<f64>() / n;
                let std = (train
                    .iter()
                    .map(|&p| (table.targets[p] - mean).powi(2))
                    .sum::<f64>()
                    / n)
                    .sqrt();
                let [train, validation, test] =
                    [train, validation, test].map(|part| examples(&table, &rows, &part, (mean, std)));
                let spec = ModelSpec {
                    input: Shape::Features(rows[0].len()),
                    layers: vec![
                        Layer::Dense { outputs: 16 },
                        Layer::Relu,
                        Layer::Dense { outputs: 8 },
                        Layer::Relu,
                        Layer::Dense { outputs: 1 },
                    ],
                };
                let recipe = Recipe {
                    seed,
                    objective: table.objective,
                    ..recipe.clone()
                };
                let model = recipe.model(&spec)?;
                parameters = model.params().len();
                let options = Options {
                    checkpoint: None,
                    progress: &mut |_| {},
                };
                let network = Network::new(&Device::cpu(), &model)?;
                let outcome = fit(network, &recipe, &train, Some(&validation), options)?;
                let network = Network::new(&Device::cpu(), &outcome.model)?;
                let (outputs, ranges) = network.evaluate(&test.inputs)?;
                scores.push(judge(&outputs, &test));
                reach = ranges.iter().fold(reach, |m, r| m.max(r.magnitude()));
            }
            let n = scores.len() as f64;
            let mean = scores.iter().sum::<f64>() / n;
            let spread = (scores.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0)).sqrt();
            println!(
                "| {} | {name} | {parameters} | {mean:.4} | {spread:.4} | {reach:.1} |",
                table.name
            );
        }
    }
    Ok(())
}
