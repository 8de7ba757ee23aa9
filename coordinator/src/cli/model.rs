//! `coordinator model`: the models that parties may ask, and what evaluating one would cost.

use super::exact::{self, ExactArgs};
use super::output::Outcome;
use crate::home::Home;
use crate::serving::ModelStatus;
use crate::serving::registry::{self, Package};
use crate::status::Status;
use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use galen_core::{Clock, Digest, SystemClock};
use galen_inference::{Calibration, CompileError, Expense, LINE_BITS, Memory, Plan, Precision, Program};
use galen_models::{MAX_FILE_BYTES, ModelError, ModelFile};
use galen_net::protocol::Engine;
use galen_rns::threads;
use serde_json::json;
use std::fmt::Write;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(crate) const PLAN: &str = "\
Compiles a model and says what a batch of it needs, before anything is encrypted: CKKS preset and its security, levels, precision, bytes that cross the network, memory, operations, and the time that it takes on this machine, from a calibration of a second or two.

A model file (.safetensors) must say where its inputs lie: `party train` writes such files. A network of polynomials is planned for CKKS: batches of thousands of patients, approximate scores. A network with ReLU, sign or other tables, or one with --engine tfhe, is quantised by the ranges of its inputs and planned for TFHE: patient by patient, exact, and nothing revealed but what --reveal says. `party model quantise` quantises by patients, and trees; the plan of its file (.json) is shown too.

Examples:
  coordinator model plan model.safetensors --format json
  coordinator model plan model.safetensors --engine tfhe --reveal decision --threshold 0.5";

pub(crate) const ADD: &str = "\
Compiles a model, which takes seconds for tables and up to minutes for networks on images, and hands it to the daemon, also while that runs. Parties ask for it by its name, or by the digest of a version; the last versions of a name are kept (keep_versions in config.toml).

Example: coordinator model add model.safetensors --name heart --dir coordinator
Next:    coordinator model list --dir coordinator; each hospital: party query heart --data patients.csv --schema heart.toml";

pub(crate) const LIST: &str = "\
Shows the models that parties may ask, with their versions, as the daemon last said, and what waits for the daemon to be done.

Example: coordinator model list --dir coordinator";

pub(crate) const REMOVE: &str = "\
Has the daemon remove all versions of a name, or the version of a digest (or of its first 8 digits and more). Queries that wait for it fail.

Example: coordinator model remove heart --dir coordinator";

/// Older than this, the daemon that wrote the status does not run any more.
const STALE_MS: u64 = 10_000;
/// How long the daemon may take to make a program that was compiled before.
const PATIENCE: Duration = Duration::from_secs(300);

/// Arguments of `model plan`.
#[derive(Args)]
pub(crate) struct PlanArgs {
    /// A model (.safetensors), or a quantised one (.json).
    pub(super) file: PathBuf,
    /// How it is to be evaluated.
    #[arg(long, value_enum, default_value_t = Wanted::Auto)]
    engine: Wanted,
    #[command(flatten)]
    pub(super) exact: ExactArgs,
    /// Under CKKS: bits after the binary point of the outputs that are to be right.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=24))]
    precision_bits: u32,
    /// Threads; 0 for one per core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Under CKKS: what is compiled beside the way for many patients, one in every slot. A packed question can be put such that rows of the first layer
    /// show in parts: take slots where hospitals are to learn as little of the weights as they can.
    #[arg(long, value_enum, default_value_t = Packing::Auto)]
    packing: Packing,
    /// Under CKKS: most memory for the ciphertexts of a batch that is evaluated, in MiB; a model that needs more is refused.
    #[arg(long, value_name = "MIB")]
    max_memory: Option<u64>,
    /// With --max-memory: what does not fit waits on disk, in the coordinator's folder, instead.
    #[arg(long, requires = "max_memory")]
    spill: bool,
}

/// Arguments of `model add`.
#[derive(Args)]
pub(crate) struct AddArgs {
    #[command(flatten)]
    plan: PlanArgs,
    /// The coordinator's folder.
    #[arg(long)]
    dir: PathBuf,
    /// Name by which parties ask; that of the file without one.
    #[arg(long)]
    name: Option<String>,
}

/// Which engine is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Wanted {
    /// CKKS for a network of polynomials, TFHE for any other and for quantised models.
    Auto,
    /// Batches, approximately.
    Ckks,
    /// Patient by patient, exactly.
    Tfhe,
}

