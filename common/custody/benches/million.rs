//! What a round of a million values costs each part: `cargo bench -p galen-custody`.
//!
//! Ten contributors, five custodians of which any three open. Times are of one thread.

use galen_core::study::Purpose;
use galen_core::{Digest, PartyId, SigningKey};
use galen_custody::Vote;
use galen_custody::rehearsal::{confirmations, fresh_ledger};
use galen_custody::{
    OneRoundSecret, ReceiverKey, answer, check_contribution, encrypt, endorse, open_answers, open_sum,
};
use galen_measure::{machine, peak_mib, thread_time};
use galen_rns::kernel::describe;
use galen_sums::plan::padded;
use galen_sums::{
    ContributionSet, Endorsement, PlanInputs, Roster, RosterMember, RosterParts, Round, RoundId, RoundRecord,
    Source, SumPlan, ValueRange, add, check_certificate, check_header,
};
use std::error::Error;
use std::io::{Write, stdout};
use std::sync::Arc;
use std::time::{Duration, Instant};

const VALUES: u32 = 1_000_000;
const CONTRIBUTORS: usize = 10;
const CUSTODIANS: usize = 5;
const THRESHOLD: u32 = 3;

/// Fixed point with 24 fractional bits, values up to 2 to the minus 2 and up to 2^14.
const RANGES: [(u32, u64); 2] = [(24, 1 << 22), (24, 1 << 38)];

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = stdout().lock();
    writeln!(out, "{}; one thread is used\n{}", machine(), describe())?;
    writeln!(
        out,
        "{VALUES} values, {CONTRIBUTORS} contributors, {CUSTODIANS} custodians, threshold {THRESHOLD}"
    )?;
    for (fraction_bits, max_abs) in RANGES {
        round(&mut out, fraction_bits, max_abs)?;
    }
    if let Some(mib) = peak_mib() {
        writeln!(
            out,
            "\npeak memory of all {CONTRIBUTORS} contributors, coordinator, custodians and receiver in this one process: {mib:.0} MiB"
        )?;
    }
    Ok(())
}

/// Measures wall clock, and how long this thread was on a processor in that time.
struct Clock {
    start: Instant,
    processor: Duration,
}

impl Clock {
    fn start() -> Self {
        Self {
            start: Instant::now(),
            processor: thread_time(),
        }
    }

    /// Time per item.
    fn per(&self, count: usize) -> String {
        let each = |time: Duration| time.as_secs_f64() / count as f64;
        let (wall, processor) = (self.start.elapsed(), thread_time() - self.processor);
        format!("{:.3} s (CPU {:.4} s)", each(wall), each(processor))
    }
}

struct Party {
    name: PartyId,
    signing: SigningKey,
    receiver: ReceiverKey,
}

