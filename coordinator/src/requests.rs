//! Answers parties' requests.

use crate::blobs::{QueryLimits, Sink};
use crate::lanes::{Lane, Lanes};
use crate::rounds::engine::{Engine, internal};
use crate::serving::Service;
use galen_core::{Code, Digest, PartyId, Refusal};
use galen_net::protocol::{BlobKind, Request, Response};
use galen_net::{Exchange, NetError};
use galen_sums::RoundId;
use std::sync::Arc;
use std::time::Duration;

/// How long a poll waits for a change. Well below the time that a caller waits for the first byte of an answer.
const POLL: Duration = Duration::from_secs(15);
/// How long a poll waits for further changes, for each party of the study.
const BREATH: Duration = Duration::from_micros(250);

/// Everything that answering needs.
#[derive(Clone)]
pub struct Desk {
    /// Rounds.
    pub engine: Arc<Engine>,
    /// Queries.
    pub service: Arc<Service>,
    /// Sizes that are accepted.
    pub limits: QueryLimits,
    /// How much goes on at a time.
    pub lanes: Lanes,
}

impl Desk {
    /// Answers one request.
    pub async fn answer(self, exchange: Exchange) {
        let name = self
            .engine
            .study()
            .by_certificate(&exchange.fingerprint())
            .map(|card| card.name.clone());
        let Some(party) = name else {
            // The handshake admits pinned certificates only; this covers a study file exchanged under a running daemon.
            let _ = exchange
                .refuse(Refusal::new(
                    Code::UnknownCertificate,
                    "not a member of the study",
                ))
                .await;
            return;
        };
        if let Err(error) = self.dispatch(&party, exchange).await {
            tracing::debug!(%party, %error, "exchange ended early");
        }
    }

    async fn dispatch(self, party: &PartyId, mut exchange: Exchange) -> Result<(), NetError> {
        match exchange.request().clone() {
            Request::Poll { seen, from } => self.poll(exchange, seen, from).await,
            Request::Put { digest, len, kind } => {
                let lane = self.lane(&mut exchange, self.lanes.blob()).await?;
                let (engine, party) = (Arc::clone(&self.engine), party.clone());
                let (limits, service) = (self.limits, Arc::clone(&self.service));
                let sink = blocking(move || {
                    // What is too long is refused as such, and not counted.
                    match kind {
                        BlobKind::Batch if len <= limits.batch => service.admit_batch(&party, &digest)?,
                        BlobKind::EvaluationKey if len <= limits.key => service.admit_key(&party, &digest)?,
                        _ => {}
                    }
                    Sink::open(&engine, limits, &party, &digest, len, kind)
                });
                let sink = sink.await;
                match sink {
                    Ok(sink) => {
                        let mut turn = lane.turn();
                        let received = exchange.receive_blob(sink, move |done, _| turn.goes_on(done));
                        lane.during(received).await.unwrap_or(Err(NetError::Cancelled))
                    }
                    Err(refusal) => exchange.refuse(refusal).await,
                }
            }
            Request::Get { digest, .. } => {
                let lane = self.lane(&mut exchange, self.lanes.blob()).await?;
                let asker = party.clone();
                let desk = self.clone();
                match blocking(move || desk.readable(&asker, &digest)).await {
                    Ok(len) => {
                        let engine = Arc::clone(&self.engine);
                        let open = move |offset| {
                            engine
                                .store()
                                .blobs()
                                .open_read_at(&digest, offset)
                                .map_err(std::io::Error::other)
                        };
                        let mut turn = lane.turn();
                        let sent = exchange.send_blob(len, open, move |done, _| turn.goes_on(done));
                        lane.during(sent).await.unwrap_or(Err(NetError::Cancelled))
                    }
                    Err(refusal) => exchange.refuse(refusal).await,
                }
            }
            request => {
                let lane = match request {
                    Request::Fetch { .. } | Request::FetchSealed { .. } | Request::Audit { .. } => {
                        Some(self.lane(&mut exchange, self.lanes.page()).await?)
                    }
                    _ => None,
                };
                let (desk, party) = (self.clone(), party.clone());
                let answer = blocking(move || desk.respond(&party, request)).await;
                let answered = async {
                    match answer {
                        Ok(response) => exchange.reply(response).await,
                        Err(refusal) => {
                            tracing::info!(%refusal, "refused");
                            exchange.refuse(refusal).await
                        }
                    }
                };
                match lane {
                    Some(lane) => lane.during(answered).await.unwrap_or(Err(NetError::Cancelled)),
                    None => answered.await,
                }
            }
        }
    }

