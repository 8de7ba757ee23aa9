//! The coordinator of a measurement: a real one, in a process of its own.

use crate::ROLE;
use crate::machine;
use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A running coordinator. It is killed when this is dropped.
pub(crate) struct Process(Child);

impl Process {
    /// Starts the daemon on a folder; its log goes to a file beside it.
    pub(crate) fn start(folder: &Path) -> anyhow::Result<Self> {
        let log = std::fs::File::create(folder.with_extension("log"))?;
        let child = Command::new(std::env::current_exe()?)
            .args([ROLE, "serve", "--dir"])
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("the coordinator cannot be started")?;
        Ok(Self(child))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Largest memory so far, in MiB.
    pub(crate) fn peak_mib(&self) -> f64 {
        machine::peak_mib(self.id()).unwrap_or(f64::NAN)
    }

    /// Processor time so far.
    pub(crate) fn cpu(&self) -> Duration {
        machine::cpu(self.id()).unwrap_or_default()
    }

    /// Ends it gracefully.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        let id = Pid::from_child(&self.0);
        kill_process(id, Signal::TERM)?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
