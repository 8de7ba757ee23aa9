//! Whether the sum that was fetched is the sum of what the contributors sent: their fingerprints must add up to its own
//! ([`galen_sums::fingerprint`]).

use crate::error::PartyError;
use crate::identity::Identity;
use crate::opening::{NotOpened, Unopened, Verified};
use galen_core::{Code, Digest, PartyId};
use galen_store::BlobStore;
use galen_sums::statement::{OPENED, Opened, OpeningFault};
use galen_sums::{
    Authored, Challenge, ContributionHeader, Endorsement, FingerprintFault, FingerprintStatement, Round,
    SumsError, check_sum, fingerprint,
};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

/// Contributions that were fetched because their contributors are gone or doubted.
#[derive(Clone, Debug, Default)]
pub struct Fetched(BTreeMap<PartyId, ContributionHeader>);

impl Fetched {
    /// Adds one whose blob is in the store.
    pub fn add(&mut self, header: ContributionHeader) {
        self.0.insert(header.contributor.clone(), header);
    }

    /// Whether a member's contribution is among them.
    pub fn contains(&self, member: &PartyId) -> bool {
        self.0.contains_key(member)
    }

    /// The digests of their blobs.
    pub fn blobs(&self) -> impl Iterator<Item = Digest> + '_ {
        self.0.values().map(|header| header.ciphertext)
    }
}

/// Checks the sum in the store. Returns the members for whom nothing vouches: they are gone, and so are their contributions. Then the
/// sum is what the other receivers found it to be, who had them, and signed ([`vouched`]). Members that are found to have signed another fingerprint than that of
/// their contribution go to `liars`, however the check ends; the sum does not depend on their word.
///
/// # Errors
/// [`NotOpened::Round`] with [`OpeningFault::Sum`] if the fingerprints do not add up.
pub fn check(
    round: &Round,
    verified: &Verified,
    blobs: &BlobStore,
    fetched: &Fetched,
    liars: &mut BTreeSet<PartyId>,
) -> Result<BTreeSet<PartyId>, NotOpened> {
    let unchecked: BTreeSet<PartyId> = verified
        .without_fingerprint()
        .into_iter()
        .filter(|member| !fetched.contains(member))
        .collect();
    if !unchecked.is_empty() {
        return Ok(unchecked);
    }
    let challenge = Challenge::new(verified.endorsement());
    let read = |digest: &Digest| blobs.open_read(digest).map_err(PartyError::from);
    let mut computed = BTreeMap::new();
    for (member, header) in &fetched.0 {
        let own = fingerprint::of_contribution(round, &challenge, header, read(&header.ciphertext)?);
        computed.insert(member.clone(), own.map_err(|error| failed(round, error))?);
    }
    let sum = fingerprint::of_sum(round, &challenge, read(&verified.sum())?);
    let sum = sum.map_err(|error| failed(round, error))?;
    let mut statements = verified.fingerprints().to_vec();
    loop {
        match check_sum(round, verified.set(), &challenge, &statements, &computed, &sum) {
            Ok(()) => break,
            // Its contribution is here, with the digest that it signed before; its word about it is not needed.
            Err(SumsError::Fingerprint(FingerprintFault::False(member))) => {
                tracing::warn!(%member, "signed another fingerprint than that of its contribution");
                statements.retain(|said| said.author != member);
                liars.insert(member);
            }
            Err(error) => return Err(failed(round, error)),
        }
    }
    Ok(unchecked)
}

/// Checks that enough receivers signed that they derived this state from a round: as many as make a sum, one of whom at least is honest where fewer
/// than that work together. They had the contributions, and compared them with the sum, before they said so.
///
/// # Errors
/// [`PartyError::Untrue`] if too few did. Words of strangers, on other records and for other states do not count, nor do second ones.
pub fn vouched(round: &Round, said: &[Authored], state: &Digest) -> Result<(), PartyError> {
    let roster = round.roster();
    let agrees = |said: &&Authored| {
        let opened: Result<Opened, _> = said.open(roster, OPENED);
        roster.receivers().contains(&said.author)
            && opened.is_ok_and(|opened| opened.record == *round.digest() && opened.result == *state)
    };
    let found: BTreeSet<&PartyId> = said.iter().filter(agrees).map(|said| &said.author).collect();
    let needed = roster.min_contributors();
    if found.len() < needed {
        return Err(PartyError::Untrue(format!(
            "the contributions of {} are gone, nothing here shows that its sum is theirs, and {} of at least {needed} receivers signed that \
             they derived this state from it",
            round.id(),
            found.len()
        )));
    }
    Ok(())
}

fn failed(round: &Round, error: SumsError) -> NotOpened {
    match error.code() {
        // Blobs were taken only with their digests and lengths; what is wrong with those now went wrong here.
        Code::BlobMismatch | Code::BlobTruncated | Code::BlobTooLarge | Code::Internal => {
            PartyError::Spoilt(format!("a copy that was fetched for {}: {error}", round.id())).into()
        }
        _ => Unopened::new(round.id(), OpeningFault::Sum, error).into(),
    }
}

/// The signed fingerprint of the own contribution.
///
/// # Errors
/// [`PartyError::Internal`] if the own copy is damaged.
pub fn own_fingerprint(
    round: &Round,
    fixed: &Endorsement,
    identity: &Identity,
    header: &ContributionHeader,
    ciphertext: impl Read,
) -> Result<Authored, PartyError> {
    let challenge = Challenge::new(fixed);
    let own =
        fingerprint::of_contribution(round, &challenge, header, ciphertext).map_err(PartyError::internal)?;
    FingerprintStatement::sign(round, &challenge, &identity.name, &identity.signing, &own)
        .map_err(PartyError::internal)
}
