//! A simulated hospital's part as a custodian.

use crate::hospital::Hospital;
use anyhow::Context;
use galen_core::Digest;
use galen_custody::ledger::Vote;
use galen_custody::{OneRoundSecret, OpenedSeeds, answer, check_contribution, custodian, endorse};
use galen_net::protocol::{Item, Statement, View};
use galen_sums::incarnation::{check_confirmation, check_incarnation, confirmations_needed};
use galen_sums::{ContributionSet, RoundId, check_certificate};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A custodian's part in an attempt.
pub(crate) struct Custody {
    id: RoundId,
    secret: OneRoundSecret,
    agreed: Option<Agreed>,
    answered: Vec<Vec<u32>>,
}

struct Agreed {
    set: ContributionSet,
    opened: Vec<OpenedSeeds>,
    endorsed: bool,
}

impl Hospital {
    pub(crate) async fn announce(&mut self, id: RoundId) -> anyhow::Result<()> {
        if self.custody.as_ref().is_some_and(|custody| custody.id == id) {
            return Ok(());
        }
        let secret = OneRoundSecret::generate(id)?;
        self.ledger = self.ledger.announce(id, secret.public())?;
        let (keys, study) = (self.keys(), self.shared.scene.study.digest());
        let statement = secret.statement(&self.ledger, &keys.name, &keys.signing, &study)?;
        self.custody = Some(Custody {
            id,
            secret,
            agreed: None,
            answered: Vec::new(),
        });
        self.post(Statement::RoundKey(statement.statement)).await
    }

    /// Custodians introduce themselves, vouch for each other, and take in what the others say of them.
    pub(crate) async fn meet(&mut self, view: &View) -> anyhow::Result<()> {
        let shared = Arc::clone(&self.shared);
        let (roster, study) = (&shared.scene.roster, shared.scene.study.digest());
        let keys = &shared.scene.keys[self.index];
        if !self.introduced {
            let said = custodian::incarnation(&keys.name, &keys.signing, &self.ledger, &study)?;
            self.introduced = true;
            self.post(Statement::Incarnation(said.statement)).await?;
        }
        let nowhere = RoundId { round: 0, attempt: 0 };
        let others = view
            .incarnations
            .iter()
            .filter(|shown| shown.custodian != keys.name);
        let unmet: Vec<_> = others
            .filter(|shown| !self.vouched.contains(&shown.nonce))
            .collect();
        if !unmet.is_empty() {
            let incarnations = self.fetch(nowhere, Item::Incarnations).await?;
            for shown in unmet {
                let Some(authored) = incarnations.iter().find(|said| said.author == shown.custodian) else {
                    continue;
                };
                let said = check_incarnation(roster, authored)?;
                let (ledger, vouch) = self.ledger.vouch(&said);
                self.ledger = ledger;
                self.vouched.insert(said.nonce);
                if let Some(word) = custodian::vouch(&said, &vouch, &keys.name, &keys.signing, &study)? {
                    self.post(Statement::Confirmation(word.statement)).await?;
                }
            }
        }
        let needed = confirmations_needed(roster);
        let own = view
            .incarnations
            .iter()
            .find(|shown| shown.custodian == keys.name);
        if !self.ledger.is_confirmed() && own.is_some_and(|own| own.confirmed.len() >= needed) {
            let mut by = BTreeMap::new();
            for authored in self.fetch(nowhere, Item::Confirmations).await? {
                let said = check_confirmation(roster, &authored)?;
                if said.custodian == keys.name {
                    by.insert(authored.author, said);
                }
            }
            self.ledger = self.ledger.confirmed(&by, needed)?;
        }
        Ok(())
    }

    /// Opens all seeds and says that they fit.
    pub(crate) async fn check(&mut self, id: RoundId, sum: Digest) -> anyhow::Result<()> {
        let waiting = |custody: &Custody| custody.id == id && custody.agreed.is_none();
        if !self.custody.as_ref().is_some_and(waiting) {
            return Ok(());
        }
        let round = self.round(id).await?;
        let headers = self.fetch(id, Item::Headers).await?;
        let set = ContributionSet::new(&round, &headers)?;
        let keys = &self.shared.scene.keys[self.index];
        let custody = self.custody.as_mut().context("no one-round key")?;
        let opened = headers
            .iter()
            .map(|header| check_contribution(&round, &keys.name, &custody.secret, header))
            .collect::<Result<Vec<_>, _>>()?;
        let said = custodian::report_checked(&round, &keys.name, &keys.signing, &set, &opened, sum)?;
        custody.agreed = Some(Agreed {
            set,
            opened,
            endorsed: false,
        });
        self.post(Statement::Checked(said.statement)).await
    }

    pub(crate) async fn endorse(&mut self, id: RoundId, sum: Digest) -> anyhow::Result<()> {
        self.check(id, sum).await?;
        let round = self.round(id).await?;
        let keys = &self.shared.scene.keys[self.index];
        let Some(custody) = self.custody.as_mut().filter(|custody| custody.id == id) else {
            return Ok(());
        };
        let agreed = custody.agreed.as_mut().context("not checked")?;
        if agreed.endorsed {
            return Ok(());
        }
        agreed.endorsed = true;
        self.ledger = self.ledger.observe(&keys.name, &round)?;
        self.ledger = self.ledger.sign(id, &Vote::of(&round, &agreed.set, sum))?;
        let (name, signing) = (&keys.name, &keys.signing);
        let said = endorse(
            &round,
            name,
            signing,
            &self.ledger,
            &agreed.set,
            &agreed.opened,
            sum,
        )?;
        self.post(Statement::Endorsement(said.statement)).await
    }

    pub(crate) async fn answer(&mut self, id: RoundId, pieces: &[u32]) -> anyhow::Result<()> {
        let done = |custody: &Custody| custody.answered.iter().any(|answered| answered == pieces);
        if self.custody.as_ref().is_none_or(done) {
            return Ok(());
        }
        let round = self.round(id).await?;
        let certificate = check_certificate(&round, &self.fetch(id, Item::Endorsements).await?)?;
        self.ledger = self.ledger.answer(id, certificate.endorsement())?;
        let keys = &self.shared.scene.keys[self.index];
        let custody = self.custody.as_mut().context("no one-round key")?;
        custody.answered.push(pieces.to_vec());
        let agreed = custody.agreed.as_ref().context("not endorsed")?;
        let said = answer(
            &round,
            &keys.name,
            &keys.signing,
            &self.ledger,
            &certificate,
            &agreed.set,
            &agreed.opened,
            pieces,
        )?;
        self.deliver(said, Statement::Answer).await
    }
}
