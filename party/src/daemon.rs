//! `party serve`: connects, polls the coordinator's view, and lets the party act on it until the study is over.

use crate::audit::AuditCopy;
use crate::config::Config;
use crate::consent;
use crate::consequence::may_pass;
use crate::custody::anchor::VolatileFile;
use crate::data::Patients;
use crate::error::PartyError;
use crate::home::Home;
use crate::identity::Identity;
use crate::party::{End, Parts, Party, Seen};
use crate::perform::blocking;
use crate::restored::Restored;
use crate::sealed::Sealed;
use crate::status::Board;
use crate::steps::Part;
use crate::succession;
use galen_core::Clock;
use galen_core::envelope::Trouble;
use galen_net::{Client, NetError, Peer, Tuning};
use galen_store::Store;
use galen_training::Device;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long a party waits that lost its connection.
const AGAIN: Duration = Duration::from_millis(500);

/// A party and where its coordinator is.
pub struct Daemon {
    party: Party,
    address: String,
    /// The folder of a party that was restored, until its incarnation is confirmed.
    restored: Option<Home>,
}

impl Daemon {
    /// Reads folder, study, table and stored state. The first thing wrong with any of them is the error; nothing is half done.
    pub fn open(home: &Home, clock: Arc<dyn Clock>) -> Result<Self, PartyError> {
        succession::finish(home)?;
        let restored = Restored::read(home)?;
        if restored.is_some() {
            tracing::warn!("this party was restored from a backup: its custodian begins anew");
        }
        let config = Config::load(home)?;
        let identity = Arc::new(Identity::load(home)?);
        let study = consent::signed_study(&config)?;
        identity.check_member(&study)?;
        let consent = consent::load(home, &study, &identity)?;
        let part = Part::of(&study, &identity.name);
        let device =
            Device::by_name(&config.device).map_err(|error| PartyError::Device(error.to_string()))?;
        let patients = if part.contributor {
            Some(Patients::load(&config.data, study.study(), &identity.name)?)
        } else {
            None
        };
        let store = Store::open(&home.store())?;
        let sealed = Sealed::open(home)?;
        let board = Board::new(
            home.status(),
            &study,
            &identity.name,
            part.rounds,
            Arc::clone(&clock),
        );
        let audit = AuditCopy::open(home, study.digest(), study.coordinator().signing)?;
        let anchor = VolatileFile::of(&home.store(), &study.digest());
        let party = Party::new(Parts {
            audit,
            anchor: Box::new(anchor),
            identity,
            study,
            consent,
            store,
            sealed,
            patients,
            device,
            board,
            clock,
        })?;
        Ok(Self {
            party,
            address: config.coordinator,
            restored: restored.map(|_| home.clone()),
        })
    }

    /// Serves until the study is over, something is wrong, or `stop` becomes true or loses its sender.
    pub async fn serve(mut self, mut stop: watch::Receiver<bool>) -> Result<End, PartyError> {
        let board = self.party.shared.board.clone();
        let writer = tokio::spawn(board.clone().keep_writing());
        let end = self.connect_and_serve(&mut stop).await;
        if let Err(error) = &end
            && error.is_succession()
        {
            self.close_for_good().await?;
        }
        writer.abort();
        board.update(|status| {
            status.connected = false;
            match &end {
                Ok(End::Stopped) => status.phase = "stopped".into(),
                Ok(End::Completed(reason)) => status.phase = format!("the study is over: {reason}"),
                Err(error) => {
                    status.phase = "stopped by an error".into();
                    status.error = Some(Trouble::from(error));
                }
            }
        });
        // The file tells how it ended; whether that can be written does not change how it ended.
        if let Err(error) = blocking(move || board.write()).await {
            tracing::warn!(%error, "status file");
        }
        end
    }

    /// Another study took the place of this one. What was drawn for it is of no use to anybody any more.
    async fn close_for_good(&self) -> Result<(), PartyError> {
        let shared = Arc::clone(&self.party.shared);
        blocking(move || {
            succession::close(&shared.store, &shared.identity)?;
            shared.custodian.leave()
        })
        .await
    }

    async fn connect_and_serve(&mut self, stop: &mut watch::Receiver<bool>) -> Result<End, PartyError> {
        let shared = Arc::clone(&self.party.shared);
        let pin = shared.study.coordinator().certificate;
        let client = Client::new(
            &self.address,
            &shared.identity.tls,
            pin,
            shared.study.digest(),
            Tuning::default(),
        )?;
        loop {
            shared.board.phase("connecting");
            let connecting = client.connect_patiently(|error, wait| {
                tracing::warn!(%error, wait_s = wait.as_secs_f64(), "the coordinator cannot be reached");
            });
            let peer = tokio::select! {
                peer = connecting => peer?,
                _ = stop.wait_for(|stop| *stop) => return Ok(End::Stopped),
            };
            tracing::info!(coordinator = %peer.remote(), "connected");
            // What is being written when the signal comes is finished on its blocking thread; everything else is done again.
            let ended = tokio::select! {
                ended = self.converse(&peer) => ended,
                _ = stop.wait_for(|stop| *stop) => Ok(End::Stopped),
            };
            let traffic = peer.traffic();
            self.party.disconnected((traffic.sent(), traffic.received()))?;
            match ended {
                Err(PartyError::Net(NetError::Crowded)) => {
                    tracing::debug!("made room for another party");
                    shared
                        .board
                        .phase("waiting for news, with others' turn at the coordinator");
                    tokio::select! {
                        () = client.stay_away() => {}
                        _ = stop.wait_for(|stop| *stop) => return Ok(End::Stopped),
                    }
                }
                Err(error) if may_pass(&error) => {
                    tracing::warn!(%error, "connection lost");
                    tokio::time::sleep(AGAIN).await;
                }
                ended => {
                    peer.leave().await;
                    return ended;
                }
            }
        }
    }

    /// Removes the mark of a restored party once its peers have confirmed its incarnation; one that is no custodian has none.
    async fn note_confirmed(&mut self) -> Result<(), PartyError> {
        let Some(home) = self.restored.clone() else {
            return Ok(());
        };
        let shared = Arc::clone(&self.party.shared);
        let confirmed = blocking(move || {
            let standing = shared.custodian.standing()?;
            let confirmed = !shared.part.custodian || standing.is_some_and(|standing| standing.confirmed);
            if confirmed {
                Restored::confirmed(&home)?;
            }
            Ok(confirmed)
        })
        .await?;
        if confirmed {
            tracing::info!("the restored party takes part again");
            self.restored = None;
        }
        Ok(())
    }

    async fn converse(&mut self, peer: &Peer) -> Result<End, PartyError> {
        let link = self.party.hello(Arc::new(peer.clone())).await?;
        let mut seen = Seen::default();
        loop {
            let view = self.party.next_view(&link, &mut seen).await?;
            if let Some(end) = self.party.turn(&link, &view).await? {
                return Ok(end);
            }
            self.note_confirmed().await?;
        }
    }
}
