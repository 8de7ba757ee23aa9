//! One coordinator and several hospitals below one root folder.
//!
//! ```text
//! ROOT/study.toml        the study as its author wrote it
//! ROOT/coordinator/      the operator's folder
//! ROOT/hospitals/NAME/   a hospital's folder, with its table data.csv; images stay where they are
//! ROOT/answers/          answers to queries
//! ROOT/logs/             what every process wrote
//! ```

use crate::folder::{Data, StudyFolder};
use crate::job::Job;
use crate::ports;
use crate::process::{Logs, Process, was_killed};
use crate::role::{Program, Role};
use crate::watch::Snapshot;
use anyhow::{Context, bail, ensure};
use galen_core::PartyId;
use galen_core::study::FrozenStudy;
use galen_party::status::Status as PartyStatus;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Name of the coordinator's process and folder; no party may have it.
pub const COORDINATOR: &str = "coordinator";

/// How long nothing may move before waiting fails.
const STANDSTILL: Duration = Duration::from_secs(120);
/// How often the status files are read.
const LOOK: Duration = Duration::from_millis(50);

/// A federation on this machine. Dropping it kills its processes.
#[derive(Debug)]
pub struct Federation {
    program: Program,
    root: PathBuf,
    logs: Logs,
    address: SocketAddr,
    frozen: FrozenStudy,
    parties: Vec<PartyId>,
    running: BTreeMap<String, Process>,
    jobs: u32,
}

impl Federation {
    /// Lays a federation out in an empty folder: identities, cards, frozen study, signatures. No daemon runs yet.
    pub fn create(program: Program, folder: &StudyFolder, root: &Path) -> anyhow::Result<Self> {
        let logs = Logs::create(root.join("logs"))?;
        std::fs::create_dir_all(root.join("answers"))?;
        let file = root.join("study.toml");
        std::fs::write(&file, folder.text())?;
        let parties: Vec<_> = folder
            .study()
            .party
            .iter()
            .map(|member| member.name.clone())
            .collect();
        let mut layout = Layout {
            program: &program,
            root,
            logs: &logs,
        };
        let address = ports::free()?;
        layout.run(Role::Coordinator, COORDINATOR, &["init"])?;
        set_field(
            &layout.home(COORDINATOR).join("config.toml"),
            "listen",
            &address.to_string(),
        )?;
        let mut freeze = vec!["study".into(), "freeze".into(), OsString::from(&file)];
        for party in &parties {
            let coordinator = address.to_string();
            let mut init: Vec<OsString> = ["init", "--name", party.as_str(), "--coordinator", &coordinator]
                .map(Into::into)
                .to_vec();
            if let Some(Data::Images(path)) = folder.data(party) {
                init.extend(["--data".into(), path.into()]);
            }
            layout.run(Role::Party, party.as_str(), &init)?;
            if let Some(table) = folder.table(party) {
                std::fs::write(layout.home(party.as_str()).join("data.csv"), table)?;
            }
            freeze.extend([
                "--card".into(),
                layout.home(party.as_str()).join("card.toml").into(),
            ]);
        }
        layout.run(Role::Coordinator, COORDINATOR, &freeze)?;
        let file = layout.home(COORDINATOR).join("study.toml");
        let frozen = FrozenStudy::load(&file)?;
        let digest = frozen.digest().to_string();
        for party in &parties {
            let sign = [
                "study".into(),
                "sign".into(),
                OsString::from(&file),
                "--digest".into(),
                OsString::from(&digest),
            ];
            layout.run(Role::Party, party.as_str(), &sign)?;
        }
        let root = root.to_owned();
        Ok(Self {
            program,
            root,
            logs,
            address,
            frozen,
            parties,
            running: BTreeMap::new(),
            jobs: 0,
        })
    }

    /// The root folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of the coordinator or of a party.
    pub fn home(&self, name: &str) -> PathBuf {
        home(&self.root, name)
    }

    /// The coordinator's address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The frozen study.
    pub fn frozen(&self) -> &FrozenStudy {
        &self.frozen
    }

    /// The parties, in the order of the study.
    pub fn parties(&self) -> &[PartyId] {
        &self.parties
    }

    /// The logs.
    pub fn logs(&self) -> &Logs {
        &self.logs
    }

    /// Starts the daemon of the coordinator or of a party.
    pub fn start(&mut self, name: &str) -> anyhow::Result<()> {
        self.start_doomed(name, None)
    }

    /// Starts a daemon that dies at a fault point.
    pub fn start_killed_at(&mut self, name: &str, point: &str) -> anyhow::Result<()> {
        self.start_doomed(name, Some(point))
    }

    /// Starts the coordinator's daemon so that it announces no round from this one on.
    pub fn start_holding(&mut self, round: u32) -> anyhow::Result<()> {
        self.start_with(
            COORDINATOR,
            None,
            &["--hold-before".to_owned(), round.to_string()],
        )
    }

