//! From a study to its successor, in the same folder.
//!
//! Signing a successor closes the old study here. What was drawn for its rounds is erased; what the custodian is bound to, the
//! derived state and the opened sums are carried over; and the old study is not talked to again. All remaining members do the
//! same before the successor becomes active, which is why no round is opened under both: a custodian that may have opened a round of the
//! old study which the successor would open again does not sign.
//!
//! The change has one point at which it takes place: when the journal `succession.bin` is durable. Before it, this is a party of
//! the old study; after it, of the new one, and whatever opens the folder next finishes what is left to do ([`finish`]). Every step
//! of that can be done again.

use crate::config::Config;
use crate::consent;
use crate::contribute::Contributor;
use crate::custody::anchor::{Anchor as _, VolatileFile};
use crate::custody::succession as custody;
use crate::error::PartyError;
use crate::home::{self, Home};
use crate::identity::Identity;
use crate::sealed::{Sealed, State};
use crate::vault::Vault;
use galen_core::study::{FrozenStudy, Predecessor, Role, STUDY_SIGNATURE, StudyError};
use galen_core::{StudyDigest, faults};
use galen_store::Store;
use galen_sums::RoundId;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const FORMAT: u32 = 1;

/// Everything that the change needs when it goes on after a crash.
#[derive(Serialize, Deserialize)]
struct Journal {
    format: u32,
    from: StudyDigest,
    text: String,
    consent: Vec<u8>,
}

/// Before everything: all attempts of all rounds are over.
const END: RoundId = RoundId {
    round: u32::MAX,
    attempt: u32::MAX,
};

/// Whether the folder's party is at the predecessor of this study.
pub fn follows(old: &FrozenStudy, new: &FrozenStudy) -> bool {
    new.predecessor()
        .is_some_and(|before| before.study == old.digest())
}

/// Signs a successor of the study in this folder, and goes over to it. The daemon must not run. `text` is the content of the file that
/// `new` was read from.
///
/// # Errors
/// [`PartyError::Study`] if it is no successor; [`PartyError::Consent`] if this party must not sign it, because it has opened more
/// or something else than the successor says, or may have.
pub fn sign(
    home: &Home,
    config: &Config,
    identity: &Arc<Identity>,
    new: &FrozenStudy,
    text: &str,
) -> Result<(), PartyError> {
    identity.check_member(new)?;
    let old = consent::signed_study(config)?;
    consent::load(home, &old, identity)?;
    let problems = new.check_successor_of(&old);
    let Some(before) = new.predecessor().filter(|_| problems.is_empty()) else {
        return Err(StudyError::Problems(problems).into());
    };
    // The lock is held until it is decided, so that no daemon goes on with the old study meanwhile.
    let store = Store::open(&home.store())?;
    if let Some(round) = custody::may_have_opened(&store)?.filter(|round| *round >= before.rounds) {
        return Err(PartyError::Consent(format!(
            "as a custodian this party may have opened round {round} of the study as it is, and the successor would open it again: the \
             coordinator must first serve the study as it is until that round is published, and make the successor after it"
        )));
    }
    let state = Sealed::open(home)?.state(&old.digest())?;
    check_state(new, before, identity, state.as_ref())?;
    let consent = identity
        .signing
        .sign(STUDY_SIGNATURE, &new.digest(), &new.digest());
    let consent = consent.map_err(PartyError::internal)?;
    let journal = Journal {
        format: FORMAT,
        from: old.digest(),
        text: text.to_owned(),
        consent: postcard::to_stdvec(&consent).map_err(PartyError::internal)?,
    };
    let journal = postcard::to_stdvec(&journal).map_err(PartyError::internal)?;
    home::write_durably(&home.succession(), &journal)?;
    drop(store);
    faults::reach("party.succession.decided");
    finish(home)
}

