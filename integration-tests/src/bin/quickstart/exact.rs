//! One exact decision: the operator registers a quantised network that is shipped, and a hospital asks it about one patient under TFHE.

use crate::report::ExactDecision;
use anyhow::Context;
use galen_core::PartyId;
use galen_exact::{Interface, Outcome, Reveal};
use galen_integration_tests::federation::{COORDINATOR, Federation};
use serde_json::Value;

/// The quantised heart model, and what its patients look like.
const MODEL: &[u8] = include_bytes!("../../../../configs/models/heart/exact.json");
const SCHEMA: &str = include_str!("../../../../configs/models/heart/data.toml");
const PATIENTS: &str = include_str!("../../../../configs/models/heart/test.csv");
const NAME: &str = "heart";

/// Registers the model, asks once so that the key is made and sent, and then asks again and takes the time.
pub(crate) fn decide(federation: &mut Federation, querier: &PartyId) -> anyhow::Result<ExactDecision> {
    let folder = federation.root().join("exact");
    std::fs::create_dir_all(&folder)?;
    let write = |name: &str, bytes: &[u8]| -> anyhow::Result<String> {
        let path = folder.join(name);
        std::fs::write(&path, bytes)?;
        Ok(path.to_string_lossy().into_owned())
    };
    let mut lines = PATIENTS.lines();
    let (header, patient) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let model = write("heart.json", MODEL)?;
    let schema = write("heart.toml", SCHEMA.as_bytes())?;
    let data = write("patient.csv", format!("{header}\n{patient}\n").as_bytes())?;
    let add = ["model", "add", &model, "--name", NAME, "--reveal", "decision"];
    let added = federation.run(COORDINATOR, &add)?;
    let ask = [
        "query", NAME, "--data", &data, "--schema", &schema, "--engine", "tfhe",
    ];
    let first = federation.run(querier.as_str(), &ask)?;
    let asked = federation.run(querier.as_str(), &ask)?;

    // The same in plain integers.
    let interface = Interface::from_bytes(MODEL)?;
    let mut row = values(header, patient, SCHEMA)?;
    interface.subject().prepare(&mut row);
    let reveal = Reveal::Decision { threshold: 0 };
    let expected = interface.quantised().evaluate(reveal, &row)? == Outcome::Decision(true);
    let seconds = |asked: &Value| asked["seconds"].as_f64().context("no seconds");
    let plan = &added["programs"][0]["plan"];
    Ok(ExactDecision {
        decision: asked["table"]["rows"][0][1] == "yes",
        expected,
        bootstraps: asked["bootstraps"].as_u64().context("no bootstraps")?,
        log2_failure: asked["log2_failure"].as_f64().context("no failure probability")?,
        security_bits: asked["security_bits"].as_u64().context("no security")?,
        parameters: plan["parameters"].as_str().context("no parameters")?.to_owned(),
        key_bytes: asked["key_bytes"].as_u64().context("no key")?,
        first_seconds: seconds(&first)?,
        seconds: seconds(&asked)?,
    })
}

/// The patient's values in the order of the schema's elements, as the loader reads them.
fn values(header: &str, patient: &str, schema: &str) -> anyhow::Result<Vec<f64>> {
    let schema: toml::Table = toml::from_str(schema)?;
    let names = schema["elements"].as_array().context("no elements")?;
    let columns: Vec<&str> = header.split(',').collect();
    let cells: Vec<&str> = patient.split(',').collect();
    let value = |name: &toml::Value| {
        let column = columns.iter().position(|column| Some(*column) == name.as_str());
        let cell = column
            .and_then(|column| cells.get(column))
            .context("no such column")?;
        match *cell {
            "" => Ok(f64::NAN),
            cell => Ok(f64::from(cell.parse::<f32>()?)),
        }
    };
    names.iter().map(value).collect()
}
