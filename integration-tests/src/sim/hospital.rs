//! A party of a simulation: the real party on a simulated disk, as a task that stands still whenever it waits for the network.

use super::shape::{Cast, Member};
use super::wire::{Line, Message, Phone};
use galen_core::Clock;
use galen_core::study::FrozenStudy;
use galen_party::audit::AuditCopy;
use galen_party::consequence::may_pass;
use galen_party::custody::anchor::{Anchor, Memory};
use galen_party::party::{End, Parts, Party, Seen};
use galen_party::sealed::Sealed;
use galen_party::status::Board;
use galen_party::{PartyError, vault::Vault};
use galen_store::{MemoryDisk, Store};
use galen_training::Device;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

/// How a party's process ended.
pub type Ended = Result<End, PartyError>;

type Task = Pin<Box<dyn Future<Output = Ended> + Send>>;

/// A hospital's machine.
pub struct Hospital {
    /// Its disk.
    pub disk: MemoryDisk,
    /// What it remembers beside its disk until it is started anew.
    pub memory: Memory,
    line: Arc<Line>,
    process: Option<Process>,
}

struct Process {
    task: Task,
    store: Store,
}

/// Where a party keeps what it has derived.
fn folder() -> PathBuf {
    PathBuf::from("memory/shared")
}

impl Hospital {
    /// A machine that is not started yet.
    #[allow(clippy::new_without_default)] // A machine is built on purpose.
    pub fn new() -> Self {
        Self {
            disk: MemoryDisk::new(),
            memory: Memory::default(),
            line: Arc::default(),
            process: None,
        }
    }

    /// Gives the machine power if it has none. Its memory is empty then.
    pub fn switch_on(&mut self) {
        if self.disk.is_off() {
            self.disk.start();
            self.memory.lose();
        }
    }

    /// Has the machine remember what another one does.
    pub fn remember_as(&mut self, other: &Self) {
        self.memory = Memory::default();
        if let Some(known) = other.memory.read() {
            // It is memory: writing cannot fail.
            let _ = self.memory.write(&known);
        }
    }

    /// Starts the process on what the disk holds.
    pub fn start(&mut self, cast: &Cast, member: &Member, clock: &Arc<dyn Clock>) -> Result<(), PartyError> {
        self.process = None;
        self.line = Arc::default();
        let store = Store::in_memory(&self.disk)?;
        let study = &cast.study;
        let name = member.name();
        let board = Board::new("memory/status".into(), study, name, 0, Arc::clone(clock));
        let party = Party::new(Parts {
            identity: Arc::clone(&member.identity),
            study: study.clone(),
            consent: member.consent.clone(),
            sealed: Sealed::beside(&store, folder()),
            audit: AuditCopy::beside(
                &store,
                "memory/audit".into(),
                study.digest(),
                study.coordinator().signing,
            )?,
            anchor: Box::new(self.memory.clone()),
            store: store.clone(),
            patients: Some(member.patients(study.study())),
            device: Device::cpu(),
            board,
            clock: Arc::clone(clock),
        })?;
        let phone = Phone(Arc::clone(&self.line));
        self.process = Some(Process {
            task: Box::pin(live(party, phone)),
            store,
        });
        Ok(())
    }

    /// The process is gone; what it has just sent may still arrive.
    pub fn stop(&mut self) -> Option<Message> {
        self.process = None;
        self.line.take_sent()
    }

    /// Whether the process runs.
    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// The party's line.
    pub fn line(&self) -> &Line {
        &self.line
    }

    /// Lets the process run until it waits for the network; tells how it ended, if it did.
    pub fn run(&mut self) -> Option<Ended> {
        let process = self.process.as_mut()?;
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        loop {
            match process.task.as_mut().poll(&mut context) {
                Poll::Ready(ended) => {
                    self.process = None;
                    return Some(ended);
                }
                Poll::Pending if self.line.is_waiting() => return None,
                // It waits for its own computing.
                Poll::Pending => thread::park(),
            }
        }
    }

    /// The vault of the running process.
    pub fn vault(&self) -> Option<Vault> {
        Vault::open(&self.process.as_ref()?.store).ok()
    }

    /// The store of the running process.
    pub fn store(&self) -> Option<Store> {
        self.process.as_ref().map(|process| process.store.clone())
    }

    /// The vault and the derived state on the disk of a machine whose process has ended.
    pub fn look(&self, study: &FrozenStudy) -> anyhow::Result<(Vault, Vec<galen_party::sealed::OpenedSum>)> {
        let store = Store::in_memory(&self.disk)?;
        let sealed = Sealed::beside(&store, folder());
        let applied = sealed
            .state(&study.digest())?
            .map_or(0, |state| state.derived.applied());
        Ok((Vault::open(&store)?, sealed.sums(0, applied)?))
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// What the daemon does around its connections.
async fn live(mut party: Party, phone: Phone) -> Ended {
    loop {
        let ended = converse(&mut party, &phone).await;
        party.disconnected((0, 0))?;
        match ended {
            Err(error) if may_pass(&error) => phone.rest().await,
            ended => return ended,
        }
    }
}

async fn converse(party: &mut Party, phone: &Phone) -> Ended {
    let link = party.hello(Arc::new(phone.clone())).await?;
    let mut seen = Seen::default();
    loop {
        let view = party.next_view(&link, &mut seen).await?;
        if let Some(end) = party.turn(&link, &view).await? {
            return Ok(end);
        }
    }
}