fn round(out: &mut impl Write, fraction_bits: u32, max_abs: u64) -> Result<(), Box<dyn Error>> {
    let parties = (0..CONTRIBUTORS)
        .map(|index| {
            let name = PartyId::new(format!("h{index}"))?;
            Ok(Party {
                name,
                signing: SigningKey::generate()?,
                receiver: ReceiverKey::generate()?,
            })
        })
        .collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    let coordinator = SigningKey::generate()?;
    let member = |(index, party): (usize, &Party)| RosterMember {
        name: party.name.clone(),
        signing: party.signing.public(),
        sealing: *party.receiver.public(),
        contributor: true,
        custodian: index < CUSTODIANS,
    };
    let roster = Arc::new(Roster::new(RosterParts {
        study: Digest::of(b"bench"),
        coordinator: coordinator.public(),
        members: parties.iter().enumerate().map(member).collect(),
        threshold: THRESHOLD,
        agreement: THRESHOLD,
        min_contributors: 3,
    })?);
    let ranges = vec![ValueRange {
        count: VALUES,
        max_abs,
        fraction_bits,
    }];
    let inputs = PlanInputs::for_roster(&roster, ranges, 1000 * padded(VALUES.into()));

    let id = RoundId { round: 1, attempt: 0 };
    let (mut secrets, mut ledgers, mut keys) = (Vec::new(), Vec::new(), Vec::new());
    for party in &parties[..CUSTODIANS] {
        let secret = OneRoundSecret::generate(id)?;
        let incarnation = Digest::of(party.name.as_str().as_bytes());
        let ledger = fresh_ledger(incarnation).announce(id, secret.public())?;
        keys.push(secret.statement(&ledger, &party.name, &party.signing, roster.study())?);
        secrets.push(secret);
        ledgers.push(ledger);
    }
    let record = RoundRecord {
        study: *roster.study(),
        purpose: Purpose::Training,
        round: id,
        plan: SumPlan::new(&inputs)?,
        base: Digest::of(b"base"),
        confirmations: confirmations(
            parties[..CUSTODIANS]
                .iter()
                .map(|party| (&party.name, &party.signing)),
            &keys,
            roster.study(),
        )?,
        custodians: keys,
        audit: galen_sums::AuditHead::default(),
        earlier: Vec::new(),
    };
    let round = Round::open(&roster, &record.sign(&coordinator)?, &inputs)?;
    let plan = round.plan();
    writeln!(
        out,
        "\nfraction {fraction_bits} bits, |value| <= {max_abs}: N = {}, log2 Q = {:.2} in {} prime(s) (128-bit security allows {}), \
         delta = 2^{}, noise bound {}, {} pieces",
        plan.degree,
        plan.log2_q(),
        plan.primes.len(),
        plan.security_bound(),
        plan.delta.trailing_zeros(),
        plan.noise_bound,
        roster.pieces().len()
    )?;

    let values: Vec<i64> = (0..i64::from(VALUES))
        .map(|i| i * 7919 % (max_abs as i64 + 1) - (i & 1))
        .collect();
    let mut blobs: Vec<Vec<u8>> = (0..CONTRIBUTORS)
        .map(|_| Vec::with_capacity(plan.blob_len() as usize))
        .collect();
    let mut headers = Vec::new();
    let clock = Clock::start();
    for (party, blob) in parties.iter().zip(&mut blobs) {
        headers.push(encrypt(&round, &party.name, &party.signing, &values, blob)?);
    }
    let time = clock.per(CONTRIBUTORS);
    let header_len = postcard::to_stdvec(&headers[0])?.len();
    writeln!(
        out,
        "contributor: {time} to encrypt, write and sign; sends {} + {header_len} bytes ({:.3} per value, {:.3} when full)",
        blobs[0].len(),
        blobs[0].len() as f64 / f64::from(VALUES),
        plan.bytes_per_value()
    )?;

    let clock = Clock::start();
    let set = ContributionSet::new(&round, &headers)?;
    let sources = headers.iter().zip(&blobs).map(|(header, blob)| {
        let digest = check_header(&round, header)?.ciphertext;
        Ok(Source {
            contributor: header.author.clone(),
            digest,
            blob: blob.as_slice(),
        })
    });
    let sources = sources.collect::<Result<Vec<_>, galen_sums::SumsError>>()?;
    let mut sum = Vec::with_capacity(plan.blob_len() as usize);
    let digest = add(&round, &set, &sources, &mut sum)?;
    writeln!(out, "coordinator: {} to check and add", clock.per(1))?;

    let clock = Clock::start();
    let (mut endorsements, mut opened) = (Vec::new(), Vec::new());
    let endorsement = Endorsement::of(&set, digest);
    for (index, party) in parties[..CUSTODIANS].iter().enumerate() {
        let seeds = headers
            .iter()
            .map(|header| check_contribution(&round, &party.name, &secrets[index], header));
        let seeds = seeds.collect::<Result<Vec<_>, _>>()?;
        ledgers[index] = ledgers[index].sign(id, &Vote::of(&round, &set, digest))?;
        let ledger = &ledgers[index];
        endorsements.push(endorse(
            &round,
            &party.name,
            &party.signing,
            ledger,
            &set,
            &seeds,
            digest,
        )?);
        opened.push(seeds);
    }
    let certificate = check_certificate(&round, &endorsements)?;
    let everyone = parties[..CUSTODIANS]
        .iter()
        .map(|party| party.name.clone())
        .collect();
    let assignments = round.assign(&everyone).ok_or("no assignment")?;
    let mut answers = Vec::new();
    for (index, party) in parties[..CUSTODIANS].iter().enumerate() {
        let Some(pieces) = assignments.get(&party.name) else {
            continue;
        };
        let ledger = ledgers[index].answer(id, &endorsement)?;
        let (signing, seeds) = (&party.signing, &opened[index]);
        answers.push(answer(
            &round,
            &party.name,
            signing,
            &ledger,
            &certificate,
            &set,
            seeds,
            pieces,
        )?);
    }
    let time = clock.per(CUSTODIANS);
    let longest = answers
        .iter()
        .map(postcard::to_stdvec)
        .collect::<Result<Vec<_>, _>>()?;
    let longest = longest.iter().map(Vec::len).max().unwrap_or(0);
    writeln!(
        out,
        "custodian: {time} to check, endorse and answer; receives {} bytes of headers, sends {longest} bytes \
         ({} per receiver)",
        header_len * CONTRIBUTORS,
        longest / CONTRIBUTORS
    )?;

    let clock = Clock::start();
    let me = &parties[0];
    let key = open_answers(&round, &certificate, &set, &me.name, &me.receiver, &answers)?;
    let result = open_sum(&round, &certificate, &set, &key, sum.as_slice())?;
    let exact = result
        .values
        .iter()
        .zip(&values)
        .all(|(sum, value)| *sum == CONTRIBUTORS as i64 * value);
    writeln!(
        out,
        "receiver: {} to open; exact: {exact}; noise rms {:.2} (4.6 sqrt({CONTRIBUTORS}) = {:.2}), largest {}",
        clock.per(1),
        result.noise_rms(plan),
        4.6 * (CONTRIBUTORS as f64).sqrt(),
        result.max_noise
    )?;
    if exact {
        Ok(())
    } else {
        Err("the sum is not exact".into())
    }
}
