//! The CryptoNets network on encrypted batches, one image per slot.
//!
//! Convolution 5x5 with stride 2 and padding 1 from 28x28 pixels to 5 maps of 13x13, square, dense 845 to 100, square, dense
//! 100 to 10 (Gilad-Bachrach et al., CryptoNets, ICML 2016; the layers as other libraries are measured with). [`CryptoNets`] has
//! the weights and the plain computation, [`EncryptedCryptoNets`] the encrypted one.
//!
//! The encrypted network spends the modulus on one long stretch without any division: convolution, square and dense layer run at the top
//! level as one [`QuadraticMap`], whose 845 hidden values are never relinearised, rescaled or even stored. The 100 sums
//! that come out of it, with a scale of some hundred bits, are relinearised and divided by all primes down to level 1, where the
//! second square and the last layer have room. So there are 100 + 10 relinearisations in place of 945, and few wide primes do
//! for many narrow ones: a multiply-add costs the same for a prime of 30 bits as for one of 50.
#![allow(dead_code, reason = "each program that includes this file uses a part of it")]

use galen_ckks::CkksError;
use galen_ckks::ciphertext::{Ciphertext, Plaintext};
use galen_ckks::context::{Context, Target};
use galen_ckks::evaluate::Evaluator;
use galen_ckks::keys::RelinKey;
use galen_ckks::linear::{Convolution, LinearMap, QuadraticMap};
use galen_rns::xof::Xof;
use rayon::prelude::*;
use std::sync::Arc;

/// Pixels of an image: inputs of the network.
pub(crate) const PIXELS: usize = 28 * 28;
/// Classes: outputs of the network.
pub(crate) const CLASSES: usize = 10;

const CONVOLUTION: Convolution = Convolution {
    channels: 1,
    image: [28, 28],
    maps: 5,
    kernel: [5, 5],
    stride: [2, 2],
    padding: [1, 1],
};
const HIDDEN: usize = 100;

/// Bits of the weights of the convolution, of the dense layer and of the last one (a weight of 1 has this many before its
/// last).
const WEIGHT_BITS: [i32; 3] = [15, 18, 15];

/// The layers, with weights.
#[derive(Debug, Clone)]
pub(crate) struct CryptoNets {
    layers: [LinearMap; 3],
    biases: [Vec<f64>; 3],
}

impl CryptoNets {
    /// From weights (those of the convolution map by map, the others row by row) and biases: one per map for the
    /// convolution, one per output for the others.
    ///
    /// # Errors
    /// [`CkksError::Count`] for other numbers of them.
    pub(crate) fn new(weights: [Vec<f64>; 3], biases: [Vec<f64>; 3]) -> Result<Self, CkksError> {
        let [convolution, first, second] = weights;
        let convolution = LinearMap::convolution(&CONVOLUTION, &convolution)?;
        let first = LinearMap::dense(convolution.outputs(), first)?;
        let second = LinearMap::dense(HIDDEN, second)?;
        let [maps, hidden, classes] = biases;
        let expected = [CONVOLUTION.maps, HIDDEN, CLASSES, HIDDEN, CLASSES];
        let found = [
            maps.len(),
            hidden.len(),
            classes.len(),
            first.outputs(),
            second.outputs(),
        ];
        if let Some((&min, &count)) = expected.iter().zip(&found).find(|(a, b)| a != b) {
            return Err(CkksError::Count { count, min, max: min });
        }
        let places = convolution.outputs() / CONVOLUTION.maps;
        let maps = maps.iter().flat_map(|&b| vec![b; places]).collect();
        Ok(Self {
            layers: [convolution, first, second],
            biases: [maps, hidden, classes],
        })
    }