/// Which ways of packing patients are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Packing {
    /// The way for few patients, where it is at least twice as fast for one.
    Auto,
    /// Nothing: whoever asks about few patients sends as much as for thousands.
    Slots,
    /// The way for few patients, also where it is not faster.
    Packed,
}

/// What a file is planned as.
enum Plans {
    Ckks(Box<Planned>),
    Tfhe(Box<exact::Planned>),
}

impl Plans {
    fn of(args: &PlanArgs) -> anyhow::Result<Self> {
        threads::set_default(args.threads).context("--threads")?;
        let path = args.file.display().to_string();
        let mut bytes = Vec::new();
        let file = std::fs::File::open(&args.file).with_context(|| path.clone())?;
        file.take(MAX_FILE_BYTES as u64 + 1)
            .read_to_end(&mut bytes)
            .with_context(|| path.clone())?;
        if args
            .file
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("json"))
        {
            ensure!(
                args.engine != Wanted::Ckks,
                "{path} is a quantised model, which only TFHE evaluates"
            );
            return Ok(Self::Tfhe(Box::new(
                exact::read(&bytes, &args.exact).context(path)?,
            )));
        }
        let file = ModelFile::from_safetensors(&bytes).with_context(|| path.clone())?;
        let polynomial = file.model.spec().is_polynomial();
        if args.engine == Wanted::Tfhe || (args.engine == Wanted::Auto && !polynomial) {
            return Ok(Self::Tfhe(Box::new(
                exact::quantise(&file, &args.exact).context(path)?,
            )));
        }
        Ok(Self::Ckks(Box::new(compile(args, bytes, &file).context(path)?)))
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Ckks(planned) => Outcome {
                text: text(planned),
                data: data(planned),
            },
            Self::Tfhe(planned) => planned.outcome(),
        }
    }
}

/// A compiled model with what it costs here.
struct Planned {
    bytes: Vec<u8>,
    program: Program,
    seconds: f64,
    packed: Few,
}

/// The way for few patients.
enum Few {
    /// Compiled, with the seconds of a batch, and the most patients for whom it is faster.
    Planned(Box<Program>, f64, usize),
    /// There is none, for a reason.
    None(String),
}

impl Planned {
    /// The programs that are registered, with the seconds of a batch: the one for few patients where it is worth a key of its own, or asked for.
    fn registered(&self, packing: Packing) -> Vec<(&Program, f64)> {
        let mut all = vec![(&self.program, self.seconds)];
        if let Few::Planned(program, seconds, most) = &self.packed
            && (is_worth_it(program, *most) || packing == Packing::Packed)
        {
            all.push((program, *seconds));
        }
        all
    }
}

/// Whether a way for few patients is at least twice as fast for one, so that two batches are faster than one of the other way: every hospital
/// makes and sends keys of some megabytes for it.
fn is_worth_it(packed: &Program, most: usize) -> bool {
    most >= 2 * packed.plan().max_patients
}

fn compile(args: &PlanArgs, bytes: Vec<u8>, file: &ModelFile) -> anyhow::Result<Planned> {
    let show = std::io::stderr().is_terminal();
    let progress = |tried: u32, of: u32| {
        if show {
            eprint!("\rcompiling: {tried} of at most {of} ways tried ");
        }
    };
    let limited = |mib: u64| Memory {
        max_bytes: mib.saturating_mul(1 << 20),
        spill: args.spill,
    };
    let memory = args.max_memory.map_or(Memory::UNLIMITED, limited);
    let program = Program::compile_watched(file, args.precision_bits, memory, &progress);
    if show {
        eprint!("\r\x1b[K");
    }
    let program = program?;
    let calibration = Calibration::measure(program.plan())?;
    let seconds = calibration.evaluation(program.plan());
    let packed = if args.packing == Packing::Slots {
        Few::None("it was not asked for".into())
    } else {
        few(
            args,
            file,
            memory.max_bytes,
            &Expense::of_plan(program.plan(), seconds),
        )?
    };
    Ok(Planned {
        seconds,
        bytes,
        program,
        packed,
    })
}

