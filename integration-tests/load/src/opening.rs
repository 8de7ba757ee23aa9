//! A simulated hospital as a receiver, and its fingerprints.

use crate::hospital::{Hospital, values};
use anyhow::{Context, ensure};
use galen_core::{Code, Digest, Refusal};
use galen_custody::{open_answers, open_sum};
use galen_net::BlobSink;
use galen_net::protocol::{Item, Statement};
use galen_sums::fingerprint::{of_contribution, of_sum};
use galen_sums::statement::{OPENED, Opened};
use galen_sums::{
    Authored, Challenge, ContributionSet, Endorsement, FingerprintStatement, RoundId, check_certificate,
    check_header, check_sum,
};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::sync::{Arc, Mutex, PoisonError};

impl Hospital {
    /// Signs the fingerprint of what was sent.
    pub(crate) async fn fingerprint(
        &mut self,
        id: RoundId,
        set: Option<Digest>,
        sum: Digest,
    ) -> anyhow::Result<()> {
        if self.fingerprinted == Some(id) {
            return Ok(());
        }
        self.fingerprinted = Some(id);
        let round = self.round(id).await?;
        let (header, _) = self.contribution(id).context("nothing was contributed")?;
        let fixed = Endorsement {
            record: *round.digest(),
            set: set.context("a certificate without a set")?,
            sum,
        };
        let said = {
            let _core = self.shared.cores.acquire().await?;
            let (shared, index) = (Arc::clone(&self.shared), self.index);
            tokio::task::spawn_blocking(move || -> anyhow::Result<Authored> {
                let keys = &shared.scene.keys[index];
                let challenge = Challenge::new(&fixed);
                let blob = File::open(shared.blob_path(&keys.name, id.round))?;
                let own = of_contribution(
                    &round,
                    &challenge,
                    &header,
                    BufReader::with_capacity(1 << 18, blob),
                )?;
                Ok(FingerprintStatement::sign(
                    &round,
                    &challenge,
                    &keys.name,
                    &keys.signing,
                    &own,
                )?)
            })
            .await??
        };
        self.post(Statement::Fingerprint(said.statement)).await
    }

    /// All receivers fetch everything. In a round that is timed all of them open; under load one does, for the others as well.
    pub(crate) async fn open(&mut self, id: RoundId, sum: Digest) -> anyhow::Result<()> {
        let round = self.round(id).await?;
        let headers = self.fetch(id, Item::Headers).await?;
        let endorsements = self.fetch(id, Item::Endorsements).await?;
        let answers = self.answers(id).await?;
        // Those that are there; a hospital would fetch the missing contributions.
        let fingerprints = self.fetch(id, Item::Fingerprints).await?;
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let sink = Sink {
            bytes: Arc::clone(&bytes),
            len: round.plan().blob_len(),
        };
        self.peer.get(sum, sink, |_, _| {}).await?;
        let blob = std::mem::take(&mut *bytes.lock().unwrap_or_else(PoisonError::into_inner));
        let mut results = self.shared.results.subscribe();
        if self.shared.together.is_none() || self.index == 0 {
            let _core = self.shared.cores.acquire().await?;
            let (shared, index, opening) = (Arc::clone(&self.shared), self.index, Arc::clone(&round));
            let result = tokio::task::spawn_blocking(move || -> anyhow::Result<Digest> {
                let keys = &shared.scene.keys[index];
                let set = ContributionSet::new(&opening, &headers)?;
                for header in &headers {
                    check_header(&opening, header)?;
                }
                let certificate = check_certificate(&opening, &endorsements)?;
                let challenge = Challenge::new(certificate.endorsement());
                let sum = of_sum(&opening, &challenge, blob.as_slice())?;
                if fingerprints.len() == set.len() {
                    check_sum(&opening, &set, &challenge, &fingerprints, &BTreeMap::new(), &sum)?;
                }
                let key = open_answers(&opening, &certificate, &set, &keys.name, &keys.receiver, &answers)?;
                let opened = open_sum(&opening, &certificate, &set, &key, blob.as_slice())?;
                let all = shared.scene.keys.len();
                ensure!(set.len() == all, "somebody is not in the sum");
                let expected = (0..all).map(|index| values(&opening, index));
                let mut total = vec![0i64; opened.values.len()];
                for values in expected {
                    total
                        .iter_mut()
                        .zip(values)
                        .for_each(|(sum, value)| *sum += value);
                }
                ensure!(total == opened.values, "the sum is not exact");
                Ok(opened.opening_secret)
            })
            .await??;
            self.shared.results.send_modify(|known| {
                known.insert(id.round, result);
            });
        }
        let result = {
            let known = results.wait_for(|known| known.contains_key(&id.round)).await?;
            *known.get(&id.round).context("no result")?
        };
        let said = Opened {
            record: *round.digest(),
            result,
            max_noise: 0,
        };
        let (keys, study) = (self.keys(), self.shared.scene.study.digest());
        let said = Authored::sign(&keys.signing, &keys.name, OPENED, &study, &said)?;
        self.reported = Some(id);
        self.post(Statement::Opened(said.statement)).await
    }
}

/// Into memory.
struct Sink {
    bytes: Arc<Mutex<Vec<u8>>>,
    len: u64,
}

impl BlobSink for Sink {
    fn offset(&self) -> u64 {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }

    fn announce(&mut self, len: u64) -> Result<(), Refusal> {
        if len == self.len {
            Ok(())
        } else {
            Err(Refusal::new(Code::NotConforming, "the sum has another length"))
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let mut held = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        held.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self) -> Result<(), Refusal> {
        Ok(())
    }
}