    /// Waits for a lane, and lets the asking side know that it waits.
    async fn lane(
        &self,
        exchange: &mut Exchange,
        lane: impl Future<Output = Option<Lane>>,
    ) -> Result<Lane, NetError> {
        exchange.queue(lane).await?.ok_or(NetError::Cancelled)
    }

    /// Answers a request that moves no blob, at once; it blocks while something is written.
    pub fn respond(&self, party: &PartyId, request: Request) -> Result<Response, Refusal> {
        match request {
            Request::Poll { from, .. } => Ok(Response::View(self.engine.view(from))),
            Request::Hello { consent } => self.engine.consent(party, &consent).map(|()| Response::Ok),
            Request::Post(statement) => self.engine.post(party, statement).map(|()| Response::Ok),
            Request::Fetch {
                round,
                attempt,
                item,
                after,
            } => {
                let id = RoundId { round, attempt };
                let page = self.engine.fetch(party, id, item, after.as_ref())?;
                Ok(Response::Statements {
                    found: page.found,
                    more: page.more,
                })
            }
            Request::FetchSealed {
                round,
                attempt,
                item,
                statement,
            } => {
                let id = RoundId { round, attempt };
                let text = self.engine.fetch_sealed(party, id, item, &statement)?;
                Ok(Response::Sealed(text))
            }
            Request::Audit { from } => self.engine.audit(from).map(Response::Audit),
            Request::Serving => Ok(Response::Serving(self.service.serving())),
            Request::KeyStatus { key } => self.service.key_status(party, &key).map(Response::Key),
            Request::Query { model, key, batch } => {
                self.service.submit(party, model, key, batch).map(Response::Query)
            }
            Request::QueryStatus { batch } => self.service.status(party, &batch).map(Response::Query),
            Request::Models => Ok(Response::Models(self.service.offers())),
            Request::Cancel { batch } => self.service.cancel(party, &batch).map(Response::Query),
            Request::Acknowledge { batch } => self.service.acknowledge(party, &batch).map(|()| Response::Ok),
            Request::Put { .. } | Request::Get { .. } => {
                Err(internal(crate::rounds::engine::EngineError::Missing("a handler")))
            }
        }
    }

    /// Length of a blob that a party may read.
    pub fn readable(&self, party: &PartyId, digest: &Digest) -> Result<u64, Refusal> {
        self.engine.may_read(party, digest)?;
        let blobs = self.engine.store().blobs();
        let info = blobs.info(digest).map_err(|error| error.refusal())?;
        info.map(|info| info.len)
            .ok_or_else(|| Refusal::new(Code::BlobUnknown, "no such blob"))
    }

    async fn poll(self, exchange: Exchange, seen: u64, from: u32) -> Result<(), NetError> {
        let mut changes = self.engine.changes();
        let changed = async {
            // A sender that is gone means that the daemon ends; then the view as it is will do.
            let _ = changes.wait_for(|version| *version != seen).await;
        };
        tokio::select! {
            () = exchange.cancelled() => return Ok(()),
            () = exchange.room_is_wanted() => {
                exchange.make_room();
                return Ok(());
            }
            _ = tokio::time::timeout(POLL, changed) => {}
        }
        // Every statement changes the view and everybody waits for it: without a breath that grows with the parties, the views
        // sent in a round would grow with their square.
        let parties = self.engine.study().study().party.len();
        tokio::time::sleep(BREATH * u32::try_from(parties).unwrap_or(u32::MAX).min(400)).await;
        match self.engine.encoded_view(from) {
            Ok(view) => exchange.reply_encoded(&view).await,
            Err(error) => {
                let refusal = Refusal::new(Code::Internal, error.to_string());
                exchange.refuse(refusal).await
            }
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.unwrap_or_else(|_| {
        Err(Refusal::new(
            Code::Internal,
            "the coordinator could not carry this out",
        ))
    })
}
