//! The file that `party query` writes: a line per patient, with its number first and its probability last.

use anyhow::{Context, ensure};
use std::collections::BTreeMap;
use std::path::Path;

/// Probabilities by the patient's number in the hospital's table.
pub fn read(path: &Path) -> anyhow::Result<BTreeMap<usize, f64>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut answers = BTreeMap::new();
    for line in text.lines().skip(1) {
        let mut cells = line.split(',');
        let patient: usize = cells
            .next()
            .unwrap_or_default()
            .parse()
            .with_context(|| line.to_owned())?;
        let probability: f64 = cells
            .next_back()
            .unwrap_or_default()
            .parse()
            .with_context(|| line.to_owned())?;
        ensure!(
            (0.0..=1.0).contains(&probability),
            "patient {patient}: {probability} is no probability"
        );
        ensure!(
            answers.insert(patient, probability).is_none(),
            "patient {patient} stands twice"
        );
    }
    Ok(answers)
}
