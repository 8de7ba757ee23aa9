//! What encrypted queries cost through the real service: daemon and commands as processes on loopback.
//!
//!     cargo build --release --bin quickstart
//!     cargo run --release -p galen-integration-tests --example serving -- tabular
//!     cargo run --release -p galen-integration-tests --example serving -- network configs/models/examples/cryptonets.toml
//!     cargo run --release -p galen-integration-tests --example serving -- trained MODEL.safetensors IMAGES SCHEMA.toml
//!     cargo run --release -p galen-integration-tests --example serving -- exact MODEL.json IMAGES SCHEMA.toml COUNT
//!     cargo run --release -p galen-integration-tests --example serving -- load [SECONDS]
//!
//! `tabular` asks a model of 13 features about 4,096 patients; `network` asks a network on images with random weights about a full batch of random
//! images, or so many, with a patient in every slot; `trained` asks a trained model about a labelled set, and compares accuracy and classes with the plain evaluator's; `exact` asks a
//! quantised model about the first images of one, and compares every score; `load` has eight
//! hospitals ask at once. Networks with random weights tell nothing of accuracy.

#![allow(clippy::print_stdout, reason = "printing is what this is for")]

mod exact;
mod trained;

use anyhow::{Context, bail, ensure};
use galen_core::Digest;
use galen_core::study::{Member, Role};
use galen_inference::{Interface, Program, Querier};
use galen_integration_tests::federation::COORDINATOR;
use galen_integration_tests::scene::{Scene, small_heart};
use galen_integration_tests::served::Raw;
use galen_integration_tests::{StudyFolder, served};
use galen_models::random::Stream;
use galen_models::{Model, ModelFile, ModelSpec, Range};
use galen_net::protocol::{BlobKind, QueryState, Request, Response};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const ASKER: &str = "zurich";
const MODEL: &str = "measured";
/// A variable of the environment: MiB of ciphertexts in memory, of which the others wait on disk.
const MEMORY: &str = "MAX_MEMORY_MIB";
/// How long a query may take.
const LONG: Duration = Duration::from_secs(3600);
/// Images on which activations are recorded.
const RECORDED: usize = 64;

fn main() -> anyhow::Result<()> {
    println!("{}; {}", galen_measure::machine(), galen_rns::kernel::describe());
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["tabular"] => tabular(),
        ["network", file] => network(Path::new(file), None),
        ["network", file, images] => network(Path::new(file), Some(images.parse()?)),
        ["trained", model, data, schema] => {
            trained::ask(Path::new(model), Path::new(data), Path::new(schema))
        }
        ["exact", model, data, schema, count] => exact::ask(
            Path::new(model),
            Path::new(data),
            Path::new(schema),
            count.parse()?,
        ),
        ["load"] => load(60),
        ["load", seconds] => load(seconds.parse()?),
        _ => bail!(
            "say tabular, network FILE [IMAGES], trained MODEL DATA SCHEMA, exact MODEL DATA SCHEMA IMAGES, or load [SECONDS]"
        ),
    }
}

/// The quickstart's executable, which is built beside this one and plays every daemon.
fn executable() -> anyhow::Result<String> {
    let own = std::env::current_exe()?;
    let folder = own.parent().and_then(Path::parent).context("no folder")?;
    let path = folder.join("quickstart");
    ensure!(
        path.exists(),
        "build it first: cargo build --release --bin quickstart"
    );
    Ok(path.to_string_lossy().into_owned())
}

fn scene(folder: &StudyFolder) -> anyhow::Result<Scene> {
    let mut scene = Scene::new(&executable()?, folder)?;
    // Batches of colour images are larger than what is allowed by default.
    let config = scene.home(COORDINATOR).join("config.toml");
    let larger = std::fs::read_to_string(&config)?.replace("max_batch_mib = 512", "max_batch_mib = 2047");
    std::fs::write(&config, larger)?;
    scene.start(COORDINATOR)?;
    Ok(scene)
}

