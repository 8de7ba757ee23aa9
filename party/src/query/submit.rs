//! Exchanging blobs with the coordinator. Every request may be repeated, so a lost connection is made again and the query goes on.

use super::Stage;
use crate::error::PartyError;
use crate::link::Link;
use crate::sinks::MemorySink;
use galen_core::{Code, Digest, Signed, faults};
use galen_net::protocol::{BlobKind, KeyState, Offer, QueryState, Serving};
use galen_net::{Client, NetError, Peer};
use std::sync::Arc;
use std::time::Duration;

/// Whom progress is told.
pub(super) type Watch = Arc<dyn Fn(Stage) + Send + Sync>;

/// How long the coordinator may be away before the query gives up.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a running query is asked about.
const LOOK: Duration = Duration::from_millis(200);

/// How long to wait when the coordinator has too much to do.
const BUSY: Duration = Duration::from_secs(2);

/// A connection that is made again when it is lost.
pub(super) struct Connection {
    client: Client,
    consent: Signed,
    stage: Watch,
    link: Option<(Peer, Link)>,
}

impl Connection {
    pub(super) fn new(client: Client, consent: Signed, stage: Watch) -> Self {
        Self {
            client,
            consent,
            stage,
            link: None,
        }
    }

    /// The served model.
    pub(super) async fn serving(&mut self) -> Result<Serving, PartyError> {
        loop {
            let link = self.link().await?;
            if let Some(serving) = self.unless_lost(link.serving().await)? {
                return serving
                    .ok_or_else(|| PartyError::NotYet("the coordinator serves no model yet".into()));
            }
        }
    }

    /// Uploads the evaluation key, unless it is registered. Waits while the coordinator has too much to do.
    ///
    /// # Errors
    /// [`PartyError::StaleKey`] if another key took the place of this one.
    pub(super) async fn register(&mut self, key: &Arc<[u8]>) -> Result<(), PartyError> {
        let digest = Digest::of(key);
        loop {
            let link = self.link().await?;
            let registered = async {
                let mut state = link.key_status(digest).await?;
                if state == KeyState::Missing {
                    let stage = Arc::clone(&self.stage);
                    let progress = move |done, total| stage(Stage::Sending(done, total));
                    link.put(digest, Arc::clone(key), BlobKind::EvaluationKey, progress)
                        .await?;
                    // The coordinator reads it now.
                    state = link.key_status(digest).await?;
                }
                match state {
                    KeyState::Stale => Err(PartyError::StaleKey),
                    KeyState::Missing | KeyState::Present => Ok(()),
                }
            };
            let registered = registered.await;
            if self.unless_put_off(registered).await?.is_some() {
                return Ok(());
            }
        }
    }

    /// Has a batch evaluated; returns the encrypted answer.
    pub(super) async fn evaluate(
        &mut self,
        model: Digest,
        key: &Arc<[u8]>,
        batch: &Arc<[u8]>,
        max_reply: u64,
    ) -> Result<Vec<u8>, PartyError> {
        self.submit(model, Digest::of(key), batch).await?;
        self.collect(Digest::of(batch), max_reply).await
    }

    /// Sends a batch, and asks for it to be evaluated. Waits while the coordinator has too much to do.
    pub(super) async fn submit(
        &mut self,
        model: Digest,
        key: Digest,
        batch: &Arc<[u8]>,
    ) -> Result<(), PartyError> {
        let name = Digest::of(batch);
        let mut again = false;
        loop {
            let link = self.link().await?;
            let stage = Arc::clone(&self.stage);
            let submitted = async {
                // A query that was submitted before the connection was lost goes on by itself, and its batch may be gone already.
                if again && known(link.query_status(name).await)?.is_some() {
                    return Ok(());
                }
                let progress = move |done, total| stage(Stage::Sending(done, total));
                link.put(name, Arc::clone(batch), BlobKind::Batch, progress)
                    .await?;
                faults::reach("party.query.uploaded");
                link.query(model, key, name).await.map(drop)
            };
            let submitted = submitted.await;
            if self.unless_put_off(submitted).await?.is_some() {
                return Ok(());
            }
            again = true;
        }
    }

    /// Waits for a batch's evaluation; returns the encrypted answer.
    pub(super) async fn collect(&mut self, batch: Digest, max_reply: u64) -> Result<Vec<u8>, PartyError> {
        loop {
            let link = self.link().await?;
            let stage = Arc::clone(&self.stage);
            let answered = async {
                let answer = loop {
                    match link.query_status(batch).await? {
                        QueryState::Done { answer } => break answer,
                        QueryState::Failed(refusal) => return Err(NetError::Refused(refusal).into()),
                        QueryState::Cancelled => {
                            return Err(PartyError::NotYet("the query was taken back".into()));
                        }
                        QueryState::Queued { ahead } => stage(Stage::Waiting(ahead)),
                        QueryState::Running { done, total } => stage(Stage::Evaluating(done, total)),
                    }
                    tokio::time::sleep(LOOK).await;
                };
                let sink = MemorySink::new(answer, max_reply);
                link.get(answer, sink.clone(), |done, total| {
                    stage(Stage::Fetching(done, total))
                })
                .await?;
                Ok(sink.take())
            };
            let answered = answered.await;
            if let Some(reply) = self.unless_lost(answered)? {
                return Ok(reply);
            }
        }
    }