    fn start_doomed(&mut self, name: &str, kill_at: Option<&str>) -> anyhow::Result<()> {
        self.start_with(name, kill_at, &[])
    }

    fn start_with(&mut self, name: &str, kill_at: Option<&str>, more: &[String]) -> anyhow::Result<()> {
        ensure!(!self.running.contains_key(name), "{name} runs already");
        let args = [OsString::from("serve"), "--dir".into(), self.home(name).into()];
        let args = args.into_iter().chain(more.iter().map(OsString::from));
        let process = Process::start(&self.program, role(name), &self.logs, name, args, kill_at)?;
        self.running.insert(name.to_owned(), process);
        Ok(())
    }

    /// Starts the coordinator and all parties.
    pub fn start_all(&mut self) -> anyhow::Result<()> {
        self.start(COORDINATOR)?;
        for party in self.parties.clone() {
            self.start(party.as_str())?;
        }
        Ok(())
    }

    /// Makes the folder of another hospital, with its table; it is in no study yet.
    pub fn init_party(&mut self, party: &PartyId, table: &[u8]) -> anyhow::Result<()> {
        let address = self.address.to_string();
        let args = ["init", "--name", party.as_str(), "--coordinator", &address];
        self.run(party.as_str(), &args)?;
        Ok(std::fs::write(self.home(party.as_str()).join("data.csv"), table)?)
    }

    /// Has a party sign the frozen study in a file.
    pub fn sign(&mut self, party: &PartyId, file: &Path, digest: &str) -> anyhow::Result<Value> {
        let file = file.to_string_lossy().into_owned();
        self.run(party.as_str(), &["study", "sign", &file, "--digest", digest])
    }

    /// From here on the federation is that of a successor study.
    pub fn follow(&mut self, frozen: FrozenStudy) {
        self.parties = frozen
            .study()
            .party
            .iter()
            .map(|member| member.name.clone())
            .collect();
        self.frozen = frozen;
    }

