//! Whether the sum that was fetched is the sum of what the contributors sent: their fingerprints must add up to its own
//! ([`galen_sums::fingerprint`]).

use crate::error::PartyError;
use crate::identity::Identity;
use crate::opening::{NotOpened, Unopened, Verified};
use galen_core::{Code, Digest, PartyId};
use galen_store::BlobStore;
use galen_sums::statement::OpeningFault;
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
/// sum is what the other receivers found it to be, who had them. Members that are found to have signed another fingerprint than that of
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
