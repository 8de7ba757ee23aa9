//! The serving daemon: accepts connections, drives rounds, evaluates queries, writes its status, ends gracefully.

use crate::blobs::QueryLimits;
use crate::config::Config;
use crate::home::{Home, HomeError};
use crate::lanes::Lanes;
use crate::requests::Desk;
use crate::rounds::engine::{Engine, EngineError};
use crate::rounds::steps::Step;
use crate::serving::{Limits, Quotas, Service, ServiceError};
use crate::status::Status;
use crate::succession;
use crate::traffic::Ledger;
use galen_core::{Clock, SystemClock};
use galen_net::{NetError, Server, Tuning};
use galen_store::{Store, StoreError};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How often stand-still is looked for.
const TICK: Duration = Duration::from_millis(200);
/// How often the status is written at least.
const STATUS: Duration = Duration::from_secs(1);
/// How often the folder of models is looked into.
const LOOK: Duration = Duration::from_secs(1);
/// After how many looks what is too old is forgotten.
const SWEEP: u32 = 60;
/// How long exchanges under way may take to end at shutdown.
const GRACE: Duration = Duration::from_secs(5);

/// Why the daemon cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DaemonError {
    /// The folder cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Rounds cannot be driven.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The folder cannot go over to a successor study.
    #[error(transparent)]
    Succession(#[from] succession::Error),
    /// Queries cannot be served.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The network cannot be used.
    #[error(transparent)]
    Net(#[from] NetError),
    /// A task of the daemon ended unexpectedly.
    #[error("a task of the daemon ended unexpectedly")]
    Task,
}

/// Runs until `stop` resolves.
///
/// No round from `hold` on is announced, if it is given.
pub async fn serve(
    home: Home,
    config: Config,
    hold: Option<u32>,
    stop: impl Future<Output = ()>,
) -> Result<(), DaemonError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    succession::settle(&home, &config)?;
    let study = home.study(&config)?;
    let identity = home.identity()?;
    let mut pins: BTreeSet<_> = study.cards().iter().map(|card| card.certificate).collect();
    let digest = study.digest();
    let opened = {
        let (home, clock) = (home.clone(), Arc::clone(&clock));
        let queries = &config.queries;
        let limits = Limits {
            quotas: Quotas {
                waiting: queries.max_waiting,
                hourly: queries.max_hourly,
            },
            keep_ms: u64::from(queries.keep_hours.max(1)) * 3_600_000,
            versions: queries.keep_versions,
        };
        tokio::task::spawn_blocking(move || -> Result<_, DaemonError> {
            let store = Store::open(&home.store_path())?;
            let engine = Arc::new(Engine::open(study, home.signing()?, store, clock)?);
            let service = Arc::new(Service::open(&engine, limits, &home.scratch_path())?);
            Ok((engine, service))
        })
    };
    let (engine, service) = opened.await.map_err(|_| DaemonError::Task)??;
    if let Some(round) = hold {
        engine.hold_before(round);
    }
    // Who left is told that the study was succeeded; nobody else's requests reach the desk under its digest.
    pins.extend(engine.former().iter().flat_map(|former| &former.certificates));
    let former = engine.former().iter().map(|former| former.study).collect();
    let tuning = Tuning {
        connections: config.connections,
        ..Tuning::default()
    };
    let mut server = Server::bind_after(config.listen, &identity, pins, digest, former, tuning)?;
    let listen = server.local_addr().to_string();
    tracing::info!(%listen, study = %engine.study().study().name, digest = %digest.short(), "serving");
    let ledger = Arc::new(Ledger::default());
    let desk = Desk {
        engine: Arc::clone(&engine),
        service: Arc::clone(&service),
        limits: QueryLimits {
            batch: config.queries.max_batch_mib.saturating_mul(1 << 20),
            key: config.queries.max_key_mib.saturating_mul(1 << 20),
        },
        lanes: Lanes::default(),
    };
    let write_status = {
        let (engine, service, ledger) = (Arc::clone(&engine), Arc::clone(&service), Arc::clone(&ledger));
        let (path, connections) = (home.status_path(), Arc::clone(server.counts()));
        move || {
            let status = Status::of(
                &engine,
                &service,
                &ledger,
                &connections,
                &SystemClock,
                listen.clone(),
            );
            if let Err(error) = status.write(&path) {
                tracing::warn!(%error, "status cannot be written");
            }
        }
    };
    write_status();
    let driver = tokio::spawn(drive(Arc::clone(&engine), Arc::clone(&service)));
    let evaluator = tokio::spawn(evaluate(Arc::clone(&service)));
    let keeper = tokio::spawn(keep(Arc::clone(&service), home.models_path()));
    let reporter = tokio::spawn(report(Arc::clone(&engine), write_status.clone()));
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            accepted = server.accept() => {
                let Some(peer) = accepted else { break };
                let (desk, ledger) = (desk.clone(), Arc::clone(&ledger));
                tokio::spawn(async move {
                    let traffic = Arc::clone(peer.traffic());
                    ledger.add(Arc::clone(&traffic));
                    let ended = peer.serve(move |exchange| desk.clone().answer(exchange)).await;
                    tracing::debug!(%ended, "connection ended");
                    ledger.remove(&traffic);
                });
            }
        }
    }
    tracing::info!("stopping");
    server.shutdown(GRACE).await;
    for task in [driver, evaluator, keeper, reporter] {
        task.abort();
    }
    write_status();
    Ok(())
}

