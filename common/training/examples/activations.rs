//! Activations for encrypted evaluation against each other, and against ReLU, on biomedical tables.
//!
//! `cargo run --release -p galen-training --example activations -- FOLDER [SEEDS]`, where FOLDER holds `heart_disease_4site.csv`,
//! `breast_cancer.csv` (as scikit-learn ships it) and `support2.csv`.

#![allow(clippy::print_stdout)]

use galen_models::random::Stream;
use galen_models::{Layer, Model, ModelFile, ModelSpec, Shape, metrics};
use galen_training::recipes::{Adaptation, PoolingChoice, Recipe, Replacement};
use galen_training::{Device, Examples, Network, Objective, Options, Targets, fit, record};
use std::collections::BTreeSet;
use std::error::Error;
use std::io::Read;
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
    mut reader: csv::Reader<impl Read>,
    name: &'static str,
    objective: Objective,
    column: &str,
    unused: &[&str],
    target: impl Fn(&str) -> Option<f64>,
) -> Result<Table, Box<dyn Error>> {
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
    if table.cells.is_empty() {
        return Err(format!("{name}: no patients").into());
    }
    Ok(table)
}

fn tables(folder: &Path) -> Result<Vec<Table>, Box<dyn Error>> {
    let class = |text: &str| text.parse::<f64>().ok().map(|v| f64::from(u8::from(v > 0.0)));
    // The first line holds counts and class names in place of a header.
    let wdbc = folder.join("breast_cancer.csv");
    let wdbc = std::fs::read_to_string(&wdbc).map_err(|e| format!("{}: {e}", wdbc.display()))?;
    let columns: Vec<String> = (0..30).map(|i| format!("x{i}")).chain(["class".into()]).collect();
    let body = wdbc.split_once('\n').map_or("", |(_, body)| body);
    let wdbc = format!("{}\n{body}", columns.join(","));
    let wdbc = csv::Reader::from_reader(wdbc.as_bytes());
    let open = |file: &str| {
        let path = folder.join(file);
        csv::Reader::from_path(&path).map_err(|e| format!("{}: {e}", path.display()))
    };
    // Scores by others, later events, other prices, and identifiers are no features.
    let unused = [
        "Index", "death", "hospdead", "slos", "d.time", "totcst", "totmcst", "avtisst", "sps", "aps",
        "surv2m", "surv6m", "hday", "prg2m", "prg6m", "dnr", "dnrday", "sfdm2", "adlp", "adls", "adlsc",
    ];
    let charges = |text: &str| text.parse::<f64>().ok().filter(|v| *v > 0.0).map(f64::ln);
    Ok(vec![
        read(
            open("heart_disease_4site.csv")?,
            "heart disease, 4 hospitals",
            Objective::Classification,
            "num",
            &["site"],
            class,
        )?,
        read(wdbc, "WDBC", Objective::Classification, "class", &[], class)?,
        read(
            open("support2.csv")?,
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
            let (mean, std) = moments(reference.iter().filter_map(|&p| number(p)).collect());
            for (patient, row) in rows.iter_mut().enumerate() {
                let value = number(patient).map_or(0.0, |v| ((v - mean) / std.max(1e-9)).clamp(-4.0, 4.0));
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
fn judge(outputs: &[f64], test: &Examples) -> f64 {
    match &test.targets {
        Targets::Classes(classes) => {
            let labels: Vec<bool> = classes.iter().map(|&c| c == 1).collect();
            metrics::auc(outputs, &labels).unwrap_or(f64::NAN)
        }
        numbers => numbers.accuracy(outputs, 1),
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

/// What came of one recipe with one seed on the patients held out.
struct Run {
    parameters: usize,
    score: f64,
    /// The largest magnitude that entered an activation.
    reach: f64,
}

fn run(table: &Table, recipe: &Recipe, seed: u64) -> Result<Run, Box<dyn Error>> {
    let mut stream = Stream::new("activations split", seed, &[]);
    let all: Vec<usize> = (0..table.targets.len()).collect();
    let (rest, test) = hold_out(table, &all, HELD_OUT, &mut stream);
    let (train, validation) = hold_out(table, &rest, HELD_OUT, &mut stream);
    let rows = encode(table, &train);
    let (mean, std) = moments(train.iter().map(|&p| table.targets[p]).collect());
    let [train, validation, test] =
        [train, validation, test].map(|part| examples(table, &rows, &part, (mean, std)));
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
    let options = Options {
        checkpoint: None,
        progress: &mut |_| {},
    };
    let network = Network::new(&Device::cpu(), &Model::for_recipe(&spec, &recipe)?)?;
    let outcome = fit(network, &recipe, &train, Some(&validation), options)?;
    let mut file = ModelFile::from(outcome.model);
    let outputs = record(&mut file, &test)?;
    let ranges = file
        .annotations
        .activations
        .iter()
        .map(|a| a.overall().magnitude());
    Ok(Run {
        parameters: file.model.params().len(),
        score: judge(&outputs, &test),
        reach: ranges.fold(0.0, f64::max),
    })
}

/// Mean and standard deviation.
fn moments(values: Vec<f64>) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
    (mean, variance.sqrt())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("usage: activations FOLDER [SEEDS]")?;
    let seeds: u64 = arguments.next().map_or(Ok(3), |text| text.parse())?;
    println!("| data | activation | parameters | AUC or R2 | spread | largest input of an activation |");
    println!("|---|---|---|---|---|---|");
    for table in tables(Path::new(&folder))? {
        for (name, recipe) in recipes()? {
            let results = (1..=seeds).map(|seed| run(&table, &recipe, seed));
            let results = results.collect::<Result<Vec<_>, _>>()?;
            let parameters = results.first().map_or(0, |r| r.parameters);
            let reach = results.iter().map(|r| r.reach).fold(0.0, f64::max);
            let (mean, deviation) = moments(results.iter().map(|r| r.score).collect());
            // Of a sample, not of all seeds that there are.
            let n = results.len() as f64;
            let spread = match results.len() {
                0 | 1 => "unknown".to_owned(),
                _ => format!("{:.4}", deviation * (n / (n - 1.0)).sqrt()),
            };
            println!(
                "| {} | {name} | {parameters} | {mean:.4} | {spread} | {reach:.1} |",
                table.name
            );
        }
    }
    Ok(())
}
