//! A command that is run once, such as `party query`: its result is one JSON object on standard output.

use crate::process::Process;
use anyhow::{Context, bail, ensure};
use serde_json::Value;
use std::process::ExitStatus;
use std::time::Duration;

/// A command under way or done.
#[derive(Debug)]
pub struct Job(Process);

/// A command that did not succeed.
#[derive(Debug)]
pub struct Failure {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard error.
    pub log: String,
}

impl Job {
    pub(crate) fn new(process: Process) -> Self {
        Self(process)
    }

    /// Whether it has ended.
    pub fn is_done(&mut self) -> anyhow::Result<bool> {
        Ok(self.0.ended()?.is_some())
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.0
    }

    /// Waits for its end and returns its result.
    pub fn result(mut self) -> anyhow::Result<Value> {
        let status = self.0.wait()?;
        self.read(status)
    }

    /// The same for one that takes long, up to a time.
    pub fn result_within(mut self, patience: Duration) -> anyhow::Result<Value> {
        let status = self.0.wait_at_most(patience)?;
        self.read(status)
    }

    fn read(self, status: ExitStatus) -> anyhow::Result<Value> {
        if !status.success() {
            bail!("{} failed ({status}):\n{}", self.0.name(), self.0.last_words(12));
        }
        let text = self.0.output()?;
        let mut envelope: Value = serde_json::from_str(&text)
            .with_context(|| format!("{} wrote no JSON object: {text}", self.0.name()))?;
        ensure!(envelope["ok"] == true, "{} says: {envelope}", self.0.name());
        Ok(envelope["result"].take())
    }

    /// Waits for its end, which must not be a success.
    pub fn failure(mut self) -> anyhow::Result<Failure> {
        let status = self.0.wait()?;
        ensure!(!status.success(), "{} succeeded", self.0.name());
        Ok(Failure {
            status,
            log: self.0.log()?,
        })
    }
}