/// Drives the rounds, and starts serving when the model is released.
async fn drive(engine: Arc<Engine>, service: Arc<Service>) {
    loop {
        let (driven, serving) = (Arc::clone(&engine), Arc::clone(&service));
        let work = move || {
            driven.drive()?;
            if let Step::Serve(model) = driven.step() {
                match serving.start(model) {
                    // Trying again would end the same way.
                    Err(error @ ServiceError::Model { .. }) => {
                        tracing::error!(%error, "the study ends");
                        driven.fail(error.to_string())?;
                    }
                    started => started?,
                }
            }
            Ok::<_, DaemonError>(())
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "driving the study failed; it is tried again"),
            Err(error) => tracing::error!(%error, "the driver ended; it is started again"),
        }
        let _ = tokio::time::timeout(TICK, engine.woken()).await;
    }
}

async fn evaluate(service: Arc<Service>) {
    loop {
        let worker = Arc::clone(&service);
        match tokio::task::spawn_blocking(move || worker.work()).await {
            Ok(Ok(true)) => continue,
            Ok(Ok(false)) => {}
            Ok(Err(error)) => tracing::error!(%error, "evaluating queries failed; it is tried again"),
            Err(error) => tracing::error!(%error, "the evaluator ended; it is started again"),
        }
        let _ = tokio::time::timeout(STATUS, service.woken()).await;
    }
}

/// Takes in models, and forgets what is too old.
async fn keep(service: Arc<Service>, models: PathBuf) {
    let mut looks = 0u32;
    loop {
        let (keeper, models) = (Arc::clone(&service), models.clone());
        let sweep = looks.is_multiple_of(SWEEP);
        let work = move || {
            keeper.look(&models)?;
            if sweep { keeper.sweep() } else { Ok(()) }
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "keeping models and queries failed; it is tried again"),
            Err(error) => tracing::error!(%error, "the keeper ended; it is started again"),
        }
        looks = looks.wrapping_add(1);
        tokio::time::sleep(LOOK).await;
    }
}

async fn report(engine: Arc<Engine>, write: impl Fn() + Clone + Send + Sync + 'static) {
    let mut changes = engine.changes();
    loop {
        let write = write.clone();
        let _ = tokio::task::spawn_blocking(write).await;
        // Not more often than a reader could look.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let _ = tokio::time::timeout(STATUS, changes.changed()).await;
    }
}
