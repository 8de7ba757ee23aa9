//! Context, keys and operands of one parameter set, and what is measured on them.

use crate::clock::measure;
use crate::program::{Machine, Step, rotations};
use crate::protocol::{Opened, Outputs, Parameters, Times};
use anyhow::{Result, bail};
use galen_ckks::ciphertext::{Ciphertext, Plaintext};
use galen_ckks::context::Context;
use galen_ckks::evaluate::Evaluator;
use galen_ckks::galois::GaloisKeys;
use galen_ckks::keys::{PublicKey, RelinKey, SecretKey};
use galen_ckks::preset::Preset;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bound on the slot values of operands and inputs.
const MAGNITUDE: f64 = 1.0;

/// The constant of the product with a constant.
const SCALAR: f64 = 0.7;

/// The operations that can be measured.
const OPERATIONS: [&str; 15] = [
    "encode",
    "encrypt_public",
    "encrypt_secret",
    "decrypt",
    "decode",
    "add",
    "multiply_scalar",
    "multiply_plain",
    "multiply_plain_rescale",
    "multiply_relin_rescale",
    "square_relin_rescale",
    "rescale",
    "rotate",
    "relin_keygen",
    "galois_keygen",
];

/// One parameter set in use.
pub(crate) struct Session {
    context: Arc<Context>,
    secret: SecretKey,
    public: PublicKey,
    relin: RelinKey,
    galois: GaloisKeys,
    values: Vec<f64>,
    plain: [Plaintext; 2],
    /// Encrypted under the public key.
    operands: [Ciphertext; 2],
}

impl Session {
    /// Makes the keys and encrypts the operands.
    pub(crate) fn open(parameters: &Parameters, operands: [Vec<f64>; 2]) -> Result<Self> {
        let preset = Preset::new(parameters.spec())?;
        let context = Context::new(&preset)?;
        let secret = SecretKey::generate(&context)?;
        let public = secret.public_key()?;
        let plain = [
            context.encode(&operands[0], MAGNITUDE)?,
            context.encode(&operands[1], MAGNITUDE)?,
        ];
        let [values, _] = operands;
        Ok(Self {
            relin: secret.relin_key()?,
            galois: secret.galois_keys(&[1])?,
            operands: [public.encrypt(&plain[0])?, public.encrypt(&plain[1])?],
            context,
            secret,
            public,
            values,
            plain,
        })
    }

    /// What was opened.
    pub(crate) fn description(&self) -> Opened {
        let preset = self.context.preset();
        Opened {
            name: preset.name().to_owned(),
            log2_qp: preset.log2_qp(),
            security_bound: preset.security_bound(),
            levels: preset.max_level(),
            slots: self.context.slots(),
            digits: (preset.max_level() + 1).div_ceil(preset.spec().digit),
            operations: OPERATIONS.to_vec(),
        }
    }

    /// Measures an operation. Results go to where earlier ones were, as a caller in a loop would do.
    pub(crate) fn time(&self, operation: &str, samples: usize, sample_ms: f64) -> Result<Times> {
        let evaluator = Evaluator::new(&self.context);
        let [a, b] = &self.operands;
        let [plain, factor] = &self.plain;
        let target = self.context.product_target(self.context.max_level())?;
        let mut out = evaluator.empty();
        match operation {
            "encode" => measure(samples, sample_ms, || {
                Ok(self.context.encode(&self.values, MAGNITUDE)?)
            }),
            "encrypt_public" => measure(samples, sample_ms, || {
                Ok(self.public.encrypt_into(plain, &mut out)?)
            }),
            "encrypt_secret" => measure(samples, sample_ms, || {
                Ok(self.secret.encrypt_into(plain, &mut out)?)
            }),
            "decrypt" => {
                let mut decrypted = plain.clone();
                measure(samples, sample_ms, || {
                    Ok(self.secret.decrypt_into(a, &mut decrypted)?)
                })
            }
            "decode" => {
                let decrypted = self.secret.decrypt(a)?;
                measure(samples, sample_ms, || Ok(self.context.decode(&decrypted)?))
            }
            "add" => measure(samples, sample_ms, || Ok(evaluator.add_into(a, b, &mut out)?)),
            "multiply_scalar" => measure(samples, sample_ms, || {
                Ok(evaluator.mul_scalar_into(a, SCALAR, target, &mut out)?)
            }),
            "multiply_plain" => measure(samples, sample_ms, || {
                Ok(evaluator.mul_plain_into(a, factor, &mut out)?)
            }),
            "multiply_plain_rescale" => measure(samples, sample_ms, || {
                Ok(evaluator.mul_plain_rescale_into(a, factor, &mut out)?)
            }),
            "multiply_relin_rescale" => measure(samples, sample_ms, || {
                Ok(evaluator.multiply_relin_rescale_into(a, b, &self.relin, &mut out)?)
            }),
            "square_relin_rescale" => measure(samples, sample_ms, || {
                Ok(evaluator.square_relin_rescale_into(a, &self.relin, &mut out)?)
            }),
            "rescale" => {
                let product = evaluator.mul_plain(a, factor)?;
                measure(samples, sample_ms, || {
                    Ok(evaluator.rescale_into(&product, &mut out)?)
                })
            }
            "rotate" => measure(samples, sample_ms, || {
                Ok(evaluator.rotate_into(a, 1, &self.galois, &mut out)?)
            }),
            "relin_keygen" => measure(samples, sample_ms, || Ok(self.secret.relin_key()?)),
            "galois_keygen" => measure(samples, sample_ms, || Ok(self.secret.galois_keys(&[1])?)),
            _ => bail!(
                "unknown operation {operation}; known are {}",
                OPERATIONS.join(", ")
            ),
        }
    }

    /// Bytes of ciphertexts at the top level and of the keys. All keys are stored with seeds for their uniform halves.
    pub(crate) fn sizes(&self) -> Result<BTreeMap<&'static str, usize>> {
        let seeded = self.secret.encrypt(&self.plain[0])?;
        Ok(BTreeMap::from([
            ("ciphertext", self.operands[0].to_bytes()?.len()),
            ("ciphertext_seeded", seeded.to_bytes()?.len()),
            ("public_key", self.public.to_bytes()?.len()),
            ("relin_key_seeded", self.relin.to_bytes()?.len()),
            ("galois_key_seeded", self.galois.to_bytes()?.len()),
        ]))
    }

    /// Encrypts under the public key, runs a program, decrypts.
    pub(crate) fn evaluate(
        &self,
        inputs: &BTreeMap<String, Vec<f64>>,
        program: &[Step],
        outputs: &[String],
    ) -> Result<Outputs> {
        let rotations = rotations(program);
        let galois = match rotations.as_slice() {
            [] => None,
            steps => Some(self.secret.galois_keys(steps)?),
        };
        let mut machine = Machine {
            context: &self.context,
            relin: &self.relin,
            galois: galois.as_ref(),
            vectors: BTreeMap::new(),
        };
        for (name, values) in inputs {
            let plain = self.context.encode(values, MAGNITUDE)?;
            machine.vectors.insert(name.clone(), self.public.encrypt(&plain)?);
        }
        machine.run(program)?;
        let (mut values, mut stated_bits) = (BTreeMap::new(), BTreeMap::new());
        for name in outputs {
            let result = machine.get(name)?;
            stated_bits.insert(name.clone(), result.precision_bits());
            let decoded = self.context.decode(&self.secret.decrypt(result)?)?;
            values.insert(name.clone(), decoded);
        }
        Ok(Outputs { values, stated_bits })
    }
}
