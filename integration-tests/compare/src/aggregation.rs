//! Many contributors' updates, summed under one-round keys that custodians hold in pieces: every step of a round, by
//! all parties in turn, and what each costs.

use crate::clock::seconds;
use crate::protocol::Aggregation;
use anyhow::{Context as _, Result, ensure};
use galen_core::study::Purpose;
use galen_core::{Digest, PartyId, SigningKey};
use galen_custody::Vote;
use galen_custody::rehearsal::{confirmations, fresh_ledger};
use galen_custody::{
    OneRoundSecret, ReceiverKey, answer, check_contribution, encrypt, endorse, open_answers, open_sum,
};
use galen_measure::peak_mib;
use galen_sums::plan::padded;
use galen_sums::{
    ContributionSet, Endorsement, PlanInputs, Roster, RosterMember, RosterParts, Round, RoundId, RoundRecord,
    Source, SumPlan, ValueRange, add, check_certificate, check_header,
};
use serde::Serialize;
use std::fs;
use std::sync::Arc;

/// The sums of a study of this many rounds may fail with a probability of 2^-40 together.
const ROUNDS: u64 = 1000;

/// What the steps cost.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    /// The parameters that were chosen.
    parameters: String,
    log2_q: f64,
    security_bound: u32,
    /// To make the one-round key of a custodian; also the whole of what takes the place of a joint key generation.
    custodian_key_s: f64,
    /// From doubles to a signed contribution in bytes, for each contributor.
    contribute_s: Vec<f64>,
    /// Sent by each contributor: ciphertext, sealed seeds, signature.
    upload_bytes: usize,
    /// At the coordinator, all contributions: check and add.
    add_s: f64,
    /// For each custodian: check the contributions' seeds, endorse the sum, answer with its pieces of the key.
    open_s: Vec<f64>,
    /// The longest answer of a custodian, to all receivers together.
    answer_bytes: usize,
    /// At each receiver: open the answers and read the sum.
    receive_s: f64,
    /// Whether the sum is that of the fixed-point values, to the bit.
    exact: bool,
    peak_mib: Option<f64>,
}

struct Party {
    name: PartyId,
    signing: SigningKey,
    receiver: ReceiverKey,
}

impl Party {
    fn new(index: usize) -> Result<Self> {
        Ok(Self {
            name: PartyId::new(format!("hospital-{index}"))?,
            signing: SigningKey::generate()?,
            receiver: ReceiverKey::generate()?,
        })
    }
}

/// The contributors' updates, in the clear.
struct Updates {
    values: Vec<f64>,
    count: usize,
}

impl Updates {
    fn read(task: &Aggregation) -> Result<Self> {
        let bytes = fs::read(&task.updates).with_context(|| format!("{}", task.updates.display()))?;
        let (values, rest) = bytes.as_chunks::<8>();
        let values: Vec<f64> = values.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
        ensure!(
            rest.is_empty() && task.contributors > 0 && !values.is_empty(),
            "no updates"
        );
        ensure!(
            values.len().is_multiple_of(task.contributors),
            "updates differ in their length"
        );
        let largest = values.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
        ensure!(largest <= task.max_abs, "an update has {largest}");
        let count = values.len() / task.contributors;
        Ok(Self { values, count })
    }

    /// In fixed point.
    fn of(&self, contributor: usize, fraction_bits: u32) -> Vec<i64> {
        let unit = f64::from(fraction_bits).exp2();
        let update = &self.values[contributor * self.count..][..self.count];
        update
            .iter()
            .map(|x| (x * unit).round_ties_even() as i64)
            .collect()
    }
}

