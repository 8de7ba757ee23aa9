//! A user's own study, as docs/writing-a-study.md tells to write and run it: the page itself is what this test runs.
//!
//! Blocks marked `sh` are run in order in an empty folder, the block marked `toml` becomes `study.toml`. The programs are small scripts
//! that start the one executable of [`galen_integration_tests::role`]. Only the port is replaced, by a free one.

use anyhow::{Context, bail, ensure};
use galen_integration_tests::{answers, ports};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const EXECUTABLE: &str = env!("CARGO_BIN_EXE_quickstart");
/// How long nothing may move.
const STANDSTILL: Duration = Duration::from_secs(120);

/// The page's folder of work; dropping it ends what was started in the background.
struct Desk {
    dir: tempfile::TempDir,
    groups: Vec<Child>,
}

impl Drop for Desk {
    fn drop(&mut self) {
        for child in &mut self.groups {
            if let Some(group) = i32::try_from(child.id())
                .ok()
                .and_then(rustix::process::Pid::from_raw)
            {
                let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            }
            let _ = child.wait();
        }
    }
}

impl Desk {
    fn new() -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("galen-page-").tempdir()?;
        let bin = dir.path().join("bin");
        fs::create_dir_all(&bin)?;
        fs::create_dir_all(dir.path().join("work"))?;
        for (name, role) in [
            ("coordinator", "@coordinator /dev/null"),
            ("party", "@party /dev/null"),
            ("quickstart", ""),
        ] {
            let script = format!("#!/bin/sh\nexec '{EXECUTABLE}' {role} \"$@\"\n");
            let path = bin.join(name);
            fs::write(&path, script)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        Ok(Self {
            dir,
            groups: Vec::new(),
        })
    }

    fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// Runs a block; what it starts in the background goes on.
    fn run(&mut self, block: &str) -> anyhow::Result<()> {
        let log = self.dir.path().join(format!("block-{}.log", self.groups.len()));
        let path = format!(
            "{}:{}",
            self.dir.path().join("bin").display(),
            std::env::var("PATH")?
        );
        let child = Command::new("sh")
            .args(["-e", "-c", block])
            .current_dir(self.work())
            .env("PATH", path)
            .env("GALEN", workspace())
            .stdin(Stdio::null())
            .stdout(fs::File::create(&log)?)
            .stderr(fs::File::options().append(true).open(&log)?)
            .process_group(0)
            .spawn()?;
        self.groups.push(child);
        let child = self.groups.last_mut().context("no child")?;
        let status = child.wait()?;
        ensure!(
            status.success(),
            "{block}\n{status}:\n{}",
            fs::read_to_string(&log)?
        );
        Ok(())
    }

    /// Waits until the coordinator serves queries.
    fn wait_serving(&self) -> anyhow::Result<()> {
        let (mut last, mut moved) = (Value::Null, Instant::now());
        loop {
            let mut status = status(&self.work().join("coordinator")).unwrap_or_default();
            if !status["serving"].is_null() {
                return Ok(());
            }
            if let Some(fields) = status.as_object_mut() {
                fields
                    .retain(|name, _| !matches!(name.as_str(), "updated_ms" | "peak_rss_bytes" | "traffic"));
            }
            if status != last {
                (last, moved) = (status, Instant::now());
            }
            if moved.elapsed() > STANDSTILL {
                bail!("the study of the page stands still: {last:#}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn status(home: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(home.join("status.json")).ok()?).ok()
}

/// The fenced blocks of a page: language and text.
fn blocks(page: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in page.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(language), None) => open = Some((language.to_owned(), String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((_, text))) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

#[test]
fn the_page_on_writing_a_study_runs_as_it_stands() -> anyhow::Result<()> {
    let page = fs::read_to_string(workspace().join("docs/writing-a-study.md"))?;
    let port = ports::free()?.port().to_string();
    let mut desk = Desk::new()?;
    let mut asked = false;
    for (language, text) in blocks(&page) {
        let text = text.replace("4433", &port);
        match language.as_str() {
            "toml" => fs::write(desk.work().join("study.toml"), &text)?,
            "sh" => {
                asked |= text.contains("party query");
                desk.run(&text)?;
                if text.contains("coordinator serve") {
                    desk.wait_serving()?;
                }
            }
            _ => {}
        }
    }
    ensure!(asked, "the page shows no query");
    let held_out = answers::read(&desk.work().join("held-out.csv"))?;
    ensure!(held_out.len() > 40, "{} held-out patients", held_out.len());
    let new = answers::read(&desk.work().join("new-patients-probabilities.csv"))?;
    ensure!(new.keys().copied().eq(1..=5), "{new:?}");
    // The first five patients of the file have malignant tumours.
    let mean = new.values().sum::<f64>() / new.len() as f64;
    ensure!(mean > 0.5, "{new:?}");
    Ok(())
}
