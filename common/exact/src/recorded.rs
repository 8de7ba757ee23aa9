//! Quantisation without patients: from the ranges of a network's inputs that its file records.

use crate::quantise::{Precision, QuantiseError, quantise};
use crate::quantised::Quantised;
use galen_models::random::Stream;
use galen_models::{Model, Range};

/// Rows that are drawn in place of patients.
const ROWS: usize = 512;

/// Quantises a network by the ranges of its inputs alone, one per input, as its file records them or a released model states them.
///
/// Rows are drawn within the ranges, the same on every machine, and stand for patients in [`quantise`]. Inputs are drawn independently: an
/// input whose range has zero inside is taken as standardised, with a bell curve about 0 whose nearer end is two deviations away, any
/// other as uniform. Where patients may be used, thresholds at their own quantiles fit better; both sides then need the file of the
/// quantised model ([`Quantised::to_bytes`]).
pub fn quantise_recorded(
    model: &Model,
    inputs: &[Range],
    precision: Precision,
) -> Result<Quantised, QuantiseError> {
    let expected = model.spec().inputs();
    if inputs.len() != expected {
        let found = inputs.len();
        return Err(QuantiseError::Ranges { expected, found });
    }
    let proper = |range: &Range| range.min.is_finite() && range.max.is_finite() && range.min <= range.max;
    if let Some(input) = inputs.iter().position(|range| !proper(range)) {
        return Err(QuantiseError::Range { input });
    }
    let mut stream = Stream::new("galen exact calibration v1", 0, &[]);
    let rows: Vec<Vec<f64>> = (0..ROWS)
        .map(|_| inputs.iter().map(|range| drawn(range, &mut stream)).collect())
        .collect();
    quantise(model, &rows, precision)
}

fn drawn(range: &Range, stream: &mut Stream) -> f64 {
    if range.min < 0.0 && range.max > 0.0 {
        // Twelve uniform numbers from -1 to 1 have a sum of variance 4.
        let normal = (0..12).map(|_| stream.symmetric()).sum::<f64>() / 2.0;
        let deviation = range.max.min(-range.min) / 2.0;
        return (normal * deviation).clamp(range.min, range.max);
    }
    range.min + (range.max - range.min) * (stream.symmetric() + 1.0) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use galen_models::{Layer, ModelSpec, Shape};

    fn model() -> Model {
        let spec = ModelSpec {
            input: Shape::Features(3),
            layers: vec![
                Layer::Dense { outputs: 4 },
                Layer::Relu,
                Layer::Dense { outputs: 1 },
            ],
        };
        Model::initial(spec, 2).unwrap()
    }

    #[test]
    fn ranges_alone_give_the_same_model_each_time() {
        let ranges = [Range::new(-2.0, 9.0), Range::new(0.0, 1.0), Range::new(-1.0, 1.0)];
        let make = || quantise_recorded(&model(), &ranges, Precision::ALL[0]).unwrap();
        assert_eq!(make(), make());
        let first = &make().encoder().features()[0].thresholds().to_vec();
        assert!(first.iter().all(|t| (-2.0..9.0).contains(t)), "{first:?}");
    }

    #[test]
    fn ranges_that_are_none_are_refused() {
        let quantise = |ranges: &[Range]| quantise_recorded(&model(), ranges, Precision::ALL[0]);
        let good = Range::new(-1.0, 1.0);
        assert!(matches!(
            quantise(&[good; 2]),
            Err(QuantiseError::Ranges {
                expected: 3,
                found: 2
            })
        ));
        for wrong in [Range::EMPTY, Range::new(0.0, f64::INFINITY), Range::new(2.0, 1.0)] {
            let refused = quantise(&[good, wrong, good]);
            assert!(matches!(refused, Err(QuantiseError::Range { input: 1 })));
        }
    }
}