/// The way for few patients, beside one that takes this.
fn few(args: &PlanArgs, file: &ModelFile, max_bytes: u64, many: &Expense) -> anyhow::Result<Few> {
    let program = match Program::compile_packed(file, args.precision_bits, max_bytes) {
        Ok(program) => program,
        Err(error) if args.packing == Packing::Packed => return Err(error.into()),
        Err(error) => return Ok(Few::None(error.to_string())),
    };
    let calibration = Calibration::measure(program.plan())?;
    let seconds = calibration.evaluation(program.plan());
    let most = Expense::of_plan(program.plan(), seconds).faster_up_to(many);
    Ok(Few::Planned(Box::new(program), seconds, most))
}

pub(crate) fn plan(args: &PlanArgs) -> anyhow::Result<Outcome> {
    Ok(Plans::of(args)?.outcome())
}

fn data(planned: &Planned) -> serde_json::Value {
    let of = |plan: &Plan, seconds: f64| json!({ "engine": "ckks", "plan": plan, "seconds_per_batch": seconds, "patients_per_hour": hourly(plan, seconds) });
    let mut data = of(planned.program.plan(), planned.seconds);
    let packed = match &planned.packed {
        Few::Planned(program, seconds, most) => {
            let mut packed = of(program.plan(), *seconds);
            packed["faster_up_to_patients"] = json!(most);
            packed
        }
        Few::None(reason) => json!({ "none": reason }),
    };
    data["packed"] = packed;
    data
}

/// Both ways, and which one is taken for how many patients.
fn text(planned: &Planned) -> String {
    let mut text = describe(planned.program.plan(), planned.seconds);
    let said = match &planned.packed {
        Few::None(reason) => format!("packing     none for few patients: {reason}"),
        Few::Planned(program, seconds, most) => {
            let plan = program.plan();
            let line = LINE_BITS / 1e6;
            let verdict = match most {
                0 => format!("not faster for any number of patients, traffic at {line:.0} Mbit/s included"),
                most if is_worth_it(program, *most) => format!(
                    "taken for up to {most} patients, for whom it is faster, traffic at {line:.0} Mbit/s included"
                ),
                most => format!(
                    "faster for up to {most} patients, traffic at {line:.0} Mbit/s included, but not twice as fast, and left out for its keys (--packing packed takes it)"
                ),
            };
            format!(
                "packing     all values of up to {} patients in one ciphertext, {} slots for each: {verdict}\n{}",
                plan.max_patients,
                plan.packed_width.unwrap_or(0),
                describe(plan, *seconds)
                    .lines()
                    .map(|line| format!("  {line}"))
                    .collect::<Vec<_>>()
                    .join("\n")
            )
        }
    };
    let _ = write!(out_line(&mut text), "{said}");
    text
}

fn hourly(plan: &Plan, seconds: f64) -> f64 {
    plan.max_patients as f64 * 3600.0 / seconds
}

fn describe(plan: &Plan, seconds: f64) -> String {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let mut out = String::new();
    let promised = match plan.precision {
        Precision::Guaranteed => "guaranteed",
        Precision::Expected => "expected of patients like those in training",
    };
    let _ = writeln!(
        out,
        "preset      {}: N = {}, log2 QP = {} of {} allowed at 128-bit security",
        plan.preset, plan.degree, plan.log2_qp, plan.security_bound
    );
    let _ = writeln!(
        out,
        "levels      {}; {} inputs, {} outputs",
        plan.levels, plan.inputs, plan.outputs
    );
    let _ = writeln!(
        out,
        "precision   {:.1} bits after the binary point, {promised}; rounded to {}; flooding {}",
        plan.precision_bits,
        plan.rounded_bits,
        plan.flooding_bits
            .map_or("none: there is no room".to_owned(), |bits| format!("{bits} bits"))
    );
    let _ = writeln!(
        out,
        "traffic     batch {:.1} MiB up, answer {:.2} MiB down, key {:.1} MiB once",
        mib(plan.batch_bytes as u64),
        mib(plan.answer_bytes as u64),
        mib(plan.serving_key_bytes as u64)
    );
    let _ = writeln!(
        out,
        "work        {}, {} squares, {} relinearisations",
        match plan.packed_width {
            Some(_) => format!(
                "{} products with matrices, {} rotations",
                plan.products, plan.rotations
            ),
            None => format!("{} multiply-adds", plan.multiply_adds),
        },
        plan.squares,
        plan.relinearisations
    );
    let _ = writeln!(
        out,
        "memory      {:.0} MiB of ciphertexts at most{}",
        mib(plan.peak_bytes),
        match plan.kept_bytes {
            0 => String::new(),
            kept => format!(", {:.0} MiB of which are matrices that are kept", mib(kept)),
        }
    );
    if let Some(spilled) = plan.spilled {
        let _ = writeln!(
            out,
            "disk        {:.0} MiB at most; {:.0} MiB written and {:.0} MiB read for a batch",
            mib(spilled.disk_bytes),
            mib(spilled.written_bytes),
            mib(spilled.read_bytes)
        );
    }
    let _ = write!(
        out,
        "time        about {seconds:.2} s for a batch of 1 to {} patients on {} threads, {:.0} patients an hour",
        plan.max_patients,
        threads::current(),
        hourly(plan, seconds)
    );
    out
}

