//! The quickstart as a program: what it prints, and that it leaves nothing behind.

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const EXECUTABLE: &str = env!("CARGO_BIN_EXE_quickstart");

/// A path into the report, and whether what stands there is of the right type.
type Field = (&'static str, fn(&Value) -> bool);

/// Everything that a program may rely on.
const FIELDS: &[Field] = &[
    ("/auc/alone/cleveland", Value::is_f64),
    ("/auc/alone/budapest", Value::is_f64),
    ("/auc/alone/zurich", Value::is_f64),
    ("/auc/alone/long-beach", Value::is_f64),
    ("/auc/federated", Value::is_f64),
    ("/auc/pooled", Value::is_f64),
    ("/sum_exact", Value::is_boolean),
    ("/inference/max_abs_error", Value::is_f64),
    ("/inference/patients", Value::is_u64),
    ("/phases/0/name", Value::is_string),
    ("/phases/0/seconds", Value::is_f64),
    ("/phases/0/bytes_sent", Value::is_u64),
    ("/phases/0/bytes_received", Value::is_u64),
    ("/peak_rss_bytes/coordinator", Value::is_u64),
    ("/peak_rss_bytes/party", Value::is_u64),
    ("/security/sums/n", Value::is_u64),
    ("/security/sums/log2_q", Value::is_f64),
    ("/security/sums/bound", Value::is_u64),
    ("/security/sums/pieces", Value::is_u64),
    ("/security/sums/custodians", Value::is_u64),
    ("/security/sums/threshold", Value::is_u64),
    ("/security/sums/agreement", Value::is_u64),
    ("/security/inference/preset", Value::is_string),
    ("/security/inference/n", Value::is_u64),
    ("/security/inference/log2_qp", Value::is_u64),
    ("/security/inference/bound", Value::is_u64),
];

#[test]
fn the_heart_study_holds_and_is_one_json_object() -> anyhow::Result<()> {
    // From a folder that has nothing to do with the clone.
    let dir = tempfile::tempdir()?;
    let output = Command::new(EXECUTABLE)
        .args(["--format", "json"])
        .current_dir(dir.path())
        .output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    // Parsing fails if anything stands before or after the object.
    let report: Value = serde_json::from_slice(&output.stdout).with_context(|| errors.to_string())?;
    ensure!(
        output.status.success(),
        "{}: {:#}\n{errors}",
        output.status,
        report["failures"]
    );
    for (path, fits) in FIELDS {
        let value = report
            .pointer(path)
            .with_context(|| format!("{path} is missing in {report:#}"))?;
        ensure!(fits(value), "{path} is {value}");
    }
    ensure!(report["sum_exact"] == true && report["ok"] == true, "{report:#}");
    let phases: Vec<_> = report["phases"]
        .as_array()
        .context("no phases")?
        .iter()
        .map(|p| &p["name"])
        .collect();
    ensure!(
        phases
            == [
                "setup",
                "statistics",
                "training",
                "evaluation",
                "release",
                "query"
            ],
        "{phases:?}"
    );
    let small = |path: &str| {
        report
            .pointer(path)
            .and_then(Value::as_u64)
            .is_some_and(|peak| peak > 0 && peak < 1 << 30)
    };
    ensure!(
        small("/peak_rss_bytes/coordinator") && small("/peak_rss_bytes/party"),
        "{}",
        report["peak_rss_bytes"]
    );
    ensure!(
        std::fs::read_dir(dir.path())?.next().is_none(),
        "something was left in the working folder"
    );
    Ok(())
}

#[test]
fn the_breast_cancer_study_holds_and_is_told_to_people() -> anyhow::Result<()> {
    let study = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/studies/breast-cancer");
    let dir = tempfile::tempdir()?;
    let keep = dir.path().join("kept");
    let output = Command::new(EXECUTABLE)
        .arg("--study")
        .arg(study)
        .arg("--keep")
        .arg(&keep)
        .output()?;
    let (report, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(output.status.success(), "{}\n{report}\n{errors}", output.status);
    for words in [
        "east",
        "federated",
        "pooled",
        "bit for bit",
        "one encrypted query",
        "log2 Q",
        "Everything held.",
    ] {
        ensure!(report.contains(words), "\"{words}\" is not in\n{report}");
    }
    // What was kept can be looked at.
    for file in [
        "study.toml",
        "coordinator/status.json",
        "hospitals/east/data.csv",
        "answers/east.csv",
        "logs/west.log",
    ] {
        ensure!(keep.join(file).is_file(), "{file} is missing");
    }
    Ok(())
}

#[test]
fn what_cannot_be_run_is_said_and_nothing_is_overwritten() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("mine"), "precious")?;
    let path = dir.path().to_string_lossy().into_owned();
    for (args, said) in [
        (["--keep", &path], "is not empty"),
        (["--study", &path], "study.toml"),
    ] {
        let output = Command::new(EXECUTABLE)
            .args(args)
            .args(["--format", "json"])
            .output()?;
        let report: Value = serde_json::from_slice(&output.stdout)?;
        ensure!(
            !output.status.success() && report["ok"] == false,
            "{args:?}: {report}"
        );
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(
            errors.contains(said) && report["failures"].to_string().contains(said),
            "{args:?}: {errors}\n{report}"
        );
    }
    ensure!(std::fs::read_to_string(dir.path().join("mine"))? == "precious");
    Ok(())
}

/// Starts a quickstart that works in `dir`, and waits until all its daemons run.
fn running(dir: &Path) -> anyhow::Result<Child> {
    let mut command = Command::new(EXECUTABLE);
    let mut child = command
        .arg("--keep")
        .arg(dir)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    // Serving is near the end, but queries follow: the daemons run for a while yet.
    while processes(dir)?.len() < 6 {
        if let Some(status) = child.try_wait()? {
            bail!("the quickstart ended: {status}");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(child)
}

/// Processes whose command line names a folder, the quickstart itself included.
fn processes(dir: &Path) -> anyhow::Result<Vec<String>> {
    let dir = dir.to_string_lossy();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        // Processes come and go.
        let Ok(line) = std::fs::read(entry?.path().join("cmdline")) else {
            continue;
        };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(&*dir) {
            found.push(line);
        }
    }
    Ok(found)
}

fn signal(child: &Child, signal: rustix::process::Signal) -> anyhow::Result<()> {
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .context("no process id")?;
    Ok(rustix::process::kill_process(pid, signal)?)
}

#[test]
#[cfg(target_os = "linux")]
fn an_interrupted_quickstart_ends_its_daemons() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let child = running(dir.path())?;
    signal(&child, rustix::process::Signal::INT)?;
    let output = child.wait_with_output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(1) && errors.contains("interrupted"),
        "{}: {errors}",
        output.status
    );
    ensure!(
        processes(dir.path())?.is_empty(),
        "left behind: {:#?}",
        processes(dir.path())?
    );
    Ok(())
}

#[test]
#[cfg(target_os = "linux")]
fn daemons_do_not_outlive_a_quickstart_that_is_killed() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut child = running(dir.path())?;
    child.kill()?;
    child.wait()?;
    // They notice when their standard input closes; a daemon that did not would keep this test waiting for ever.
    while !processes(dir.path())?.is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