    /// How a batch is doing; `None` if the coordinator does not know it.
    pub(super) async fn state(&mut self, batch: Digest) -> Result<Option<QueryState>, PartyError> {
        loop {
            let link = self.link().await?;
            let state = known(link.query_status(batch).await);
            if let Some(state) = self.unless_lost(state)? {
                return Ok(state);
            }
        }
    }

    /// The models that can be asked.
    pub(super) async fn models(&mut self) -> Result<Vec<Offer>, PartyError> {
        loop {
            let link = self.link().await?;
            if let Some(models) = self.unless_lost(link.models().await)? {
                return Ok(models);
            }
        }
    }

    /// A blob of at most this many bytes.
    pub(super) async fn fetch(&mut self, digest: Digest, most: u64) -> Result<Vec<u8>, PartyError> {
        loop {
            let link = self.link().await?;
            let sink = MemorySink::new(digest, most);
            let fetched = link.get(digest, sink.clone(), |_, _| {}).await;
            if self.unless_lost(fetched)?.is_some() {
                return Ok(sink.take());
            }
        }
    }

    /// Whether an evaluation key is registered.
    pub(super) async fn key_state(&mut self, key: Digest) -> Result<KeyState, PartyError> {
        loop {
            let link = self.link().await?;
            if let Some(state) = self.unless_lost(link.key_status(key).await)? {
                return Ok(state);
            }
        }
    }

    /// Takes a batch back. Of one that was not submitted, the coordinator drops what has arrived; if it refuses that, it deletes it after a
    /// time by itself.
    pub(super) async fn cancel(&mut self, batch: Digest) -> Result<(), PartyError> {
        loop {
            let link = self.link().await?;
            let cancelled = async {
                match link.cancel(batch).await {
                    Err(error) if error.refusal().is_some() => {
                        if known(link.query_status(batch).await)?.is_some() {
                            return Err(error);
                        }
                        tracing::debug!(%error, "a batch that was not submitted was not dropped");
                        Ok(())
                    }
                    cancelled => cancelled.map(drop),
                }
            };
            let cancelled = cancelled.await;
            if self.unless_lost(cancelled)?.is_some() {
                return Ok(());
            }
        }
    }

    /// Lets the coordinator delete an answer. Whatever comes of it, the answer is here.
    pub(super) async fn acknowledge(&mut self, batch: Digest) {
        if let Ok(link) = self.link().await
            && let Err(error) = link.acknowledge(batch).await
        {
            tracing::debug!(%error, "an answer was not acknowledged");
        }
    }

    /// Ends the connection; tells the bytes sent and received on all connections.
    pub(super) async fn close(mut self) -> (u64, u64) {
        if let Some((peer, _)) = self.link.take() {
            peer.leave().await;
        }
        let traffic = self.client.traffic();
        (traffic.sent(), traffic.received())
    }

    async fn link(&mut self) -> Result<Link, PartyError> {
        if let Some((_, link)) = &self.link {
            return Ok(link.clone());
        }
        let connect = self.client.connect_patiently(|error: &NetError, wait: Duration| {
            tracing::warn!(%error, wait_s = wait.as_secs_f64(), "the coordinator cannot be reached");
        });
        let peer = match tokio::time::timeout(PATIENCE, connect).await {
            Ok(peer) => peer?,
            // Once more, so that the error says what is the matter.
            Err(_) => self.client.connect().await?,
        };
        let link = Link::hello(Arc::new(peer.clone()), &self.consent).await?;
        self.link = Some((peer, link.clone()));
        Ok(link)
    }

    /// `None` if the caller is to ask again: the connection was lost, or the coordinator had too much to do, some time ago when this returns.
    async fn unless_put_off<T>(&mut self, result: Result<T, PartyError>) -> Result<Option<T>, PartyError> {
        match result {
            Err(error) if is_busy(&error) => {
                let detail = error.refusal().map(|refusal| refusal.detail.clone());
                (self.stage)(Stage::Busy(detail.unwrap_or_default()));
                tokio::time::sleep(BUSY).await;
                Ok(None)
            }
            result => self.unless_lost(result),
        }
    }

    /// `None` if the connection was lost, so that the caller connects again.
    fn unless_lost<T>(&mut self, result: Result<T, PartyError>) -> Result<Option<T>, PartyError> {
        match result {
            Ok(value) => Ok(Some(value)),
            // Refusals are answers, also those that a later time may change; the person who asked decides.
            Err(error) if error.is_transient() && error.refusal().is_none() => {
                tracing::warn!(%error, "connection lost");
                if let Some((peer, _)) = self.link.take() {
                    peer.close();
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

fn is_busy(error: &PartyError) -> bool {
    error.refusal().is_some_and(|refusal| refusal.code == Code::Busy)
}

/// The state of a query, unless the coordinator does not know it.
fn known(answer: Result<QueryState, PartyError>) -> Result<Option<QueryState>, PartyError> {
    match answer {
        Ok(state) => Ok(Some(state)),
        Err(error)
            if error
                .refusal()
                .is_some_and(|refusal| refusal.code == Code::BlobUnknown) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