    /// Kills a daemon with SIGKILL.
    pub fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        self.take(name)?.kill()
    }

    /// Tells a daemon to end (SIGTERM) and waits; it must end gracefully.
    pub fn stop(&mut self, name: &str) -> anyhow::Result<()> {
        let mut process = self.take(name)?;
        let status = process.stop()?;
        ensure!(
            status.success(),
            "{name} did not end gracefully ({status}):\n{}",
            process.last_words(12)
        );
        Ok(())
    }

    /// Stops every daemon that runs, all at once; returns what went wrong.
    pub fn stop_all(&mut self) -> anyhow::Result<Vec<String>> {
        let mut wrong = Vec::new();
        for process in self.running.values_mut() {
            process.terminate()?;
        }
        for (name, mut process) in std::mem::take(&mut self.running) {
            match process.wait() {
                Ok(status) if status.success() => {}
                Ok(status) => wrong.push(format!("{name} did not end gracefully ({status})")),
                Err(error) => wrong.push(format!("{error:#}")),
            }
        }
        Ok(wrong)
    }

    /// Waits until a daemon has killed itself at its fault point.
    pub fn wait_killed(&mut self, name: &str) -> anyhow::Result<()> {
        let doomed = name.to_owned();
        self.wait_for(&format!("{name} dies at its fault point"), |federation, _| {
            let process = federation
                .running
                .get_mut(&doomed)
                .with_context(|| format!("{doomed} does not run"))?;
            Ok(process.ended()?.is_some_and(was_killed))
        })?;
        self.running.remove(name);
        Ok(())
    }

    /// Waits for the end of a daemon that cannot go on; returns its exit status and its log.
    pub fn wait_ended(&mut self, name: &str) -> anyhow::Result<(std::process::ExitStatus, String)> {
        let mut process = self.take(name)?;
        let status = process.wait()?;
        Ok((status, process.log()?))
    }

    /// The log of a daemon, of all its runs so far.
    pub fn log(&self, name: &str) -> anyhow::Result<String> {
        let path = self.logs.log(name);
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    }

    fn take(&mut self, name: &str) -> anyhow::Result<Process> {
        self.running
            .remove(name)
            .with_context(|| format!("{name} does not run"))
    }

    /// Starts a command of the coordinator or of a party, such as `["query"]`. Its result is JSON.
    pub fn command<S: Into<OsString>>(
        &mut self,
        name: &str,
        args: impl IntoIterator<Item = S>,
    ) -> anyhow::Result<Job> {
        self.command_with(name, args, None)
    }

    /// Runs a command that dies at a fault point.
    pub fn run_killed_at(&mut self, name: &str, args: &[&str], point: &str) -> anyhow::Result<()> {
        let mut job = self.command_with(name, args.iter().copied(), Some(point))?;
        let status = job.process().wait()?;
        ensure!(was_killed(status), "{name} did not die at {point} ({status})");
        Ok(())
    }

    fn command_with<S: Into<OsString>>(
        &mut self,
        name: &str,
        args: impl IntoIterator<Item = S>,
        kill_at: Option<&str>,
    ) -> anyhow::Result<Job> {
        self.jobs += 1;
        let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
        let word = args
            .first()
            .map(|word| word.to_string_lossy().into_owned())
            .unwrap_or_default();
        let job = format!("{name}.{word}.{}", self.jobs);
        let args = args.into_iter().chain([
            "--dir".into(),
            self.home(name).into(),
            "--format".into(),
            "json".into(),
        ]);
        Ok(Job::new(Process::start(
            &self.program,
            role(name),
            &self.logs,
            &job,
            args,
            kill_at,
        )?))
    }

    /// Runs a command and returns its result.
    pub fn run(&mut self, name: &str, args: &[&str]) -> anyhow::Result<Value> {
        self.command(name, args.iter().copied())?.result()
    }

    /// What `party status` says: the daemon's status with the traffic of queries added.
    pub fn party_status(&mut self, party: &PartyId) -> anyhow::Result<PartyStatus> {
        let result = self.run(party.as_str(), &["status"])?;
        serde_json::from_value(result).with_context(|| format!("the status of {party}"))
    }

    /// What all daemons say of themselves.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::read(&self.root, self.parties.iter())
    }

    /// Waits until the condition holds. Fails when nothing moves for a while, and at once when a daemon ends that nobody stopped
    /// or doomed, or when the study is closed as failed.
    pub fn wait_for(
        &mut self,
        what: &str,
        mut condition: impl FnMut(&mut Self, &Snapshot) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let (mut essence, mut moved) = (Snapshot::default(), Instant::now());
        loop {
            let snapshot = self.snapshot();
            if condition(self, &snapshot)? {
                return Ok(());
            }
            if let Some((false, reason)) = snapshot.closed() {
                bail!("waiting until {what}: the study is closed: {reason}");
            }
            self.check_processes()
                .with_context(|| format!("waiting until {what}"))?;
            let now = snapshot.essence();
            if now != essence {
                (essence, moved) = (now, Instant::now());
            }
            if moved.elapsed() >= STANDSTILL {
                bail!(
                    "waiting until {what}: nothing moves\n{}{}",
                    snapshot.describe(),
                    self.last_words()
                );
            }
            std::thread::sleep(LOOK);
        }
    }

    fn check_processes(&mut self) -> anyhow::Result<()> {
        for (name, process) in &mut self.running {
            if let Some(status) = process.ended()?
                && !status.success()
                && !was_killed(status)
            {
                bail!(
                    "{name} ended ({status}); its last words:\n{}",
                    process.last_words(12)
                );
            }
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let words = |(name, process): (&String, &Process)| {
            format!("  last words of {name}:\n{}", process.last_words(8))
        };
        self.running.iter().map(words).collect()
    }
}

/// Runs the commands that lay a federation out.
struct Layout<'a> {
    program: &'a Program,
    root: &'a Path,
    logs: &'a Logs,
}

impl Layout<'_> {
    fn home(&self, name: &str) -> PathBuf {
        home(self.root, name)
    }

    fn run<S: Into<OsString> + Clone>(&mut self, role: Role, name: &str, args: &[S]) -> anyhow::Result<()> {
        let args = args
            .iter()
            .cloned()
            .map(Into::into)
            .chain(["--dir".into(), self.home(name).into()]);
        let mut process = Process::start(
            self.program,
            role,
            self.logs,
            &format!("{name}.setup"),
            args,
            None,
        )?;
        let status = process.wait()?;
        ensure!(
            status.success(),
            "{} failed ({status}):\n{}",
            process.name(),
            process.last_words(12)
        );
        Ok(())
    }
}

/// The folder of the coordinator or of a party below the root.
pub(crate) fn home(root: &Path, name: &str) -> PathBuf {
    if name == COORDINATOR {
        root.join(COORDINATOR)
    } else {
        root.join("hospitals").join(name)
    }
}

fn role(name: &str) -> Role {
    if name == COORDINATOR {
        Role::Coordinator
    } else {
        Role::Party
    }
}

/// Sets a field of a configuration file; the comments stay.
fn set_field(path: &Path, field: &str, value: &str) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let prefix = format!("{field} = ");
    ensure!(
        text.lines().any(|line| line.starts_with(&prefix)),
        "{} has no field {field}",
        path.display()
    );
    let lines = text.lines().map(|line| {
        if line.starts_with(&prefix) {
            format!("{prefix}\"{value}\"\n")
        } else {
            format!("{line}\n")
        }
    });
    std::fs::write(path, lines.collect::<String>())?;
    Ok(())
}
