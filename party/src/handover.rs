//! Handing the derived state to a hospital that joins.
//!
//! A contributor that joins between rounds has not opened what was opened before, and needs what follows from it: the statistics and the
//! model so far. A member exports its state, sealed to the card of the one that joins; the file can travel by any way. The
//! successor study, which both have signed, names the digest of that state, so it does not matter which member exported it:
//! importing computes the digest again, round by round, and checks that the content is what it was computed from.

use crate::config::Config;
use crate::consent;
use crate::derive::Derived;
use crate::error::PartyError;
use crate::home::{self, Home};
use crate::identity::Identity;
use crate::sealed::{Sealed, State, SumSecurity};
use galen_core::study::{Card, FrozenStudy, Predecessor, Role};
use galen_custody::letter;
use galen_store::Store;
use serde::{Deserialize, Serialize};
use std::path::Path;
use zeroize::Zeroizing;

const MAGIC: &[u8; 7] = b"GALENST";
const VERSION: u8 = 2;
const SUBJECT: &str = "galen derived state for a joining member v1";

/// Largest file that is read: a state of tens of millions of parameters is below it.
const MAX_FILE: u64 = 1 << 30;

/// What is in the file.
#[derive(Serialize, Deserialize)]
struct Content {
    derived: Derived,
    security: Option<SumSecurity>,
}

/// Seals the state of this party for a member of its study. The daemon may run.
///
/// # Errors
/// If the card is not that of a contributor of the study, the study has no predecessor, or the state here is not the one that it starts
/// from.
pub fn export(home: &Home, to: &Card) -> Result<Vec<u8>, PartyError> {
    let study = consent::signed_study(&Config::load(home)?)?;
    let before = predecessor(&study)?;
    match study.card(&to.name) {
        Some(card) if card == to => {}
        Some(_) => {
            return Err(PartyError::Consent(format!(
                "the study has other keys for \"{}\" than this card",
                to.name
            )));
        }
        None => {
            return Err(PartyError::Consent(format!(
                "\"{}\" is not in the study that was signed here; sign the successor first",
                to.name
            )));
        }
    }
    if !study.study().has_role(&to.name, Role::Contributor) {
        return Err(PartyError::Role {
            party: to.name.clone(),
            role: "contributor",
        });
    }
    let state = Sealed::open(home)?.state(&study.digest())?;
    let derived = state.as_ref().map(|state| &state.derived);
    let Some((state, derived)) = state.as_ref().zip(derived) else {
        return Err(PartyError::NotYet("nothing has been derived here yet".into()));
    };
    if derived.applied() != before.rounds {
        return Err(PartyError::NotYet(format!(
            "this party's state is after {} rounds, a joining member starts after {}: export before the study goes on, or ask another \
             member whose backup has the state",
            derived.applied(),
            before.rounds
        )));
    }
    let content = Content {
        derived: derived.clone(),
        security: state.security.clone(),
    };
    let content = Zeroizing::new(postcard::to_stdvec(&content).map_err(PartyError::internal)?);
    let sealed = letter::seal(SUBJECT, &study.digest(), &to.name, &to.sealing.0, &content)
        .map_err(PartyError::internal)?;
    Ok([&MAGIC[..], &[VERSION], &sealed].concat())
}

/// Takes in a state that another member exported. The daemon must not run.
///
/// # Errors
/// If the file is not for this party and study, or holds another state than the one that the study starts from.
pub fn import(home: &Home, file: &Path) -> Result<State, PartyError> {
    let config = Config::load(home)?;
    let identity = Identity::load(home)?;
    let study = consent::signed_study(&config)?;
    consent::load(home, &study, &identity)?;
    let before = predecessor(&study)?;
    let content = read(file, &study, &identity)?;
    content
        .derived
        .verify(study.study(), before.rounds, &before.state)
        .map_err(|error| PartyError::Untrue(format!("{}: {error}", file.display())))?;
    // The lock keeps a running daemon's state from being replaced, and the storage key is made the first time.
    let _store = Store::open(&home.store())?;
    let sealed = Sealed::open(home)?;
    if let Some(known) = sealed.any_state()?
        && known.study == study.digest()
    {
        return Err(PartyError::home(
            file,
            format!(
                "is not needed: this party has a state after {} rounds",
                known.derived.applied()
            ),
        ));
    }
    let state = State {
        study: study.digest(),
        derived: content.derived,
        security: content.security,
        // What other hospitals keep to themselves is not handed over: this one begins with what all began with.
        personal: None,
    };
    sealed.put_state(&state)?;
    Ok(state)
}

fn read(file: &Path, study: &FrozenStudy, identity: &Identity) -> Result<Content, PartyError> {
    let refused = |what: &str| PartyError::home(file, what);
    let len = std::fs::metadata(file).map_err(PartyError::file(file))?.len();
    if len > MAX_FILE {
        return Err(refused("is too large for an exported state"));
    }
    let bytes = home::read(file)?;
    let (version, sealed) = bytes
        .strip_prefix(MAGIC)
        .and_then(<[u8]>::split_first)
        .ok_or_else(|| refused("is no exported state"))?;
    if *version != VERSION {
        return Err(refused("was exported by another version of Galen"));
    }
    let content = letter::open(
        SUBJECT,
        &study.digest(),
        &identity.name,
        &identity.sealing,
        sealed,
    )
    .ok_or_else(|| refused("is not sealed to this party for the study that it signed, or was changed"))?;
    let (content, rest) = postcard::take_from_bytes(&content).map_err(|_| refused("cannot be decoded"))?;
    if rest.is_empty() {
        Ok(content)
    } else {
        Err(refused("has bytes left over"))
    }
}

fn predecessor(study: &FrozenStudy) -> Result<&Predecessor, PartyError> {
    study.predecessor().ok_or_else(|| {
        PartyError::Consent(format!(
            "study \"{}\" begins with its first round: no member needs the state of another",
            study.study().name
        ))
    })
}

/// Whether a party still needs the state of another member before it can take part.
pub(crate) fn is_needed(study: &FrozenStudy, contributor: bool, state: Option<&State>) -> bool {
    contributor && study.first_round() > 0 && state.is_none()
}

/// What to tell a party whose state is needed.
pub(crate) fn needed(study: &FrozenStudy) -> PartyError {
    PartyError::NotYet(format!(
        "this version of the study goes on from round {}: ask another member for `party state export FILE --to CARD`, then \
         `party state import FILE`",
        study.first_round()
    ))
}
