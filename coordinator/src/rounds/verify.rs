//! What must hold for a party's statement before it becomes an event.

use super::state::{Failure, RoundKey};
use galen_core::{Code, Digest, PartyId, Refusal};
use galen_sums::SumsError;
use galen_sums::authored::{self, Authored};
use galen_sums::contribution::{ContributionHeader, check_header};
use galen_sums::record::{OneRoundKey, RoundId};
use galen_sums::roster::Roster;
use galen_sums::round::Round;
use galen_sums::set::{AnswerHeader, Certificate, Endorsement, check_answer};
use galen_sums::statement::{self, FingerprintRefused, Judged, Opened, OpeningFailed, Release, SeedsRefused};
use galen_sums::{Challenge, KeyCheck, check_fingerprint, check_key_check};
use serde::de::DeserializeOwned;

/// Longest reason that a receiver may give, in characters.
const MAX_DETAIL: usize = 200;

/// Turns a library error into what the sender is told.
pub fn refusal(error: SumsError) -> Refusal {
    Refusal::new(error.code(), error.to_string())
}

/// Opens a statement by its author's key and decodes it.
pub fn open<T: DeserializeOwned>(roster: &Roster, domain: &str, authored: &Authored) -> Result<T, Refusal> {
    authored.open(roster, domain).map_err(refusal)
}

/// A custodian's one-round key for the attempt under way.
pub fn round_key(roster: &Roster, id: RoundId, authored: &Authored) -> Result<RoundKey, Refusal> {
    if roster.custodian_index(&authored.author).is_none() {
        return Err(Refusal::new(
            Code::RoleMissing,
            "only custodians send one-round keys",
        ));
    }
    let key: OneRoundKey = open(roster, authored::ONE_ROUND_KEY, authored)?;
    if key.round != id {
        return Err(wrong_round(id));
    }
    if key.custodian != authored.author {
        return Err(Refusal::new(
            Code::BadSignature,
            "the key names another custodian",
        ));
    }
    Ok(RoundKey {
        statement: authored.digest(),
        incarnation: key.incarnation,
    })
}

/// A contribution's header, for the attempt under way and from the right base.
pub fn contribution(round: &Round, authored: &Authored) -> Result<ContributionHeader, Refusal> {
    check_header(round, authored).map_err(refusal)
}

/// A custodian's endorsement of exactly this set and sum, or its word that the seeds fit: `domain` tells which.
pub fn endorsement(
    round: &Round,
    domain: &str,
    set: Digest,
    sum: Digest,
    authored: &Authored,
) -> Result<(), Refusal> {
    let said: Endorsement = open(round.roster(), domain, authored)?;
    if said.record != *round.digest() {
        return Err(wrong_round(round.id()));
    }
    if said.set != set || said.sum != sum {
        return Err(Refusal::new(
            Code::Conflict,
            "the endorsement is of another set or sum",
        ));
    }
    Ok(())
}

/// A custodian's answer under the certificate.
pub fn answer(
    round: &Round,
    certificate: &Certificate,
    authored: &Authored,
) -> Result<AnswerHeader, Refusal> {
    check_answer(round, certificate, authored).map_err(refusal)
}

/// A custodian's word on every piece that it holds. What is sealed in it only receivers can judge.
pub fn key_check(round: &Round, certificate: &Certificate, authored: &Authored) -> Result<KeyCheck, Refusal> {
    check_key_check(round, certificate, authored).map_err(refusal)
}

/// A custodian's word that a contributor's seeds do not fit.
pub fn seeds_refused(round: &Round, authored: &Authored) -> Result<PartyId, Refusal> {
    let said: SeedsRefused = open(round.roster(), statement::SEEDS_REFUSED, authored)?;
    if said.record != *round.digest() {
        return Err(wrong_round(round.id()));
    }
    Ok(said.contributor)
}

/// A receiver's word that a contributor signed another fingerprint than that of its ciphertexts.
pub fn fingerprint_refused(round: &Round, authored: &Authored) -> Result<PartyId, Refusal> {
    receiver(round, &authored.author)?;
    let said: FingerprintRefused = open(round.roster(), statement::FINGERPRINT_REFUSED, authored)?;
    if said.record != *round.digest() {
        return Err(wrong_round(round.id()));
    }
    Ok(said.contributor)
}

/// A contributor's fingerprint under the challenge of the certified set and sum.
pub fn fingerprint(round: &Round, certificate: &Certificate, authored: &Authored) -> Result<(), Refusal> {
    let challenge = Challenge::new(certificate.endorsement());
    check_fingerprint(round, &challenge, authored).map_err(refusal)?;
    Ok(())
}

/// A receiver's judgement of the key checks.
pub fn judged(round: &Round, authored: &Authored) -> Result<Judged, Refusal> {
    receiver(round, &authored.author)?;
    let mut said: Judged = open(round.roster(), statement::JUDGED, authored)?;
    if said.record != *round.digest() {
        return Err(wrong_round(round.id()));
    }
    for named in [&said.liars, &said.doubted] {
        let known = named.iter().all(|name| round.custodians().contains_key(name));
        if !known || !named.is_sorted_by(|a, b| a < b) {
            return Err(Refusal::new(
                Code::NotConforming,
                "it does not name custodians of this round, each once and in order",
            ));
        }
    }
    said.detail = plain(&said.detail);
    Ok(said)
}

/// A receiver's report of what it derived.
pub fn opened(round: &Round, authored: &Authored) -> Result<Digest, Refusal> {
    receiver(round, &authored.author)?;
    let said: Opened = open(round.roster(), statement::OPENED, authored)?;
    if said.record != *round.digest() {
        return Err(wrong_round(round.id()));
    }
    Ok(said.result)
}

/// A receiver's report that it could not open.
pub fn opening_failed(round: &Round, authored: &Authored) -> Result<Failure, Refusal> {
    receiver(round, &authored.author)?;
    let said: OpeningFailed = open(round.roster(), statement::OPENING_FAILED, authored)?;
    if said.record != *round.digest() {
        return Err(wrong_round(round.id()));
    }
    Ok(Failure {
        fault: said.fault,
        detail: plain(&said.detail),
    })
}

/// A member's text, which is stored, logged and shown to everyone: a line of plain text, not what a member likes to put there.
fn plain(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(MAX_DETAIL).collect()
}

/// A contributor's agreement to release a model.
pub fn release(roster: &Roster, authored: &Authored) -> Result<Digest, Refusal> {
    if !roster.contributors().contains(&authored.author) {
        return Err(Refusal::new(
            Code::RoleMissing,
            "only contributors release the model",
        ));
    }
    let said: Release = open(roster, statement::RELEASE, authored)?;
    Ok(said.model)
}

fn receiver(round: &Round, author: &PartyId) -> Result<(), Refusal> {
    if round.roster().receivers().contains(author) {
        return Ok(());
    }
    Err(Refusal::new(Code::RoleMissing, "only receivers open sums"))
}

fn wrong_round(id: RoundId) -> Refusal {
    Refusal::new(
        Code::WrongRound,
        format!("round {} attempt {} is under way", id.round, id.attempt),
    )
}