pub(crate) fn add(args: &AddArgs) -> anyhow::Result<Outcome> {
    let home = Home::new(&args.dir);
    let config = home.config().context("run `coordinator init` first")?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => {
            let stem = args.plan.file.file_stem().unwrap_or_default();
            stem.to_string_lossy().to_lowercase()
        }
    };
    registry::check_name(&name).map_err(anyhow::Error::msg)?;
    let plans = Plans::of(&args.plan)?;
    let Outcome { mut text, mut data } = plans.outcome();
    let packages = match &plans {
        Plans::Ckks(planned) => {
            let registered = planned.registered(args.plan.packing);
            let package = |(program, seconds): (&Program, f64)| {
                let plan = program.plan();
                check_batch(plan.batch_bytes as u64, config.queries.max_batch_mib)?;
                check_key(plan.serving_key_bytes as u64, config.queries.max_key_mib)?;
                let milliseconds = (seconds * 1000.0).ceil() as u64;
                let bits = args.plan.precision_bits;
                Package::new(&name, bits, program, milliseconds, planned.bytes.clone())
                    .map_err(anyhow::Error::msg)
            };
            registered
                .into_iter()
                .map(package)
                .collect::<anyhow::Result<Vec<_>>>()?
        }
        Plans::Tfhe(planned) => {
            let package = Package::exact(&name, &planned.interface, planned.patient_ms());
            vec![package.map_err(anyhow::Error::msg)?]
        }
    };
    for package in &packages {
        package.put(&home.models_path())?;
    }
    let versions: Vec<Digest> = packages.iter().map(Package::version).collect();
    let mut taken = true;
    for version in &versions {
        taken = wait(&home, &name, version)? && taken;
    }
    let said = if taken {
        "the daemon answers it"
    } else {
        "no daemon runs in this folder: it is answered when one is started"
    };
    let Some(version) = versions.first() else {
        bail!("nothing was compiled");
    };
    if let Some(packed) = versions.get(1) {
        let _ = write!(
            out_line(&mut text),
            "model       {name} version {packed}, packed, for few patients: {said}"
        );
    }
    let _ = write!(
        out_line(&mut text),
        "model       {name} version {version}: {said}"
    );
    if let Some(data) = data.as_object_mut() {
        data.insert("name".into(), json!(name));
        data.insert("version".into(), json!(version));
        if let Some(packed) = versions.get(1) {
            data.insert("packed_version".into(), json!(packed));
        }
        data.insert("served".into(), json!(taken));
    }
    Ok(Outcome { text, data })
}

/// Refuses a model whose batches the daemon would refuse.
fn check_batch(bytes: u64, most_mib: u64) -> anyhow::Result<()> {
    let mib = bytes.div_ceil(1 << 20);
    ensure!(
        mib <= most_mib,
        "a batch has {mib} MiB, and max_batch_mib in config.toml allows {most_mib}: nobody could send one. Allow more, ask for fewer bits \
         (--precision-bits), or train a smaller network"
    );
    Ok(())
}

/// Refuses a model whose keys the daemon would refuse.
fn check_key(bytes: u64, most_mib: u64) -> anyhow::Result<()> {
    let mib = bytes.div_ceil(1 << 20);
    ensure!(
        mib <= most_mib,
        "a key has {mib} MiB, and max_key_mib in config.toml allows {most_mib}: nobody could send one. Allow more, or leave the way for few \
         patients out (--packing slots)"
    );
    Ok(())
}

fn out_line(text: &mut String) -> &mut String {
    text.push('\n');
    text
}

