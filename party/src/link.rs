//! The connection to the coordinator, with requests and answers in their proper types. The party dials out, always.

use crate::carrier::{AnySink, Carrier};
use crate::error::PartyError;
use galen_core::{Digest, PartyId, Signed};
use galen_net::BlobSink;
use galen_net::protocol::{
    BlobKind, Item, KeyState, Offer, QueryState, Request, Response, Serving, Statement, View,
};
use galen_sums::{Authored, RoundId, SealedStatement};
use std::sync::Arc;

/// Most bytes of statements of one kind about one attempt.
const MAX_STATEMENTS: usize = 256 << 20;

/// A connection on which the party has said who it is.
#[derive(Clone)]
pub struct Link {
    carrier: Arc<dyn Carrier>,
}

impl Link {
    /// Says hello on a fresh connection.
    pub async fn hello(carrier: Arc<dyn Carrier>, consent: &Signed) -> Result<Self, PartyError> {
        let link = Self { carrier };
        match link
            .call(Request::Hello {
                consent: consent.clone(),
            })
            .await?
        {
            Response::Ok => Ok(link),
            other => Err(unexpected(&other)),
        }
    }

    /// Bytes sent and received so far.
    pub fn traffic(&self) -> (u64, u64) {
        self.carrier.traffic()
    }

    async fn call(&self, request: Request) -> Result<Response, PartyError> {
        Ok(self.carrier.call(request).await?)
    }

    /// Waits for a view other than `seen`, or for some seconds. It shows published rounds from `from` on.
    pub async fn poll(&self, seen: u64, from: u32) -> Result<View, PartyError> {
        match self.call(Request::Poll { seen, from }).await? {
            Response::View(view) => Ok(view),
            other => Err(unexpected(&other)),
        }
    }