    /// With uniform weights of the variance `2 / inputs` (He et al., arXiv 1502.01852, section 2.2), and biases within 1/8.
    ///
    /// # Errors
    /// None.
    pub(crate) fn random(seed: u64) -> Result<Self, CkksError> {
        let mut xof = Xof::new(&[0; 32], &[b"cryptonets weights", &seed.to_le_bytes()]);
        let mut draw = |count: usize, limit: f64| -> Vec<f64> {
            let symmetric = |x: u64| (x >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
            (0..count).map(|_| symmetric(xof.next_u64()) * limit).collect()
        };
        let mut layer = |inputs: usize, outputs: usize| draw(inputs * outputs, (6.0 / inputs as f64).sqrt());
        let weights = [
            layer(25, CONVOLUTION.maps),
            layer(845, HIDDEN),
            layer(HIDDEN, CLASSES),
        ];
        let biases = [CONVOLUTION.maps, HIDDEN, CLASSES].map(|count| draw(count, 0.125));
        Self::new(weights, biases)
    }

    /// Products of a weight and a value.
    pub(crate) fn multiply_adds(&self) -> [usize; 3] {
        [0, 1, 2].map(|layer| self.layers[layer].terms())
    }

    /// The logits of one image, pixels row by row, in doubles.
    ///
    /// # Errors
    /// [`CkksError::Count`] for another number of pixels.
    pub(crate) fn logits(&self, pixels: &[f64]) -> Result<Vec<f64>, CkksError> {
        let mut values = pixels.to_vec();
        for (index, (layer, biases)) in self.layers.iter().zip(&self.biases).enumerate() {
            let last = index + 1 == self.layers.len();
            values = layer.apply_clear(&values)?;
            for (x, b) in values.iter_mut().zip(biases) {
                *x += b;
                if !last {
                    *x *= *x;
                }
            }
        }
        Ok(values)
    }

    /// Bounds on the absolute hidden values of the dense layer before they are squared, one each: for every image with pixels in
    /// 0..=1, by interval arithmetic.
    fn hidden_bounds(&self) -> Vec<f64> {
        let sums = |layer: usize, below: &[f64]| -> Vec<[f64; 2]> {
            let biases = self.biases[layer].iter().enumerate();
            biases
                .map(|(output, &bias)| {
                    // Inputs are between zero and these bounds.
                    self.layers[layer]
                        .row(output)
                        .fold([bias; 2], |[low, high], (input, w)| {
                            let end = w * below[input];
                            [low + end.min(0.0), high + end.max(0.0)]
                        })
                })
                .collect()
        };
        let largest = |[low, high]: &[f64; 2]| low.abs().max(high.abs());
        let squares: Vec<f64> = sums(0, &[1.0; PIXELS])
            .iter()
            .map(|range| largest(range).powi(2))
            .collect();
        // Rounding of these sums is far below the part by which they are made larger.
        sums(1, &squares)
            .iter()
            .map(|range| largest(range) * (1.0 + 1e-9))
            .collect()
    }
}

/// The network laid out over the levels of a preset.
#[derive(Debug, Clone)]
pub(crate) struct EncryptedCryptoNets {
    context: Arc<Context>,
    evaluator: Evaluator,
    /// Convolution, square and dense layer.
    first: QuadraticMap,
    hidden_biases: Vec<f64>,
    hidden_bounds: Vec<f64>,
    last: LinearMap,
    last_biases: Vec<f64>,
    input_scale: f64,
    convolution_scale: f64,
    /// Of the sums of the dense layer, at the top level.
    dense: Target,
    /// Of the logits before the last division.
    logits: Target,
}

impl EncryptedCryptoNets {
    /// Lays the network out: scales are as large as the modulus of level 1 allows for whatever image there may be. At least two
    /// levels are needed, and more bits above level 1 make it more precise.
    ///
    /// # Errors
    /// [`CkksError::LevelRange`] with fewer levels, [`CkksError::InvalidScale`] if the modulus is too small.
    pub(crate) fn new(context: &Arc<Context>, network: &CryptoNets) -> Result<Self, CkksError> {
        let [convolution, dense, last] = network.layers.clone();
        let [biases, hidden_biases, last_biases] = network.biases.clone();
        let hidden_bounds = network.hidden_bounds();
        let (top, primes) = (context.max_level(), context.preset().primes());
        // A sum of squares times weights, at the scale of the square of hidden values times that of weights, fits in level 1.
        let logit_bound = (0..CLASSES).fold(0.0f64, |bound, class| {
            let sum: f64 = last
                .row(class)
                .map(|(unit, w)| w.abs() * hidden_bounds[unit].powi(2))
                .sum();
            bound.max(sum + last_biases[class].abs())
        });
        let room = context.log2_q(1)? - logit_bound.log2() - f64::from(WEIGHT_BITS[2]) - 1.5;
        let hidden_scale = (room / 2.0).floor().exp2();
        // What is divided by on the way there.
        let divisor: f64 = primes[2..=top].iter().map(|&q| q as f64).product();
        let dense_scale = hidden_scale * divisor;
        let convolution_bits = ((dense_scale.log2() - f64::from(WEIGHT_BITS[1])) / 2.0).floor();
        Ok(Self {
            context: Arc::clone(context),
            // Precision is what the benchmark measures; the static bound, which no image comes near, is reported.
            evaluator: Evaluator::new(context).with_min_precision(f64::NEG_INFINITY),
            first: QuadraticMap::new(convolution, biases, dense)?,
            hidden_biases,
            hidden_bounds,
            last,
            last_biases,
            input_scale: (convolution_bits - f64::from(WEIGHT_BITS[0])).exp2(),
            convolution_scale: convolution_bits.exp2(),
            dense: Target {
                level: top,
                scale: dense_scale,
            },
            logits: Target {
                level: 1,
                scale: hidden_scale * hidden_scale * f64::from(WEIGHT_BITS[2]).exp2(),
            },
        })
    }

