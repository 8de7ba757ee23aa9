//! The engine as a process that answers requests, one JSON object per line, so that other languages can compare it
//! with other libraries: same inputs, same operations, same clock. `compare.py` next to this package drives it.
//!
//! An answer is `{"ok": ...}` or `{"error": "..."}`. The process ends with its input.

mod aggregation;
mod clock;
mod network;
mod program;
mod protocol;
mod session;

use crate::clock::CLOCK;
use crate::protocol::{Greeting, Request};
use crate::session::Session;
use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::{Value, json};
use std::io::{BufRead, Write, stdin, stdout};

/// Answers requests, remembering what was opened.
#[derive(Default)]
struct Server {
    session: Option<Session>,
}

impl Server {
    fn answer(&mut self, line: &str) -> Value {
        let answered = serde_json::from_str(line)
            .context("not a request")
            .and_then(|request| self.perform(request));
        match answered {
            Ok(value) => json!({ "ok": value }),
            Err(error) => json!({ "error": format!("{error:#}") }),
        }
    }

    fn perform(&mut self, request: Request) -> Result<Value> {
        match request {
            Request::Hello => to_json(&Greeting {
                library: "Galen",
                version: env!("CARGO_PKG_VERSION"),
                backend: format!("kernels: {}", galen_rns::kernel::active()),
                machine: galen_measure::machine(),
                clock: CLOCK,
            }),
            Request::Open { parameters, operands } => {
                // The old one first: two at once would count as peak memory.
                self.session = None;
                let session = Session::open(&parameters, operands)?;
                to_json(&self.session.insert(session).description())
            }
            Request::Time {
                operation,
                samples,
                sample_ms,
            } => to_json(&self.open()?.time(&operation, samples, sample_ms)?),
            Request::Sizes => to_json(&self.open()?.sizes()?),
            Request::Evaluate {
                inputs,
                program,
                outputs,
            } => to_json(&self.open()?.evaluate(&inputs, &program, &outputs)?),
            Request::Aggregate(task) => to_json(&aggregation::run(&task)?),
            Request::Network(task) => to_json(&network::run(&task)?),
        }
    }

    fn open(&self) -> Result<&Session> {
        self.session.as_ref().context("nothing is open; send open first")
    }
}

fn to_json(value: &impl Serialize) -> Result<Value> {
    Ok(serde_json::to_value(value)?)
}

fn main() -> Result<()> {
    let mut server = Server::default();
    let mut out = stdout().lock();
    for line in stdin().lock().lines() {
        writeln!(out, "{}", server.answer(&line?))?;
        out.flush()?;
    }
    Ok(())
}
