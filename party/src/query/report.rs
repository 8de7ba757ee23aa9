//! What a query gives: probabilities, rounded, with the patients' numbers.

use galen_core::Digest;
use serde::Serialize;
use std::path::PathBuf;

/// The probability of one patient.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answer {
    /// The patient's number in the data, from 1.
    pub patient: usize,
    /// Of an image: what tells it apart, such as its path in the folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Probability of class 1, rounded to the planned precision.
    pub probability: f64,
}

/// A finished query, or what a dry run found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Number of patients.
    pub patients: usize,
    /// The model asked: digest of the released blob.
    pub model: Digest,
    /// Name of the CKKS preset.
    pub preset: String,
    /// Its ring degree.
    pub n: usize,
    /// log2 of its modulus with the special primes.
    pub log2_qp: u32,
    /// The largest that 128-bit security allows at this degree.
    pub bound: u32,
    /// Digest of the evaluation key.
    pub key: Digest,
    /// Encrypted batches.
    pub batches: usize,
    /// Bits after the binary point that a score has right.
    pub precision_bits: u32,
    /// Decimals of the probabilities.
    pub decimals: u32,
    /// Largest difference between a decrypted probability and the plain one, computed here from the same model; `None` in a
    /// dry run.
    pub largest_difference: Option<f64>,
    /// Length of the evaluation key.
    pub key_bytes: u64,
    /// Length of all encrypted batches.
    pub batch_bytes: u64,
    /// Bytes sent in this run.
    pub bytes_sent: u64,
    /// Bytes received in this run.
    pub bytes_received: u64,
    /// Seconds of this run.
    pub seconds: f64,
    /// Whether nothing was sent.
    pub dry_run: bool,
    /// Where the answers were written; without it they are in `answers`.
    pub out: Option<PathBuf>,
    /// The answers, unless they were written to a file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<Answer>,
}

/// Decimals that a probability is worth when its score has `bits` bits after the binary point: the logistic function is four times
/// flatter than its argument, so no planned precision is lost, and none is pretended.
pub fn decimals(bits: u32) -> u32 {
    (f64::from(bits) * std::f64::consts::LOG10_2).ceil() as u32
}

/// A probability as it is shown. It was computed from a score that is a multiple of the planned precision already.
pub fn rounded(probability: f64, decimals: u32) -> f64 {
    let scale = 10f64.powi(i32::try_from(decimals).unwrap_or(i32::MAX));
    (probability * scale).round() / scale
}

/// The answers as CSV: a header line, then a line per patient. Images have their names in it.
pub fn csv(answers: &[Answer], decimals: u32) -> String {
    let named = answers.iter().any(|answer| answer.name.is_some());
    let mut text = String::from(if named {
        "patient,name,probability\n"
    } else {
        "patient,probability\n"
    });
    for answer in answers {
        let name = match &answer.name {
            Some(name) => format!("{},", quoted(name)),
            None if named => ",".to_owned(),
            None => String::new(),
        };
        text.push_str(&format!(
            "{},{name}{:.*}\n",
            answer.patient, decimals as usize, answer.probability
        ));
    }
    text
}

/// A cell as CSV has it (RFC 4180).
fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probability_has_the_planned_decimals_and_no_more() {
        assert_eq!((decimals(4), decimals(16), decimals(24)), (2, 5, 8));
        for bits in [4, 10, 16, 24] {
            let (d, unit) = (decimals(bits), 2f64.powi(-(bits as i32)));
            for step in -40..40 {
                let probability = galen_models::metrics::sigmoid(f64::from(step) * 0.21);
                let shown = rounded(probability, d);
                // Rounding here costs less than the precision of the score.
                assert!((shown - probability).abs() <= unit / 2.0);
                let scaled = shown * 10f64.powi(d as i32);
                assert!((scaled - scaled.round()).abs() < 1e-6);
            }
        }
        assert_eq!(rounded(0.123_456_7, 5), 0.12346);
    }

    #[test]
    fn a_line_per_patient() {
        let answers = [
            Answer {
                patient: 3,
                name: None,
                probability: 0.25,
            },
            Answer {
                patient: 17,
                name: None,
                probability: 1.0,
            },
        ];
        assert_eq!(csv(&answers, 3), "patient,probability\n3,0.250\n17,1.000\n");
    }

    #[test]
    fn images_are_told_apart_by_their_names() {
        let answer = |patient, name: &str| Answer {
            patient,
            name: Some(name.into()),
            probability: 0.5,
        };
        let answers = [answer(1, "ill/3.png"), answer(4, "a \"b\", c")];
        assert_eq!(
            csv(&answers, 1),
            "patient,name,probability\n1,ill/3.png,0.5\n4,\"a \"\"b\"\", c\",0.5\n"
        );
    }
}