/// Waits until the daemon has taken the version in under this name; false if none runs.
fn wait(home: &Home, name: &str, version: &Digest) -> anyhow::Result<bool> {
    let began = Instant::now();
    while let Some(status) = running(home) {
        // The package goes when it has been read, and what stands against it comes before.
        let pending = registry::pending(&home.models_path());
        let own = |kind: &str| {
            pending
                .iter()
                .find(|(of, asked, _)| of == version && *asked == kind)
        };
        if own("add").is_none() {
            if let Some((_, _, reason)) = own("failed") {
                bail!("the daemon does not take the model: {reason}");
            }
            let is_it = |model: &ModelStatus| model.version == *version && model.name == name;
            if status.models.iter().any(is_it) {
                return Ok(true);
            }
        }
        if began.elapsed() > PATIENCE {
            bail!("the daemon does not take the model in; its log has the reason");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(false)
}

/// The status of the daemon, if one runs.
fn running(home: &Home) -> Option<Status> {
    let status = read(home)?;
    let age = SystemClock.now_ms().saturating_sub(status.updated_ms);
    (age <= STALE_MS).then_some(status)
}

fn read(home: &Home) -> Option<Status> {
    serde_json::from_slice(&std::fs::read(home.status_path()).ok()?).ok()
}

pub(crate) fn list(dir: &Path) -> anyhow::Result<Outcome> {
    let home = Home::new(dir);
    home.config().context("run `coordinator init` first")?;
    let models = read(&home).map(|status| status.models).unwrap_or_default();
    let pending = registry::pending(&home.models_path());
    let mut text = String::new();
    for model in &models {
        let _ = writeln!(
            text,
            "{:<16} {} {} {}{}{}, {}, {:.2} s",
            model.name,
            model.version,
            model.engine,
            model.preset,
            if model.packed { ", packed" } else { "" },
            if model.current { "" } else { " (earlier)" },
            match model.engine {
                Engine::Ckks => format!("{:.1} MiB a batch", model.batch_bytes as f64 / f64::from(1 << 20)),
                Engine::Tfhe => format!(
                    "reveals {}, {:.1} KiB a patient",
                    model.reveals.join(" or "),
                    model.batch_bytes as f64 / 1024.0
                ),
            },
            model.batch_ms as f64 / 1000.0
        );
    }
    for (version, kind, reason) in &pending {
        let said = match *kind {
            "failed" => format!("was refused: {reason}"),
            kind => format!("waits for the daemon to {kind} it"),
        };
        let _ = writeln!(text, "{version} {said}");
    }
    if text.is_empty() {
        text = "no models; `coordinator model add` registers one".into();
    }
    let waiting: Vec<_> = pending
        .iter()
        .map(|(version, kind, reason)| json!({ "version": version, "asked": kind, "reason": reason }))
        .collect();
    Ok(Outcome {
        text: text.trim_end().to_owned(),
        data: json!({ "models": models, "pending": waiting }),
    })
}

pub(crate) fn remove(dir: &Path, which: &str) -> anyhow::Result<Outcome> {
    let home = Home::new(dir);
    home.config().context("run `coordinator init` first")?;
    let models = read(&home).map(|status| status.models).unwrap_or_default();
    let named = |model: &&ModelStatus| {
        let hex = model.version.to_hex();
        model.added_ms > 0 && (model.name == which || (which.len() >= 8 && hex.starts_with(which)))
    };
    let mut versions: Vec<Digest> = models.iter().filter(named).map(|m| m.version).collect();
    // What waits, or was refused.
    for (version, ..) in registry::pending(&home.models_path()) {
        if which.len() >= 8 && version.to_hex().starts_with(which) && !versions.contains(&version) {
            versions.push(version);
        }
    }
    ensure!(
        !versions.is_empty(),
        "no registered model is called \"{which}\"; `coordinator model list` shows them"
    );
    for version in &versions {
        registry::ask_removal(&home.models_path(), version)?;
    }
    Ok(Outcome {
        text: match versions.len() {
            1 => "1 version is removed by the daemon.".to_owned(),
            count => format!("{count} versions are removed by the daemon."),
        },
        data: json!({ "versions": versions }),
    })
}

/// What is wrong with a model, for the code of an error.
pub(super) fn is_model_error(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.is::<CompileError>() || cause.is::<ModelError>() || exact::is_model_error(cause)
}
