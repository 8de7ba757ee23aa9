//! The coordinator with few contributors and with many.

use crate::coordinator::Process;
use crate::hospital;
use crate::machine;
use crate::shared::{Mark, Shared};
use crate::study::{Scene, Shape};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What one run took.
struct Run {
    contributors: usize,
    peak_mib: f64,
    most_files: usize,
    /// From the first byte sent to the last contribution acknowledged, per contributor.
    spool: Duration,
    /// From then until the sum is stored, per contributor.
    add: Duration,
    /// The coordinator's processor time of both, per contributor.
    cpu: Duration,
    /// A plain copy of a contribution's file.
    copy: Duration,
    /// The same, made durable.
    durable_copy: Duration,
}

/// The phases of a round: from when, to when, what happens in it.
const PHASES: [(Mark, Mark, &str); 6] = [
    (Mark::Collecting, Mark::Uploading, "encrypted by the hospitals"),
    (Mark::Uploading, Mark::Contributed, "uploaded, checked, durable"),
    (Mark::Contributed, Mark::Proposed, "added and stored"),
    (Mark::Proposed, Mark::Certified, "endorsed"),
    (Mark::Certified, Mark::Opening, "answered"),
    (Mark::Opening, Mark::Published, "fetched by all, opened by one"),
];

/// Measures and prints.
pub(crate) fn measure(few: usize, many: usize, connections: usize) -> anyhow::Result<()> {
    println!("machine: {}", machine::describe());
    println!("coordinator: at most {connections} connections at a time");
    let few = run(few, connections)?;
    let many = run(many, connections)?;
    println!(
        "\nper contributor, in milliseconds: from upload to durable and checked, adding, processor time of the coordinator in both, and a \
         plain copy of the same file (and with fsync), all in this run"
    );
    println!(
        "contributors  peak MiB  open files  upload   add      CPU      copy     copy+fsync  (upload + add) / (copy+fsync)"
    );
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    for run in [&few, &many] {
        let whole = run.spool + run.add;
        println!(
            "{:12}  {:8.1}  {:10}  {:7.2}  {:7.2}  {:7.2}  {:7.2}  {:10.2}  {:.2}",
            run.contributors,
            run.peak_mib,
            run.most_files,
            ms(run.spool),
            ms(run.add),
            ms(run.cpu),
            ms(run.copy),
            ms(run.durable_copy),
            whole.as_secs_f64() / run.durable_copy.as_secs_f64()
        );
    }
    println!("\npeak memory, many to few: {:.2}", many.peak_mib / few.peak_mib);
    Ok(())
}

fn run(contributors: usize, connections: usize) -> anyhow::Result<Run> {
    let dir = tempfile::Builder::new().prefix("galen-load-").tempdir()?;
    let shape = Shape {
        contributors,
        custodians: 5,
        threshold: 3,
        agreement: 4,
        patience_s: 3600,
        training_rounds: 1,
        connections,
    };
    let shared = Arc::new(Shared::new(Scene::new(shape, dir.path())?, true, None));
    println!("\n{}", shared.scene.describe()?);
    let coordinator = Process::start(&shared.scene.coordinator)?;
    let id = coordinator.id();
    let watching = Arc::clone(&shared);
    let runtime = tokio::runtime::Runtime::new()?;
    let (most_files, cpu, peaks) = runtime.block_on(async {
        // Processor time when uploads begin and when the sum is there, the largest number of open files, and memory at the end of each phase.
        let watch = tokio::spawn(async move {
            let (mut files, mut begun, mut cpu) = (0, None, Duration::ZERO);
            let mut peaks = BTreeMap::new();
            loop {
                files = files.max(machine::open_files(id));
                let now = machine::cpu(id).unwrap_or_default();
                let passed = |mark| watching.between(1, mark, mark).is_ok();
                for (_, mark, _) in PHASES {
                    if passed(mark) && (mark != Mark::Contributed || passed(Mark::Proposed)) {
                        peaks
                            .entry(mark)
                            .or_insert_with(|| machine::peak_mib(id).unwrap_or(f64::NAN));
                    }
                }
                if begun.is_none() && passed(Mark::Uploading) {
                    begun = Some(now);
                }
                if let Some(begun) = begun.filter(|_| cpu.is_zero() && passed(Mark::Proposed)) {
                    cpu = now.saturating_sub(begun);
                }
                if passed(Mark::Published) {
                    return (files, cpu, peaks);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        let lost = hospital::run(&shared, 2).await?;
        println!("  connections lost: {lost}");
        anyhow::Ok(watch.await?)
    })?;
    let peak_mib = coordinator.peak_mib();
    coordinator.stop()?;
    let per = |time: Duration| time / contributors as u32;
    let (copy, durable_copy) = (copy(&shared, false)?, copy(&shared, true)?);
    for (from, to, what) in PHASES {
        println!(
            "  {:8.3} s, peak {:5.1} MiB {what}",
            shared.between(1, from, to)?.as_secs_f64(),
            peaks.get(&to).copied().unwrap_or(peak_mib)
        );
    }
    Ok(Run {
        contributors,
        peak_mib,
        most_files,
        spool: per(shared.between(1, Mark::Uploading, Mark::Contributed)?),
        add: per(shared.between(1, Mark::Contributed, Mark::Proposed)?),
        cpu: per(cpu),
        copy,
        durable_copy,
    })
}

/// Copies every contribution's file, as a program would that reads and writes; time per file.
fn copy(shared: &Shared, durable: bool) -> anyhow::Result<Duration> {
    let target = shared.scene.dir.join("copy");
    let start = Instant::now();
    for keys in &shared.scene.keys {
        let mut from = File::open(shared.blob_path(&keys.name, 1))?;
        let mut to = File::create(&target)?;
        let mut buffer = vec![0; 1 << 18];
        loop {
            let read = io::Read::read(&mut from, &mut buffer)?;
            if read == 0 {
                break;
            }
            io::Write::write_all(&mut to, &buffer[..read])?;
        }
        if durable {
            to.sync_all()?;
        }
    }
    Ok(start.elapsed() / shared.scene.keys.len() as u32)
}
