//! A federation whose keys follow from constants, so that a corpus stays valid from run to run: four parties, of which three
//! are custodians and all contribute. Two of three custodians open a sum; contributions are five values.

use galen_core::study::Purpose;
use galen_core::{Digest, PartyId, Signed, SigningKey};
use galen_custody::rehearsal::{confirmations, fresh_ledger};
use galen_custody::{OneRoundSecret, ReceiverKey};
use galen_sums::authored::{CONTRIBUTION, ENDORSEMENT, ONE_ROUND_KEY, ROUND_RECORD};
use galen_sums::plan::padded;
use galen_sums::{
    Abandoned, Authored, Certificate, ContributionHeader, ContributionSet, Earlier, Endorsement, PlanInputs,
    Roster, RosterMember, RosterParts, Round, RoundId, RoundRecord, SumPlan, ValueRange, check_certificate,
};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde::ser::{Serialize, SerializeTuple, Serializer};
use std::sync::{Arc, LazyLock};

/// Bytes that are already the encoding of a statement.
pub struct Encoded<'a>(pub &'a [u8]);

impl Serialize for Encoded<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(self.0.len())?;
        self.0.iter().try_for_each(|byte| tuple.serialize_element(byte))?;
        tuple.end()
    }
}

/// The key of a number: never the key of anybody.
pub fn signing_key(number: u8) -> SigningKey {
    let seed = [number; 32];
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
    // OneAsymmetricKey of RFC 8410, version 2: with the public key.
    let mut document = vec![
        0x30, 0x53, 2, 1, 1, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20,
    ];
    document.extend(seed);
    document.extend([0xa1, 0x23, 3, 0x21, 0]);
    document.extend(pair.public_key().as_ref());
    SigningKey::from_pkcs8(&document).unwrap()
}

/// Everything that a round needs.
pub struct Federation {
    pub names: Vec<PartyId>,
    pub signing: Vec<SigningKey>,
    pub receivers: Vec<ReceiverKey>,
    pub secrets: Vec<OneRoundSecret>,
    pub coordinator: SigningKey,
    pub roster: Arc<Roster>,
    pub inputs: PlanInputs,
    pub record: RoundRecord,
    pub round: Round,
    /// A contribution of each party that conforms, except that its sealed seeds are noise.
    pub headers: Vec<ContributionHeader>,
    pub set: ContributionSet,
    pub certificate: Certificate,
}

pub static FEDERATION: LazyLock<Federation> = LazyLock::new(Federation::new);

const CUSTODIANS: usize = 3;