/// The state here must not be ahead of what the successor starts from, nor another one. One that is behind is no reason to refuse: another
/// member hands over what is missing.
fn check_state(
    new: &FrozenStudy,
    before: &Predecessor,
    identity: &Identity,
    state: Option<&State>,
) -> Result<(), PartyError> {
    let Some(derived) = state.map(|state| &state.derived) else {
        return Ok(());
    };
    let applied = derived.applied();
    if !new.study().has_role(&identity.name, Role::Contributor) || applied < before.rounds {
        return Ok(());
    }
    if applied > before.rounds {
        return Err(PartyError::Consent(format!(
            "{applied} rounds were opened here, the successor goes on after {}: it would open rounds a second time",
            before.rounds
        )));
    }
    if derived.digest() != before.state {
        return Err(PartyError::Mismatch {
            round: applied.saturating_sub(1),
            published: before.state,
            derived: derived.digest(),
        });
    }
    Ok(())
}

/// Finishes a change to a successor that was decided and interrupted; does nothing if there is none. Called before anything else is read
/// from the folder.
pub fn finish(home: &Home) -> Result<(), PartyError> {
    let path = home.succession();
    if !path.exists() {
        return Ok(());
    }
    let broken = || PartyError::home(&path, "was changed, or was written by another version of Galen");
    let journal: Journal = postcard::from_bytes(&home::read(&path)?).map_err(|_| broken())?;
    if journal.format != FORMAT {
        return Err(broken());
    }
    let config = Config::load(home)?;
    let identity = Arc::new(Identity::load(home)?);
    let new = FrozenStudy::parse(&path, &journal.text)?;
    let before = new.predecessor().ok_or_else(broken)?;
    consent::open(&journal.consent, &new, &identity).ok_or_else(broken)?;
    let store = Store::open(&home.store())?;
    erase(&store, &identity, before.rounds)?;
    faults::reach("party.succession.erased");
    carry_over(home, &journal.from, &new, before)?;
    faults::reach("party.succession.carried");
    keep_former(home, &config, &journal.from)?;
    consent::write(home, &config, journal.text.as_bytes(), &journal.consent)?;
    faults::reach("party.succession.written");
    // The custodian's memory of the old study, which is kept under its digest.
    VolatileFile::of(&home.store(), &journal.from).remove()?;
    home::remove_durably(&path)
}

/// Erases what was drawn for rounds of the old study, and leaves of the custodian's ledger what binds it under the new one too.
fn erase(store: &Store, identity: &Arc<Identity>, first_round: u32) -> Result<(), PartyError> {
    Vault::open(store)?.erase_before(END)?;
    custody::succeed(store)?;
    Contributor::open(store, Arc::clone(identity))?.succeed(first_round)
}

/// The derived state becomes that of the new study, if it is the one that this starts from; otherwise there is none, and another member's
/// is needed.
fn carry_over(
    home: &Home,
    old: &StudyDigest,
    new: &FrozenStudy,
    before: &Predecessor,
) -> Result<(), PartyError> {
    let sealed = Sealed::open(home)?;
    let Some(state) = sealed.any_state()?.filter(|state| state.study == *old) else {
        return Ok(());
    };
    if (state.derived.applied(), state.derived.digest()) == (before.rounds, before.state) {
        sealed.put_state(&State {
            study: new.digest(),
            ..state
        })
    } else {
        sealed.remove_state()
    }
}

/// Keeps the old study's file and the copy of its audit log: what was opened under it can be checked only with them.
fn keep_former(home: &Home, config: &Config, old: &StudyDigest) -> Result<(), PartyError> {
    let study = consent::signed_study(config)?;
    if study.digest() != *old {
        return Ok(());
    }
    home::make_private(&home.former())?;
    let log = home.former().join(format!("v{}-audit", study.version()));
    if home.audit().exists() && !log.exists() {
        home::rename_durably(&home.audit(), &log)?;
    }
    let path = home.former().join(format!("v{}.toml", study.version()));
    home::write_durably(&path, &home::read(&config.study)?)
}

/// Erases everything that was drawn for a study that is over, on the word of the coordinator that a successor took its place. What was
/// opened stays.
pub(crate) fn close(store: &Store, identity: &Arc<Identity>) -> Result<(), PartyError> {
    let erased = Vault::open(store)?.erase_before(END)?;
    custody::close(store, &erased)?;
    Contributor::open(store, Arc::clone(identity))?.erased_before(END)
}

#[cfg(test)]
mod tests;