fn add(scene: &mut Scene, file: &ModelFile) -> anyhow::Result<()> {
    let path = scene.dir().join("model.safetensors");
    std::fs::write(&path, file.to_safetensors()?)?;
    let began = Instant::now();
    let path = shown(&path);
    let mut command = vec!["model", "add", path.as_str(), "--name", MODEL];
    let memory = std::env::var(MEMORY).ok();
    if let Some(mib) = &memory {
        command.extend(["--max-memory", mib, "--spill"]);
    }
    let job = scene.command(COORDINATOR, command)?;
    let added = job.result_within(LONG)?;
    let plan = &added["plan"];
    println!(
        "{} parameters, added in {:.1} s: {} (log2 QP {} of {}), {} levels, {:.1} bits, {} patients a batch; estimated {:.2} s a batch, {:.0} MiB",
        file.model.params().len(),
        began.elapsed().as_secs_f64(),
        plan["preset"].as_str().unwrap_or("?"),
        plan["log2_qp"],
        plan["security_bound"],
        plan["levels"],
        plan["precision_bits"].as_f64().unwrap_or(0.0),
        plan["max_patients"],
        added["seconds_per_batch"].as_f64().unwrap_or(0.0),
        plan["peak_bytes"].as_f64().unwrap_or(0.0) / f64::from(1 << 20)
    );
    Ok(())
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Process id of the coordinator, its processor seconds, and resident memory now and at most, in MiB.
fn coordinator(scene: &mut Scene) -> anyhow::Result<(u32, f64, f64, f64)> {
    let status = scene.run(COORDINATOR, &["status"])?;
    let process = status["pid"].as_u64().context("no process id")? as u32;
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = stat.rsplit_once(") ").context("no fields")?;
    let ticks: f64 = fields
        .split(' ')
        .skip(11)
        .take(2)
        .map(|field| field.parse::<f64>().unwrap_or(0.0))
        .sum();
    let seconds = ticks / rustix::param::clock_ticks_per_second() as f64;
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let mib = |name: &str| -> f64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        kib.unwrap_or(0.0) / 1024.0
    };
    Ok((process, seconds, mib("VmRSS:"), mib("VmHWM:")))
}

/// Seconds of the last evaluation of a batch, or the estimate before the first one.
fn evaluation(scene: &mut Scene) -> anyhow::Result<f64> {
    let status = scene.run(COORDINATOR, &["status"])?;
    Ok(status["models"][0]["batch_ms"].as_f64().unwrap_or(0.0) / 1000.0)
}