impl Federation {
    fn new() -> Self {
        let names: Vec<PartyId> = (0..4).map(|i| PartyId::new(format!("h{i}")).unwrap()).collect();
        let signing: Vec<SigningKey> = (1..=4).map(signing_key).collect();
        let receiver = |number: u8| ReceiverKey::from_bytes(&[&[1u8][..], &[number; 32]].concat()).unwrap();
        let receivers: Vec<ReceiverKey> = (11..15).map(receiver).collect();
        let coordinator = signing_key(9);
        let members = (0..4).map(|i| RosterMember {
            name: names[i].clone(),
            signing: signing[i].public(),
            sealing: *receivers[i].public(),
            contributor: true,
            custodian: i < CUSTODIANS,
        });
        let roster = Roster::new(RosterParts {
            study: Digest::of(b"study"),
            coordinator: coordinator.public(),
            members: members.collect(),
            threshold: 2,
            agreement: 2,
            min_contributors: 3,
        });
        let roster = Arc::new(roster.unwrap());
        let ranges = vec![ValueRange {
            count: 5,
            max_abs: 1 << 20,
            fraction_bits: 10,
        }];
        let inputs = PlanInputs::for_roster(&roster, ranges, 100 * padded(5));
        let id = RoundId { round: 3, attempt: 1 };
        let secret = |number: u8| {
            let bytes = [&[1u8, 3, 0, 0, 0, 1, 0, 0, 0][..], &[number; 32]].concat();
            OneRoundSecret::from_bytes(&bytes).unwrap()
        };
        let secrets: Vec<OneRoundSecret> = (21..24).map(secret).collect();
        let statement = |(i, secret): (usize, &OneRoundSecret)| {
            let incarnation = Digest::of(names[i].as_str().as_bytes());
            let ledger = fresh_ledger(incarnation).announce(id, secret.public()).unwrap();
            secret
                .statement(&ledger, &names[i], &signing[i], roster.study())
                .unwrap()
        };
        let keys: Vec<Authored> = secrets.iter().enumerate().map(statement).collect();
        let custodians = names.iter().zip(&signing).take(CUSTODIANS);
        let confirmations = confirmations(custodians.clone(), &keys, roster.study()).unwrap();
        let before = RoundId { round: 3, attempt: 0 };
        let abandoned = |(name, key)| {
            Abandoned { round: before }
                .sign(key, name, roster.study())
                .unwrap()
        };
        let record = RoundRecord {
            study: *roster.study(),
            purpose: Purpose::Training,
            round: id,
            plan: SumPlan::new(&inputs).unwrap(),
            base: Digest::of(b"base"),
            audit: galen_sums::AuditHead::default(),
            custodians: keys,
            confirmations,
            earlier: vec![Earlier::Abandoned(custodians.map(abandoned).collect())],
        };
        let round = Round::open(&roster, &record.sign(&coordinator).unwrap(), &inputs).unwrap();
        let headers: Vec<ContributionHeader> = names.iter().map(|name| header(&round, name)).collect();
        let sign = |i: usize, header: &ContributionHeader| {
            Authored::sign(&signing[i], &names[i], CONTRIBUTION, roster.study(), header).unwrap()
        };
        let authored: Vec<Authored> = headers.iter().enumerate().map(|(i, h)| sign(i, h)).collect();
        let set = ContributionSet::new(&round, &authored).unwrap();
        let endorsement = Endorsement::of(&set, Digest::of(b"sum"));
        let endorse = |i: usize| {
            Authored::sign(&signing[i], &names[i], ENDORSEMENT, roster.study(), &endorsement).unwrap()
        };
        let certificate = check_certificate(&round, &[endorse(0), endorse(1)]).unwrap();
        Self {
            names,
            signing,
            receivers,
            secrets,
            coordinator,
            roster: Arc::clone(&roster),
            inputs,
            record,
            round,
            headers,
            set,
            certificate,
        }
    }

    /// What a party makes of any bytes by signing them: a dishonest one can.
    pub fn signed_by(&self, party: usize, domain: &str, payload: &[u8]) -> Authored {
        let party = party % self.names.len();
        let study = self.roster.study();
        Authored::sign(
            &self.signing[party],
            &self.names[party],
            domain,
            study,
            &Encoded(payload),
        )
        .unwrap()
    }

    /// The same for the coordinator, and a round record.
    pub fn record_of(&self, payload: &[u8]) -> Signed {
        self.coordinator
            .sign(ROUND_RECORD, self.roster.study(), &Encoded(payload))
            .unwrap()
    }

    /// The same for a line of the audit log.
    pub fn line_of(&self, payload: &[u8]) -> Signed {
        self.coordinator
            .sign(
                galen_sums::audit::AUDIT_LINE,
                self.roster.study(),
                &Encoded(payload),
            )
            .unwrap()
    }

    /// A custodian's one-round key from any bytes.
    pub fn key_of(&self, party: usize, payload: &[u8]) -> Authored {
        self.signed_by(party, ONE_ROUND_KEY, payload)
    }
}

fn header(round: &Round, contributor: &PartyId) -> ContributionHeader {
    let custodians = round.custodians().keys();
    let sealed = custodians.map(|name| (name.clone(), vec![5; round.held_by(name).len() * 32 + 48]));
    ContributionHeader {
        record: *round.digest(),
        contributor: contributor.clone(),
        base: round.record().base,
        ciphertext: Digest::of(b"blob"),
        ciphertext_len: round.plan().blob_len(),
        seed_hashes: vec![Digest::of(b"seed"); round.roster().pieces().len()],
        sealed: sealed.collect(),
    }
}
