//! What an answer says: scores, the most likely class, or one decision.

use crate::circuit::{Circuit, CircuitError, Interval, MAX_SHIFT, MAX_TABLE, Sum};
use serde::{Deserialize, Serialize};

/// What the querier learns of a model's scores. Everything else stays inside the ciphertexts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reveal {
    /// All scores, as integers.
    Scores,
    /// The class with the largest score; the first of equal ones. With a single score: class 1 if it is at least 0, else class 0.
    Label,
    /// Whether the single score, or the second of two less the first, reaches this many quantised units.
    Decision {
        /// The threshold.
        threshold: i64,
    },
}

impl Reveal {
    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scores => "scores",
            Self::Label => "label",
            Self::Decision { .. } => "decision",
        }
    }
}

/// Scores that do not fit what is to be revealed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RevealError {
    /// A decision needs one score or two.
    #[error("a decision needs one score or two, the model has {scores}; reveal its label")]
    Scores {
        /// Scores of the model.
        scores: usize,
    },
    /// The circuit is impossible.
    #[error(transparent)]
    Circuit(#[from] CircuitError),
}

/// Appends what turns scores into what is revealed, and the outputs.
pub(crate) fn finish(circuit: &mut Circuit, scores: Vec<Sum>, reveal: Reveal) -> Result<(), RevealError> {
    let bit = match (reveal, scores.as_slice()) {
        (Reveal::Scores, _) => {
            for score in scores {
                circuit.output(score)?;
            }
            return Ok(());
        }
        (Reveal::Label, [score]) => at_least_zero(circuit, score.clone())?,
        (Reveal::Label, _) => return label(circuit, &scores),
        (Reveal::Decision { threshold }, [score]) => at_least_zero(circuit, less(score.clone(), threshold))?,
        (Reveal::Decision { threshold }, [first, second]) => {
            at_least_zero(circuit, less(second.minus(first), threshold))?
        }
        (Reveal::Decision { .. }, _) => return Err(RevealError::Scores { scores: scores.len() }),
    };
    circuit.output(Sum::wire(bit))?;
    Ok(())
}

fn less(mut sum: Sum, threshold: i64) -> Sum {
    sum.constant = sum.constant.saturating_sub(threshold);
    sum
}

/// The bit `sum >= 0`. Only whole powers of two below the sum's range are dropped, and 0 is a multiple of each, so that it is exact. The
/// compiler drops more of them where that is cheaper.
pub(crate) fn at_least_zero(circuit: &mut Circuit, sum: Sum) -> Result<usize, CircuitError> {
    let range = circuit.range_of(&sum)?;
    let shift = (0..MAX_SHIFT)
        .find(|shift| Interval::new(range.min >> shift, range.max >> shift).count() <= MAX_TABLE as u64)
        .unwrap_or(MAX_SHIFT);
    circuit.lookup(sum, shift, |v| i64::from(v >= 0))
}

/// All pairs of classes are compared; the class that wins against every other is added up as its number.
fn label(circuit: &mut Circuit, scores: &[Sum]) -> Result<(), RevealError> {
    let classes = scores.len();
    let mut wins = vec![Sum::default(); classes];
    for (a, first) in scores.iter().enumerate() {
        for (b, second) in scores.iter().enumerate().skip(a + 1) {
            // The first of equal scores wins.
            let bit = at_least_zero(circuit, first.minus(second))?;
            wins[a].terms.push((bit, 1));
            wins[b].terms.push((bit, -1));
            wins[b].constant += 1;
        }
    }
    if let [first, _] = wins.as_slice() {
        let label = first
            .terms
            .iter()
            .map(|&(wire, weight)| (wire, -weight))
            .collect();
        circuit.output(Sum {
            terms: label,
            constant: 1,
        })?;
        return Ok(());
    }
    let mut label = Sum::default();
    for (class, won) in wins.into_iter().enumerate().skip(1) {
        let all = classes as i64 - 1;
        let best = circuit.lookup(won, 0, |v| class as i64 * i64::from(v == all))?;
        label.terms.push((best, 1));
    }
    circuit.output(label)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circuit(scores: usize, reveal: Reveal) -> Circuit {
        let mut circuit = Circuit::new(vec![Interval::new(-100, 100); scores]).unwrap();
        let sums = (0..scores).map(Sum::wire).collect();
        finish(&mut circuit, sums, reveal).unwrap();
        circuit
    }

    #[test]
    fn labels_are_the_first_largest_score() {
        for classes in 2..=5 {
            let circuit = circuit(classes, Reveal::Label);
            let mut state = 12345u64;
            for _ in 0..500 {
                let scores: Vec<i64> = (0..classes)
                    .map(|_| {
                        state = state
                            .wrapping_mul(6364136223846793005)
                            .wrapping_add(1442695040888963407);
                        (state >> 60) as i64 * 3 - 20
                    })
                    .collect();
                let best = *scores.iter().max().unwrap();
                let first = scores.iter().position(|&s| s == best).unwrap() as i64;
                assert_eq!(circuit.evaluate(&scores).unwrap(), [first], "{scores:?}");
            }
        }
    }

    #[test]
    fn decisions_are_exact_at_the_threshold() {
        let circuit = circuit(1, Reveal::Decision { threshold: 37 });
        for score in -100..=100 {
            assert_eq!(circuit.evaluate(&[score]).unwrap(), [i64::from(score >= 37)]);
        }
        let circuit = super::tests::circuit(2, Reveal::Decision { threshold: -3 });
        assert_eq!(circuit.evaluate(&[10, 7]).unwrap(), [1]);
        assert_eq!(circuit.evaluate(&[10, 6]).unwrap(), [0]);
    }

    #[test]
    fn one_score_is_a_label_at_zero() {
        let circuit = circuit(1, Reveal::Label);
        assert_eq!(circuit.evaluate(&[0]).unwrap(), [1]);
        assert_eq!(circuit.evaluate(&[-1]).unwrap(), [0]);
    }

    #[test]
    fn a_decision_needs_one_score_or_two() {
        let mut circuit = Circuit::new(vec![Interval::BIT; 3]).unwrap();
        let sums = (0..3).map(Sum::wire).collect();
        let refused = finish(&mut circuit, sums, Reveal::Decision { threshold: 0 });
        assert_eq!(refused, Err(RevealError::Scores { scores: 3 }));
    }
}
