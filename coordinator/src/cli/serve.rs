//! `coordinator serve`.

use super::output::Outcome;
use crate::{daemon, home::Home};
use anyhow::Context;
use galen_core::telemetry;
use galen_rns::{kernel, threads};
use serde_json::json;
use std::path::Path;

pub(crate) const LONG: &str = "\
Runs the daemon: listens on the UDP address of config.toml, admits the study's parties by their pinned certificates, and drives the study from signatures over rounds to serving. Every step is on disk before it is acknowledged, so the daemon may be killed at any moment and started again. Ctrl-C or SIGTERM ends it gracefully.

With --hold-before ROUND no round from ROUND on (counted from 0) is announced: for letting a hospital join or leave between rounds.

Example: coordinator serve --dir coordinator
See:     coordinator status --dir coordinator";

pub(crate) fn run(dir: &Path, hold: Option<u32>) -> anyhow::Result<Outcome> {
    let home = Home::new(dir);
    let config = home.config().context("run `coordinator init` first")?;
    telemetry::start(&config.log.filter, config.log.format);
    let backend = kernel::select().context("GALEN_KERNEL")?;
    threads::set_default(config.threads).context("threads, in config.toml")?;
    tracing::info!(
        kernel = backend.name(),
        threads = threads::current(),
        "arithmetic"
    );
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if config.threads > 0 {
        runtime.worker_threads(config.threads);
    }
    let runtime = runtime
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .context("the async runtime cannot start")?;
    runtime.block_on(daemon::serve(home, config, hold, stop_signal()))?;
    // Work on the blocking pool is resumed at the next start; waiting for it would delay the end.
    runtime.shutdown_background();
    Ok(Outcome {
        text: String::new(),
        data: json!({ "stopped": true }),
    })
}

/// Threads that write and read the disk. Each keeps a stack and memory of the allocator for good, so there are not as many as parties; more than the disk
/// can use wait for each other anyhow. Driving rounds and evaluating queries take two of them.
const BLOCKING_THREADS: usize = 12;

async fn stop_signal() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => {
                tokio::select! {
                    _ = interrupt => {}
                    _ = terminate.recv() => {}
                }
            }
            Err(_) => drop(interrupt.await),
        }
    }
    #[cfg(not(unix))]
    drop(interrupt.await);
}
