//! `party serve`.

use super::args::DirArgs;
use super::output::Output;
use crate::config::Config;
use crate::daemon::Daemon;
use crate::party::End;
use anyhow::Context;
use galen_core::SystemClock;
use galen_core::telemetry;
use galen_rns::{kernel, threads};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How long stopping waits for what is being written. Training under way is not waited for: it is done again.
const GRACE: Duration = Duration::from_secs(5);

#[derive(Serialize)]
struct Ended {
    completed: bool,
    reason: String,
}

/// Takes part in the study.
pub(super) fn run(args: &DirArgs, output: &Output) -> anyhow::Result<()> {
    let home = super::open(&args.dir)?;
    let config = Config::load(&home)?;
    telemetry::start(&config.log.filter, config.log.format);
    let backend = kernel::select().context("GALEN_KERNEL")?;
    threads::set_default(config.threads).context("threads, in config.toml")?;
    tracing::info!(
        kernel = backend.name(),
        threads = threads::current(),
        "arithmetic"
    );
    let daemon = Daemon::open(&home, Arc::new(SystemClock))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the async runtime")?;
    let end = runtime.block_on(async {
        let stop = stop_on_signals().context("signal handlers")?;
        Ok::<_, anyhow::Error>(daemon.serve(stop).await?)
    });
    runtime.shutdown_timeout(GRACE);
    let ended = match end? {
        End::Stopped => Ended {
            completed: false,
            reason: "asked to stop".into(),
        },
        End::Completed(reason) => Ended {
            completed: true,
            reason,
        },
    };
    let text = format!("Stopped: {}.", ended.reason);
    output.say(ended, || text)
}

fn stop_on_signals() -> std::io::Result<watch::Receiver<bool>> {
    let (sender, receiver) = watch::channel(false);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("stopping");
        // Nobody listens any more if the daemon has ended by itself.
        let _ = sender.send(true);
    });
    Ok(receiver)
}