/// Asks, and tells what it took.
fn ask(scene: &mut Scene, args: &[&str], what: &str) -> anyhow::Result<Value> {
    let before = coordinator(scene)?.1;
    let earlier = evaluation(scene)?;
    let began = Instant::now();
    let job = scene.command(ASKER, args.iter().copied())?;
    let asked = job.result_within(LONG)?;
    let wall = began.elapsed().as_secs_f64();
    // The daemon writes its status now and then.
    let mut evaluation = self::evaluation(scene)?;
    for _ in 0..20 {
        if evaluation != earlier {
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
        evaluation = self::evaluation(scene)?;
    }
    let (_, cpu, _, peak) = coordinator(scene)?;
    let patients = asked["patients"].as_f64().unwrap_or(0.0);
    println!(
        "{what}: {patients} patients; {wall:.2} s with the start of the command, {:.2} s in it; a batch evaluated in {evaluation:.2} s, \
         {:.2} s of processor time of the coordinator in all",
        asked["seconds"].as_f64().unwrap_or(0.0),
        cpu - before
    );
    println!(
        "  {:.2} million patients an hour of evaluation, {:.2} million end to end; sent {:.1} MiB, received {:.2} MiB; coordinator's peak {peak:.0} MiB",
        patients * 3600.0 / evaluation / 1e6,
        patients * 3600.0 / wall / 1e6,
        asked["bytes_sent"].as_f64().unwrap_or(0.0) / f64::from(1 << 20),
        asked["bytes_received"].as_f64().unwrap_or(0.0) / f64::from(1 << 20)
    );
    Ok(asked)
}

fn tabular() -> anyhow::Result<()> {
    const FEATURES: usize = 13;
    const PATIENTS: usize = 4096;
    let spec: ModelSpec = toml::from_str(&format!(
        "input = {FEATURES}\nlayers = [{{ dense = {{ outputs = 16 }} }}, \"square\", {{ dense = {{ outputs = 1 }} }}]"
    ))?;
    let mut file = ModelFile::from(Model::initial(spec, 1)?);
    file.annotations.inputs = vec![Range::new(-4.0, 4.0)];
    let mut scene = scene(&small_heart(600)?)?;
    add(&mut scene, &file)?;
    let names: Vec<String> = (0..FEATURES).map(|i| format!("x{i}")).collect();
    let mut stream = Stream::new("measured patients", 1, &[]);
    let mut text = format!("id,{}\n", names.join(","));
    for patient in 0..PATIENTS {
        let values: Vec<String> = (0..FEATURES)
            .map(|_| format!("{:.3}", 3.0 * stream.symmetric()))
            .collect();
        text.push_str(&format!("p{patient},{}\n", values.join(",")));
    }
    let (data, schema, out) = (
        scene.dir().join("patients.csv"),
        scene.dir().join("schema.toml"),
        scene.dir().join("out.csv"),
    );
    std::fs::write(&data, text)?;
    std::fs::write(
        &schema,
        format!(
            "input = {FEATURES}\nelements = {names:?}\ntarget = {{ binary = {{ negative = \"0\", positive = \"1\" }} }}\nsource = {{ patient = \"id\" }}"
        ),
    )?;
    let (data, schema, out) = (shown(&data), shown(&schema), shown(&out));
    let args = [
        "query", MODEL, "--data", &data, "--schema", &schema, "--out", &out,
    ];
    ask(&mut scene, &args, "first, with the key")?;
    for _ in 0..3 {
        ask(&mut scene, &args, "keys registered")?;
    }
    scene.end()
}

fn network(path: &Path, images: Option<usize>) -> anyhow::Result<()> {
    let spec = ModelSpec::load_toml(path)?;
    let mut stream = Stream::new("measured images", 1, &[]);
    let inputs = spec.inputs();
    let rows: Vec<Vec<f64>> = (0..RECORDED)
        .map(|_| (0..inputs).map(|_| stream.unit()).collect())
        .collect();
    let mut file = ModelFile::from(Model::initial(spec, 1)?);
    file.record(&rows)?;
    file.annotations.inputs = vec![Range::new(0.0, 1.0)];
    let mut scene = scene(&small_heart(600)?)?;
    add(&mut scene, &file)?;
    let idx = |scene: &Scene, count: usize| -> anyhow::Result<PathBuf> {
        let galen_models::Shape::Image(sides) = file.model.spec().input else {
            bail!("no network on images");
        };
        let mut bytes = vec![0, 0, 8, 4];
        for side in [&[count][..], &sides].concat() {
            bytes.extend((side as u32).to_be_bytes());
        }
        let mut stream = Stream::new("measured pixels", 2, &[]);
        bytes.extend((0..count * inputs).map(|_| stream.below(256) as u8));
        let path = scene.dir().join("images.idx");
        std::fs::write(&path, bytes)?;
        Ok(path)
    };
    let one = shown(&idx(&scene, 1)?);
    let slots = ["--packing", "slots"];
    let dry = [&["query", MODEL, "--data", &one, "--dry-run"], &slots[..]].concat();
    let plan = scene.run(ASKER, &dry)?;
    let full = plan["max_patients"].as_u64().context("no batch size")? as usize;
    let count = images.map_or(full, |images| images.min(full));
    let (data, out) = (shown(&idx(&scene, count)?), shown(&scene.dir().join("out.csv")));
    let args = [&["query", MODEL, "--data", &data, "--out", &out], &slots[..]].concat();
    ask(
        &mut scene,
        &args,
        "first, with the key and the program to be made",
    )?;
    ask(&mut scene, &args, &format!("{count} images"))?;
    // Against the plain network, as far as rounding to 8 bits goes.
    let text = std::fs::read_to_string(&out)?;
    let bytes = std::fs::read(&data)?;
    let pixels = bytes.get(20..).context("no images")?;
    let rows: Vec<Vec<f64>> = pixels
        .chunks(inputs)
        .take(RECORDED)
        .map(|image| image.iter().map(|&p| f64::from(p) / 255.0).collect())
        .collect();
    let plain = file.model.forward(&rows)?;
    let mut largest = 0.0f64;
    for (line, outputs) in text.lines().skip(1).zip(plain.rows()) {
        let cells: Vec<&str> = line.split(',').collect();
        for (class, output) in outputs.iter().enumerate() {
            let score: f64 = cells[2 + outputs.len() + class].parse()?;
            largest = largest.max((score - output).abs());
        }
    }
    println!("  largest error of {RECORDED} images {largest:.1e}");
    scene.end()
}

/// What one hospital saw.
#[derive(Default)]
struct Seen {
    answered: u32,
    longest: Duration,
}

async fn hospital(raw: &Raw, interface: &Interface, version: Digest, until: Instant) -> anyhow::Result<Seen> {
    let querier = Querier::generate(interface)?;
    let key = raw
        .put(BlobKind::EvaluationKey, &querier.serving_key()?.to_bytes()?)
        .await?;
    raw.peer.call(&Request::KeyStatus { key }).await?;
    let rows = vec![[0.5, -0.5, 1.0]; 100];
    let mut seen = Seen::default();
    while Instant::now() < until {
        let bytes = querier.encrypt_batch(&rows)?.to_bytes()?;
        let began = Instant::now();
        let batch = raw.put(BlobKind::Batch, &bytes).await?;
        let query = Request::Query {
            model: version,
            key,
            batch,
        };
        raw.peer.call(&query).await?;
        let answer = loop {
            match raw.peer.call(&Request::QueryStatus { batch }).await? {
                Response::Query(QueryState::Done { answer }) => break answer,
                Response::Query(QueryState::Queued { .. } | QueryState::Running { .. }) => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                other => bail!("{other:?}"),
            }
        };
        let sink = galen_party::sinks::MemorySink::new(answer, 1 << 30);
        raw.peer.get(answer, sink.clone(), |_, _| {}).await?;
        raw.peer.call(&Request::Acknowledge { batch }).await?;
        seen.longest = seen.longest.max(began.elapsed());
        let outputs = querier.outputs(&sink.take(), rows.len())?;
        ensure!(
            outputs
                .windows(2)
                .all(|pair| (pair[0][0] - pair[1][0]).abs() < 0.02)
        );
        seen.answered += 1;
    }
    Ok(seen)
}

fn load(seconds: u64) -> anyhow::Result<()> {
    let heart = small_heart(600)?;
    let mut study = heart.study().clone();
    let mut tables = BTreeMap::new();
    let members: Vec<Member> = study.party.clone();
    for member in &members {
        let second = Member {
            name: format!("{}-2", member.name).parse()?,
            title: String::new(),
            roles: vec![Role::Contributor, Role::Querier],
        };
        let table = heart.table(&member.name).context("no table")?.to_vec();
        tables.insert(member.name.clone(), table.clone());
        tables.insert(second.name.clone(), table);
        study.party.push(second);
    }
    let mut scene = scene(&StudyFolder::new(study, tables)?)?;
    let file = served::tabular(1)?;
    add(&mut scene, &file)?;
    let program = Program::compile_file(&file, 8)?;
    let version = Digest::of(&program.interface().to_bytes()?);
    let runtime = tokio::runtime::Runtime::new()?;
    let parties = scene.parties().to_vec();
    let begin = Instant::now();
    let warm = begin + Duration::from_secs(seconds / 4);
    let end = begin + Duration::from_secs(seconds);
    let run = |scene: &mut Scene, until: Instant| -> anyhow::Result<Vec<Seen>> {
        let asking = async {
            let mut tasks = Vec::new();
            for party in &parties {
                let raw = Raw::connect(scene, party.as_str()).await?;
                let interface = program.interface().clone();
                tasks.push(tokio::spawn(async move {
                    hospital(&raw, &interface, version, until).await
                }));
            }
            let mut all = Vec::new();
            for task in tasks {
                all.push(task.await??);
            }
            anyhow::Ok(all)
        };
        runtime.block_on(asking)
    };
    run(&mut scene, warm)?;
    let (_, before, resident, _) = coordinator(&mut scene)?;
    let seen = run(&mut scene, end)?;
    let (_, after, later, peak) = coordinator(&mut scene)?;
    let counts: Vec<u32> = seen.iter().map(|seen| seen.answered).collect();
    let (least, most) = (counts.iter().min(), counts.iter().max());
    println!(
        "8 hospitals, {:.0} s after warm-up: {} batches answered, no failure; {counts:?} each, {:.2} between the least and the most; longest wait {:.2} s",
        (end - warm).as_secs_f64(),
        counts.iter().sum::<u32>(),
        f64::from(*least.context("nobody")?) / f64::from(*most.context("nobody")?),
        seen.iter()
            .map(|seen| seen.longest)
            .max()
            .unwrap_or_default()
            .as_secs_f64()
    );
    println!(
        "  coordinator: {resident:.0} MiB after warm-up, {later:.0} MiB at the end, {peak:.0} MiB at most; {:.1} s of processor time",
        after - before
    );
    let status = scene.run(COORDINATOR, &["status"])?;
    println!("  {}", status["queries"]);
    scene.end()
}
