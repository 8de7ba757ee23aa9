//! Sizes of every preset, and the precision that is left after each operation:
//! `cargo bench -p galen-ckks --bench precision [-- --write]` prints the tables of docs/presets.md, or writes them there.
#![allow(clippy::print_stdout, reason = "printing is what this is for")]

use galen_ckks::CkksError;
use galen_ckks::ciphertext::Ciphertext;
use galen_ckks::context::Context;
use galen_ckks::evaluate::Evaluator;
use galen_ckks::galois::GaloisKeys;
use galen_ckks::keys::{PublicKey, RelinKey, SecretKey};
use galen_ckks::preset::Preset;
use galen_measure::{machine, peak_mib};
use galen_rns::kernel::describe;
use galen_rns::xof::Xof;
use std::fmt::Write;

/// The tables stand between these lines.
const BEGIN: &str = "<!-- written by the precision benchmark -->";
const END: &str = "<!-- end -->";

/// Repeatable values in -1..1.
fn values(count: usize, salt: u64) -> Vec<f64> {
    let mut xof = Xof::new(&[9; 32], &[b"precision", &salt.to_le_bytes()]);
    (0..count)
        .map(|_| (xof.next_u64() >> 11) as f64 / (1u64 << 52) as f64 - 1.0)
        .collect()
}

fn mib(bytes: usize) -> String {
    format!("{:.2}", bytes as f64 / f64::from(1 << 20))
}

/// Everything that is made once for a preset.
struct Bench {
    ctx: std::sync::Arc<Context>,
    sk: SecretKey,
    pk: PublicKey,
    relin: RelinKey,
    galois: GaloisKeys,
}

impl Bench {
    fn new(preset: &Preset) -> Result<Self, CkksError> {
        let ctx = Context::new(preset)?;
        let sk = SecretKey::from_seed(&ctx, &[1; 32])?;
        Ok(Self {
            pk: sk.public_key()?,
            relin: sk.relin_key()?,
            galois: sk.galois_keys(&[1])?,
            sk,
            ctx,
        })
    }

    /// Bits after the binary point that are right in every slot, and those that were planned for.
    fn bits(&self, ct: &Ciphertext, expected: impl Fn(usize) -> f64) -> Result<String, CkksError> {
        let decoded = self.ctx.decode(&self.sk.decrypt(ct)?)?;
        let error = decoded
            .iter()
            .enumerate()
            .map(|(k, got)| (got - expected(k)).abs())
            .fold(0.0, f64::max);
        Ok(format!("{:.1} ({:.1})", -error.log2(), ct.precision_bits()))
    }

    fn sizes(&self) -> Result<String, CkksError> {
        let preset = self.ctx.preset();
        let spec = preset.spec();
        let plain = self.ctx.encode(&[0.5], 1.0)?;
        let galois = GaloisKeys::bytes_of(&self.ctx, 1);
        Ok(format!(
            "| `{}` | {} of {} | {} | {} | 1x{} + {}x{} | {}x{} | {} | {} | {} | {} | {} |",
            preset.name(),
            preset.log2_qp(),
            preset.security_bound().unwrap_or_default(),
            self.ctx.slots(),
            spec.levels,
            spec.base_bits,
            spec.levels,
            spec.scale_bits,
            spec.special,
            spec.special_bits,
            (spec.levels + 1).div_ceil(spec.digit),
            mib(self.sk.encrypt(&plain)?.to_bytes()?.len()),
            mib(self.pk.encrypt(&plain)?.to_bytes()?.len()),
            mib(self.relin.to_bytes()?.len()),
            mib(galois),
        ))
    }

    fn precision(&self) -> Result<String, CkksError> {
        let ctx = &self.ctx;
        // Whatever is left shall be shown.
        let ev = Evaluator::new(ctx).with_min_precision(-1000.0);
        let op = ev.aligned(&self.relin);
        let n = ctx.slots();
        let (x, y) = (values(n, 1), values(n, 2));
        let (a, b) = (
            self.pk.encrypt(&ctx.encode(&x, 1.0)?)?,
            self.pk.encrypt(&ctx.encode(&y, 1.0)?)?,
        );
        let secret = self.sk.encrypt(&ctx.encode(&x, 1.0)?)?;
        // To full depth: x^2^... would vanish, so the slots are signs, whose powers stay.
        let signs: Vec<f64> = x.iter().map(|x| x.signum()).collect();
        let mut power = self.pk.encrypt(&ctx.encode(&signs, 1.0)?)?;
        let mut depth = 0;
        while depth < ctx.max_level() {
            match op.square(&power) {
                // Values are known to stay within 1, which products of bounds would not say.
                Ok(square) => power = square.with_magnitude_bound(ctx, 1.0)?,
                // The noise that is allowed for has reached the message.
                Err(CkksError::Overflow { .. }) => break,
                Err(error) => return Err(error),
            }
            depth += 1;
        }
        let cells = [
            self.bits(&secret, |k| x[k])?,
            self.bits(&a, |k| x[k])?,
            self.bits(&ev.add(&a, &b)?, |k| x[k] + y[k])?,
            self.bits(&op.mul_values(&a, &y, 1.0)?, |k| x[k] * y[k])?,
            self.bits(&op.mul(&a, &b)?, |k| x[k] * y[k])?,
            self.bits(&ev.rotate(&a, 1, &self.galois)?, |k| x[(k + 1) % n])?,
            format!("{} at depth {depth}", self.bits(&power, |_| 1.0)?),
        ];
        Ok(format!("| `{}` | {} |", ctx.preset().name(), cells.join(" | ")))
    }
}

fn tables() -> Result<String, CkksError> {
    let (mut sizes, mut precision) = (String::new(), String::new());
    for preset in Preset::all() {
        let bench = Bench::new(&preset)?;
        // Writing to a string does not fail.
        let _ = writeln!(sizes, "{}", bench.sizes()?);
        let _ = writeln!(precision, "{}", bench.precision()?);
    }
    Ok(format!(
        "Sizes (ciphertexts at the top level and keys in MiB; `seeded` is encrypted under the secret key):\n\n\
         | preset | log2(QP) of bound | slots | levels | Q | P | digits | ct, seeded | ct, public key | relin. key | Galois key |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n{sizes}\n\
         Precision: bits after the binary point that are right in every slot, measured with values in -1..1, and in \
         brackets those that the noise bound promises:\n\n\
         | preset | fresh, secret key | fresh, public key | add | x plaintext | x ciphertext | rotate | full depth |\n\
         |---|---|---|---|---|---|---|---|\n{precision}"
    ))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("{}\n{}", machine(), describe());
    let tables = tables()?;
    if !std::env::args().any(|arg| arg == "--write") {
        println!("{tables}");
        if let Some(mib) = peak_mib() {
            println!("peak memory {mib:.0} MiB");
        }
        return Ok(());
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/presets.md");
    let page = std::fs::read_to_string(path)?;
    let (head, rest) = page
        .split_once(BEGIN)
        .ok_or("docs/presets.md has no place for the tables")?;
    let (_, tail) = rest
        .split_once(END)
        .ok_or("docs/presets.md has no end of the tables")?;
    std::fs::write(path, format!("{head}{BEGIN}\n\n{tables}\n{END}{tail}"))?;
    Ok(())
}