    /// The scales of pixels, of the convolution and of the dense layer, as bits.
    pub(crate) fn scale_bits(&self) -> [f64; 3] {
        [self.input_scale, self.convolution_scale, self.dense.scale].map(f64::log2)
    }

    /// One pixel of every image of the batch, 0 to 1, as it is to be encrypted.
    ///
    /// # Errors
    /// Those of [`Context::encode_at`].
    pub(crate) fn encode(&self, pixels: &[f64]) -> Result<Plaintext, CkksError> {
        self.context
            .encode_at(pixels, 1.0, self.dense.level, self.input_scale)
    }

    /// The encrypted logits, one ciphertext of level 0 per class, from one ciphertext per pixel. `done` is told each stage as it
    /// ends. Runs in the current rayon pool; the result does not depend on it.
    ///
    /// # Errors
    /// Those of the operations, for ciphertexts that are not such pixels.
    pub(crate) fn run(
        &self,
        key: &RelinKey,
        pixels: &[&Ciphertext],
        done: &mut dyn FnMut(&'static str),
    ) -> Result<Vec<Ciphertext>, CkksError> {
        let ev = &self.evaluator;
        let sums = ev.apply_quadratic(&self.first, pixels, self.convolution_scale, self.dense)?;
        done("convolution, square, dense");
        let hidden = self.finish_hidden(key, sums)?;
        done("relinearise, rescale");
        let squares = each(&hidden, |_, ct| ev.square(ct))?;
        done("square");
        let logits = ev.apply(&self.last, &squares.iter().collect::<Vec<_>>(), self.logits)?;
        done("dense");
        let logits = each(&logits, |class, ct| {
            let biased = ev.add_scalar(ct, self.last_biases[class])?;
            ev.relin_rescale(&biased, key)
        })?;
        done("relinearise, rescale");
        Ok(logits)
    }

    /// [`Self::run`] with convolution, square and dense layer one after the other, all hidden values in memory: the same
    /// result, and stages that can be told apart.
    ///
    /// # Errors
    /// Those of [`Self::run`].
    pub(crate) fn run_layers(
        &self,
        key: &RelinKey,
        pixels: &[&Ciphertext],
        done: &mut dyn FnMut(&'static str),
    ) -> Result<Vec<Ciphertext>, CkksError> {
        let ev = &self.evaluator;
        let target = Target {
            scale: self.convolution_scale,
            ..self.dense
        };
        let sums = ev.apply(self.first.inner(), pixels, target)?;
        done("convolution");
        let squares = each(&sums, |index, ct| {
            ev.square(&ev.add_scalar(ct, self.first.constants()[index])?)
        })?;
        drop(sums);
        done("square");
        let sums = ev.apply(
            self.first.outer(),
            &squares.iter().collect::<Vec<_>>(),
            self.dense,
        )?;
        drop(squares);
        done("dense");
        let hidden = self.finish_hidden(key, sums)?;
        done("relinearise, rescale");
        let squares = each(&hidden, |_, ct| ev.square(ct))?;
        let logits = ev.apply(&self.last, &squares.iter().collect::<Vec<_>>(), self.logits)?;
        let logits = each(&logits, |class, ct| {
            let biased = ev.add_scalar(ct, self.last_biases[class])?;
            ev.relin_rescale(&biased, key)
        })?;
        done("second half");
        Ok(logits)
    }

    /// Sums of the dense layer at the top level and of degree 2 to hidden values at level 1 and of degree 1.
    fn finish_hidden(&self, key: &RelinKey, sums: Vec<Ciphertext>) -> Result<Vec<Ciphertext>, CkksError> {
        let ev = &self.evaluator;
        sums.into_par_iter()
            .enumerate()
            .map(|(unit, mut sum)| {
                ev.add_scalar_assign(&mut sum, self.hidden_biases[unit])?;
                let mut hidden = ev.relin_rescale(&sum, key)?;
                while hidden.level() > 1 {
                    hidden = ev.rescale(&hidden)?;
                }
                hidden.with_magnitude_bound(&self.context, self.hidden_bounds[unit])
            })
            .collect()
    }
}

/// An operation on every ciphertext, in parallel.
fn each(
    cts: &[Ciphertext],
    operation: impl Fn(usize, &Ciphertext) -> Result<Ciphertext, CkksError> + Sync,
) -> Result<Vec<Ciphertext>, CkksError> {
    cts.par_iter()
        .enumerate()
        .map(|(index, ct)| operation(index, ct))
        .collect()
}
