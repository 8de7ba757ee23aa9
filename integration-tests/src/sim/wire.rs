//! The simulated network: a party's requests lie here until the world lets them arrive.

use galen_core::Digest;
use galen_net::NetError;
use galen_net::protocol::{BlobKind, Request, Response};
use galen_party::carrier::{AnySink, Carried, Carrier, Progress};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

/// What a party has sent.
pub enum Message {
    /// A request.
    Call(Request),
    /// A blob.
    Put {
        /// Its digest.
        digest: Digest,
        /// Its bytes.
        bytes: Arc<[u8]>,
        /// What it is for.
        kind: BlobKind,
    },
    /// A blob is asked for.
    Get {
        /// Its digest.
        digest: Digest,
        /// Where it goes.
        sink: AnySink,
    },
    /// Nothing: the party waits before it connects again.
    Rest,
}

impl Message {
    /// The same once more, if a network could deliver it twice to some effect.
    pub fn again(&self) -> Option<Self> {
        match self {
            Self::Call(request) => Some(Self::Call(request.clone())),
            Self::Put { digest, bytes, kind } => Some(Self::Put {
                digest: *digest,
                bytes: Arc::clone(bytes),
                kind: *kind,
            }),
            Self::Get { .. } | Self::Rest => None,
        }
    }

    /// Whether it only asks what there is to do, which parties do again and again.
    pub fn is_idle(&self) -> bool {
        matches!(self, Self::Call(Request::Poll { .. }) | Self::Rest)
    }

    /// In a few words.
    pub fn name(&self) -> String {
        match self {
            Self::Call(Request::Post(statement)) => {
                let text = format!("{statement:?}");
                format!("post {}", text.split('(').next().unwrap_or_default())
            }
            Self::Call(Request::Fetch {
                round, attempt, item, ..
            }) => {
                format!("fetch {item:?} of {round}/{attempt}")
            }
            Self::Call(Request::Hello { .. }) => "hello".into(),
            Self::Call(Request::Poll { .. }) => "poll".into(),
            Self::Call(_) => "call".into(),
            Self::Put { digest, kind, .. } => format!("put {kind:?} {}", digest.short()),
            Self::Get { digest, .. } => format!("get {}", digest.short()),
            Self::Rest => "rest".into(),
        }
    }
}

/// What came of a message.
pub type Answer = Result<Response, NetError>;

/// A party's line to the coordinator.
#[derive(Default)]
pub struct Line(Mutex<State>);

#[derive(Default)]
struct State {
    sent: Option<Message>,
    answer: Option<Answer>,
    waiting: bool,
}

impl Line {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the party waits for an answer.
    pub fn is_waiting(&self) -> bool {
        self.state().waiting
    }

    /// What the party has sent since this was asked.
    pub fn take_sent(&self) -> Option<Message> {
        self.state().sent.take()
    }

    /// Gives the party its answer.
    pub fn answer(&self, answer: Answer) {
        let mut state = self.state();
        state.answer = Some(answer);
    }
}

/// A party's end of its line.
#[derive(Clone)]
pub struct Phone(pub Arc<Line>);

impl Phone {
    fn say(&self, message: Message) -> Exchange {
        Exchange {
            line: Arc::clone(&self.0),
            message: Some(message),
        }
    }

    /// Waits until the world lets time pass.
    pub async fn rest(&self) {
        let _ = self.say(Message::Rest).await;
    }
}

struct Exchange {
    line: Arc<Line>,
    message: Option<Message>,
}

impl Future for Exchange {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Answer> {
        let message = self.message.take();
        let mut state = self.line.state();
        if let Some(message) = message {
            state.sent = Some(message);
            state.answer = None;
            state.waiting = true;
            return Poll::Pending;
        }
        match state.answer.take() {
            Some(answer) => {
                state.waiting = false;
                Poll::Ready(answer)
            }
            None => Poll::Pending,
        }
    }
}

impl Carrier for Phone {
    fn call(&self, request: Request) -> Carried<'_, Response> {
        Box::pin(self.say(Message::Call(request)))
    }

    fn put<'a>(
        &'a self,
        digest: Digest,
        bytes: Arc<[u8]>,
        kind: BlobKind,
        _: Progress<'a>,
    ) -> Carried<'a, ()> {
        let done = self.say(Message::Put { digest, bytes, kind });
        Box::pin(async move { done.await.map(drop) })
    }

    fn get<'a>(&'a self, digest: Digest, sink: AnySink, _: Progress<'a>) -> Carried<'a, ()> {
        let done = self.say(Message::Get { digest, sink });
        Box::pin(async move { done.await.map(drop) })
    }

    fn traffic(&self) -> (u64, u64) {
        (0, 0)
    }
}