/// A round from its record to the opened sum.
pub(crate) fn run(task: &Aggregation) -> Result<Report> {
    let updates = Updates::read(task)?;
    let unit = f64::from(task.fraction_bits).exp2();
    let parties = (0..task.contributors)
        .map(Party::new)
        .collect::<Result<Vec<_>>>()?;
    ensure!(
        task.custodians <= parties.len(),
        "more custodians than contributors"
    );
    let custodians = &parties[..task.custodians];
    let coordinator = SigningKey::generate()?;
    let member = |(index, party): (usize, &Party)| RosterMember {
        name: party.name.clone(),
        signing: party.signing.public(),
        sealing: *party.receiver.public(),
        contributor: true,
        custodian: index < task.custodians,
    };
    let roster = Arc::new(Roster::new(RosterParts {
        study: Digest::of(b"comparison"),
        coordinator: coordinator.public(),
        members: parties.iter().enumerate().map(member).collect(),
        threshold: task.threshold,
        agreement: task.threshold,
        min_contributors: 3,
    })?);
    let ranges = vec![ValueRange {
        count: u32::try_from(updates.count)?,
        max_abs: (task.max_abs * unit).ceil() as u64,
        fraction_bits: task.fraction_bits,
    }];
    let inputs = PlanInputs::for_roster(&roster, ranges, ROUNDS * padded(updates.count as u64));

    let id = RoundId { round: 1, attempt: 0 };
    let (mut secrets, mut ledgers, mut keys) = (Vec::new(), Vec::new(), Vec::new());
    let (key_s, ()) = seconds(|| {
        for party in custodians {
            let secret = OneRoundSecret::generate(id)?;
            let incarnation = Digest::of(party.name.as_str().as_bytes());
            let ledger = fresh_ledger(incarnation).announce(id, secret.public())?;
            keys.push(secret.statement(&ledger, &party.name, &party.signing, roster.study())?);
            secrets.push(secret);
            ledgers.push(ledger);
        }
        Ok(())
    })?;
    let record = RoundRecord {
        study: *roster.study(),
        purpose: Purpose::Training,
        round: id,
        plan: SumPlan::new(&inputs)?,
        base: Digest::of(b"base model"),
        confirmations: confirmations(
            custodians.iter().map(|party| (&party.name, &party.signing)),
            &keys,
            roster.study(),
        )?,
        custodians: keys,
        audit: galen_sums::AuditHead::default(),
        earlier: Vec::new(),
    };
    let round = Round::open(&roster, &record.sign(&coordinator)?, &inputs)?;
    let plan = round.plan();
    let mut report = Report {
        parameters: format!(
            "N = {}, {} prime(s), {} fraction bits, {} key pieces",
            plan.degree,
            plan.primes.len(),
            task.fraction_bits,
            roster.pieces().len()
        ),
        log2_q: plan.log2_q(),
        security_bound: plan.security_bound(),
        custodian_key_s: key_s / custodians.len() as f64,
        ..Report::default()
    };

    let (mut headers, mut blobs) = (Vec::new(), Vec::new());
    for (index, party) in parties.iter().enumerate() {
        let (elapsed, (header, blob)) = seconds(|| {
            let values = updates.of(index, task.fraction_bits);
            let mut blob = Vec::with_capacity(usize::try_from(plan.blob_len())?);
            let header = encrypt(&round, &party.name, &party.signing, &values, &mut blob)?;
            Ok((header, blob))
        })?;
        report.contribute_s.push(elapsed);
        report.upload_bytes = blob.len() + postcard::to_stdvec(&header)?.len();
        headers.push(header);
        blobs.push(blob);
    }

    let mut sum = Vec::with_capacity(usize::try_from(plan.blob_len())?);
    let (elapsed, (set, digest)) = seconds(|| {
        let set = ContributionSet::new(&round, &headers)?;
        let sources = headers.iter().zip(&blobs).map(|(header, blob)| {
            Ok(Source {
                contributor: header.author.clone(),
                digest: check_header(&round, header)?.ciphertext,
                blob: blob.as_slice(),
            })
        });
        let digest = add(&round, &set, &sources.collect::<Result<Vec<_>>>()?, &mut sum)?;
        Ok((set, digest))
    })?;
    report.add_s = elapsed;

    // In a federation the answers wait for the certificate of the endorsements; the time of both is the custodian's.
    let endorsement = Endorsement::of(&set, digest);
    let (mut endorsements, mut seeds) = (Vec::new(), Vec::new());
    for (index, party) in custodians.iter().enumerate() {
        let (elapsed, opened) = seconds(|| {
            let opened = headers
                .iter()
                .map(|header| Ok(check_contribution(&round, &party.name, &secrets[index], header)?))
                .collect::<Result<Vec<_>>>()?;
            ledgers[index] = ledgers[index].sign(id, &Vote::of(&round, &set, digest))?;
            let ledger = &ledgers[index];
            endorsements.push(endorse(
                &round,
                &party.name,
                &party.signing,
                ledger,
                &set,
                &opened,
                digest,
            )?);
            Ok(opened)
        })?;
        report.open_s.push(elapsed);
        seeds.push(opened);
    }
    let certificate = check_certificate(&round, &endorsements)?;
    let everyone = custodians.iter().map(|party| party.name.clone()).collect();
    let assignments = round.assign(&everyone).context("no assignment of pieces")?;
    let mut answers = Vec::new();
    for (index, party) in custodians.iter().enumerate() {
        let Some(pieces) = assignments.get(&party.name) else {
            continue;
        };
        let (elapsed, answered) = seconds(|| {
            let ledger = ledgers[index].answer(id, &endorsement)?;
            Ok(answer(
                &round,
                &party.name,
                &party.signing,
                &ledger,
                &certificate,
                &set,
                &seeds[index],
                pieces,
            )?)
        })?;
        report.open_s[index] += elapsed;
        let bytes = postcard::to_stdvec(&answered)?.len();
        report.answer_bytes = report.answer_bytes.max(bytes);
        answers.push(answered);
    }

    let me = &parties[0];
    let (elapsed, opened) = seconds(|| {
        let key = open_answers(&round, &certificate, &set, &me.name, &me.receiver, &answers)?;
        Ok(open_sum(&round, &certificate, &set, &key, sum.as_slice())?)
    })?;
    report.receive_s = elapsed;

    let mut expected = vec![0i64; updates.count];
    for contributor in 0..task.contributors {
        let update = updates.of(contributor, task.fraction_bits);
        expected.iter_mut().zip(update).for_each(|(sum, x)| *sum += x);
    }
    report.exact = opened.values == expected;
    let bytes: Vec<u8> = opened
        .values
        .iter()
        .flat_map(|&value| (value as f64 / unit).to_le_bytes())
        .collect();
    fs::write(&task.sum, bytes).with_context(|| format!("{}", task.sum.display()))?;
    report.peak_mib = peak_mib();
    Ok(report)
}