    /// Makes a statement; it is durable at the coordinator when this returns.
    pub async fn post(&self, statement: Statement) -> Result<(), PartyError> {
        match self.call(Request::Post(statement)).await? {
            Response::Ok => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// The coordinator's record of an attempt.
    pub async fn record(&self, id: RoundId) -> Result<Signed, PartyError> {
        let mut found = self.fetch(id, Item::Record).await?;
        match (found.pop(), found.is_empty()) {
            (Some(record), true) => Ok(record.statement),
            _ => Err(PartyError::Untrue(format!(
                "the coordinator does not give exactly one record for {id}"
            ))),
        }
    }

    /// Statements of others about an attempt. The authors are claims until the statements are verified.
    pub async fn fetch(&self, id: RoundId, item: Item) -> Result<Vec<Authored>, PartyError> {
        let (mut all, mut bytes) = (Vec::<Authored>::new(), 0);
        loop {
            let request = Request::Fetch {
                round: id.round,
                attempt: id.attempt,
                item,
                after: all.last().map(|said| (said.author.clone(), said.digest())),
            };
            let (found, more) = match self.call(request).await? {
                Response::Statements { found, more } => (found, more),
                other => return Err(unexpected(&other)),
            };
            bytes += found.iter().map(|(_, said)| said.payload().len()).sum::<usize>();
            if bytes > MAX_STATEMENTS || (more && found.is_empty()) {
                return Err(PartyError::Untrue(format!(
                    "the coordinator gives no end of statements about {id}"
                )));
            }
            let authored = found
                .into_iter()
                .map(|(author, statement)| Authored { author, statement });
            all.extend(authored);
            if !more {
                return Ok(all);
            }
        }
    }

    /// Answers or key checks, with what they seal to this party. What is sealed is a claim until it was compared with the statement.
    pub async fn fetch_sealed(
        &self,
        id: RoundId,
        item: Item,
        me: &PartyId,
    ) -> Result<Vec<SealedStatement>, PartyError> {
        let mut all = Vec::new();
        for said in self.fetch(id, item).await? {
            let request = Request::FetchSealed {
                round: id.round,
                attempt: id.attempt,
                item,
                statement: said.digest(),
            };
            let text = match self.call(request).await? {
                Response::Sealed(text) => text,
                other => return Err(unexpected(&other)),
            };
            let own = (!text.is_empty()).then(|| (me.clone(), text));
            let texts = own.into_iter().collect();
            all.push(SealedStatement { said, texts });
        }
        Ok(all)
    }

    /// Makes a statement after uploading what it seals to the receivers.
    pub async fn deliver(
        &self,
        sealed: SealedStatement,
        statement: impl FnOnce(Signed) -> Statement,
    ) -> Result<(), PartyError> {
        if !sealed.texts.is_empty() {
            let blob = sealed.blob();
            let digest = Digest::of(&blob);
            self.put(digest, Arc::from(blob), BlobKind::Sealed, |_, _| {})
                .await?;
        }
        self.post(statement(sealed.said.statement)).await
    }

    /// The coordinator's audit log after its first `from` lines, as far as one answer goes. The lines are claims until they are verified.
    pub async fn audit(&self, from: u64) -> Result<Vec<Signed>, PartyError> {
        match self.call(Request::Audit { from }).await? {
            Response::Audit(lines) => Ok(lines),
            other => Err(unexpected(&other)),
        }
    }

    /// Uploads a blob; the coordinator has it whole and durable when this returns. What it has already is not sent again.
    pub async fn put(
        &self,
        digest: Digest,
        bytes: Arc<[u8]>,
        kind: BlobKind,
        mut progress: impl FnMut(u64, u64) + Send,
    ) -> Result<(), PartyError> {
        Ok(self.carrier.put(digest, bytes, kind, &mut progress).await?)
    }

    /// Fetches a blob into a sink, from where the sink is.
    pub async fn get(
        &self,
        digest: Digest,
        sink: impl BlobSink,
        mut progress: impl FnMut(u64, u64) + Send,
    ) -> Result<(), PartyError> {
        Ok(self
            .carrier
            .get(digest, AnySink::new(sink), &mut progress)
            .await?)
    }

    /// The served model, if any.
    pub async fn serving(&self) -> Result<Option<Serving>, PartyError> {
        match self.call(Request::Serving).await? {
            Response::Serving(serving) => Ok(serving),
            other => Err(unexpected(&other)),
        }
    }

    /// Whether an evaluation key is registered.
    pub async fn key_status(&self, key: Digest) -> Result<KeyState, PartyError> {
        match self.call(Request::KeyStatus { key }).await? {
            Response::Key(state) => Ok(state),
            other => Err(unexpected(&other)),
        }
    }

    /// Submits a batch.
    pub async fn query(&self, model: Digest, key: Digest, batch: Digest) -> Result<QueryState, PartyError> {
        match self.call(Request::Query { model, key, batch }).await? {
            Response::Query(state) => Ok(state),
            other => Err(unexpected(&other)),
        }
    }

    /// The models that can be asked.
    pub async fn models(&self) -> Result<Vec<Offer>, PartyError> {
        match self.call(Request::Models).await? {
            Response::Models(models) => Ok(models),
            other => Err(unexpected(&other)),
        }
    }

    /// Takes a batch back.
    pub async fn cancel(&self, batch: Digest) -> Result<QueryState, PartyError> {
        match self.call(Request::Cancel { batch }).await? {
            Response::Query(state) => Ok(state),
            other => Err(unexpected(&other)),
        }
    }

    /// Lets the coordinator delete the answer to a batch.
    pub async fn acknowledge(&self, batch: Digest) -> Result<(), PartyError> {
        match self.call(Request::Acknowledge { batch }).await? {
            Response::Ok => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// How a submitted batch is doing.
    pub async fn query_status(&self, batch: Digest) -> Result<QueryState, PartyError> {
        match self.call(Request::QueryStatus { batch }).await? {
            Response::Query(state) => Ok(state),
            other => Err(unexpected(&other)),
        }
    }
}

fn unexpected(response: &Response) -> PartyError {
    let kind = match response {
        Response::Ok => "Ok",
        Response::View(_) => "View",
        Response::Statements { .. } => "Statements",
        Response::Sealed(_) => "Sealed",
        Response::Offset(_) => "Offset",
        Response::Blob { .. } => "Blob",
        Response::Serving(_) => "Serving",
        Response::Key(_) => "Key",
        Response::Query(_) => "Query",
        Response::Refused(_) => "Refused",
        Response::Audit(_) => "Audit",
        Response::Wait => "Wait",
        Response::Models(_) => "Models",
    };
    PartyError::Untrue(format!(
        "the coordinator answered {kind}, which does not answer the request"
    ))
}
