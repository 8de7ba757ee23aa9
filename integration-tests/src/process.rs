//! A process of the federation: started, watched, killed, stopped.

use crate::role::{Program, Role};
use anyhow::{Context, bail};
use galen_core::faults;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a process may take to end once it was told to.
const END: Duration = Duration::from_secs(60);

/// Where the processes of a federation leave their words.
#[derive(Clone, Debug)]
pub struct Logs(PathBuf);

impl Logs {
    /// A folder for logs; it is made.
    pub fn create(dir: PathBuf) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        Ok(Self(dir))
    }

    /// Standard error of a process.
    pub fn log(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.log"))
    }

    /// Standard output of a process.
    pub fn output(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.out"))
    }

    /// Largest memory of a process that ended by itself.
    pub fn peak(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.peak"))
    }

    /// Largest memory, in bytes, of every process that ended by itself, by name.
    pub fn peaks(&self) -> Vec<(String, u64)> {
        let files = std::fs::read_dir(&self.0)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path());
        let peak = |path: PathBuf| {
            let name = path.file_name()?.to_str()?.strip_suffix(".peak")?.to_owned();
            Some((name, std::fs::read_to_string(&path).ok()?.parse().ok()?))
        };
        files.filter_map(peak).collect()
    }
}

/// A running or ended process.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    output: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts a process in a role. Its output and log are appended to what processes of the same name left before. It dies at the
    /// fault point `kill_at`, if one is given.
    pub fn start<S: AsRef<OsStr>>(
        program: &Program,
        role: Role,
        logs: &Logs,
        name: &str,
        args: impl IntoIterator<Item = S>,
        kill_at: Option<&str>,
    ) -> anyhow::Result<Self> {
        let (log, output) = (logs.log(name), logs.output(name));
        let append = |path: &Path| File::options().create(true).append(true).open(path);
        let mut command = program.command(role, &logs.peak(name));
        // Standard input stays open as long as this process lives; see `role`.
        command
            .args(args)
            .stdin(Stdio::piped())
            .stdout(append(&output)?)
            .stderr(append(&log)?);
        match kill_at {
            Some(point) => command.env(faults::KILL_AT, point),
            None => command.env_remove(faults::KILL_AT),
        };
        // Ctrl-C at the terminal goes to the process that started this one, which ends it in order.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
            output,
            ended: None,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it ended; `None` while it runs.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
        }
        Ok(self.ended)
    }

    /// Waits for its end, which must come soon.
    pub fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        self.wait_at_most(END)
    }

    /// Waits for its end, which must come within a time.
    pub fn wait_at_most(&mut self, patience: Duration) -> anyhow::Result<ExitStatus> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if began.elapsed() > patience {
                bail!(
                    "{} does not end; its last words:\n{}",
                    self.name,
                    self.last_words(12)
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// SIGKILL: as abrupt as a power cut.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        if self.ended()?.is_none() {
            self.child.kill()?;
            self.ended = Some(self.child.wait()?);
        }
        Ok(())
    }

    /// SIGTERM, then waits: what a service manager does.
    pub fn stop(&mut self) -> anyhow::Result<ExitStatus> {
        self.terminate()?;
        self.wait()
    }

    /// SIGTERM.
    pub fn terminate(&mut self) -> anyhow::Result<()> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        #[cfg(unix)]
        {
            use rustix::process::{Pid, Signal, kill_process};
            let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
            kill_process(pid.context("a process without an id")?, Signal::TERM)?;
        }
        #[cfg(not(unix))]
        self.child.kill()?;
        Ok(())
    }

    /// The last lines of its log.
    pub fn last_words(&self, lines: usize) -> String {
        tail(&self.log, lines)
    }

    /// Everything it wrote to standard output.
    pub fn output(&self) -> anyhow::Result<String> {
        std::fs::read_to_string(&self.output).with_context(|| self.output.display().to_string())
    }

    /// Everything it wrote to standard error.
    pub fn log(&self) -> anyhow::Result<String> {
        std::fs::read_to_string(&self.log).with_context(|| self.log.display().to_string())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended; otherwise nobody is left who would wait for it.
        let _ = self.kill();
    }
}

/// Whether a process was ended by SIGKILL.
pub fn was_killed(status: ExitStatus) -> bool {
    #[cfg(unix)]
    {
        std::os::unix::process::ExitStatusExt::signal(&status) == Some(9)
    }
    #[cfg(not(unix))]
    {
        !status.success()
    }
}

/// The last lines of a file, indented.
pub fn tail(path: &Path, lines: usize) -> String {
    const MOST: u64 = 64 << 10;
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(MOST)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_else(|error| format!("(no log: {error})"));
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..]
        .iter()
        .map(|line| format!("    {line}\n"))
        .collect()
}
