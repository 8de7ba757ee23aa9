//! A round without a network: its record, and the custodians' secrets.

use crate::study::{Keys, Scene};
use galen_coordinator::home::Home;
use galen_core::Digest;
use galen_core::study::Purpose;
use galen_custody::{LedgerState, OneRoundSecret, rehearsal};
use galen_sums::plan::padded;
use galen_sums::{PlanInputs, Round, RoundId, RoundRecord, SumPlan, ValueRange};

/// An announced round.
pub(crate) struct Offline {
    pub(crate) round: Round,
    /// Of each custodian, in the order of the study.
    pub(crate) secrets: Vec<OneRoundSecret>,
    pub(crate) ledgers: Vec<LedgerState>,
}

impl Offline {
    /// A round of values of this kind, in which all custodians take part.
    pub(crate) fn announce(scene: &Scene, range: ValueRange) -> anyhow::Result<Self> {
        let roster = &scene.roster;
        let values = u64::from(range.count);
        let inputs = PlanInputs::for_roster(roster, vec![range], 1000 * padded(values));
        let id = RoundId { round: 1, attempt: 0 };
        let (mut secrets, mut ledgers, mut one_round) = (Vec::new(), Vec::new(), Vec::new());
        for keys in custodians(scene) {
            let secret = OneRoundSecret::generate(id)?;
            let fresh = rehearsal::fresh_ledger(Digest::of(keys.name.as_str().as_bytes()));
            let ledger = fresh.announce(id, secret.public())?;
            one_round.push(secret.statement(&ledger, &keys.name, &keys.signing, roster.study())?);
            secrets.push(secret);
            ledgers.push(ledger);
        }
        let all = custodians(scene).iter().map(|keys| (&keys.name, &keys.signing));
        let record = RoundRecord {
            study: *roster.study(),
            purpose: Purpose::Training,
            round: id,
            plan: SumPlan::new(&inputs)?,
            base: Digest::of(b"base"),
            confirmations: rehearsal::confirmations(all, &one_round, roster.study())?,
            custodians: one_round,
            audit: galen_sums::AuditHead::default(),
            earlier: Vec::new(),
        };
        let signed = record.sign(&Home::new(&scene.coordinator).signing()?)?;
        Ok(Self {
            round: Round::open(roster, &signed, &inputs)?,
            secrets,
            ledgers,
        })
    }
}

/// The custodians' keys.
pub(crate) fn custodians(scene: &Scene) -> &[Keys] {
    &scene.keys[..scene.roster.custodians().len()]
}
