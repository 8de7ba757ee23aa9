//! What every crate shares: names, digests, signed envelopes, keys, studies and configuration files.

use crate::memory::bounded;
use crate::{HINTED, choose, postcard_again, scratch_file};
use galen_core::study::{Card, Draft, FrozenStudy, Study, StudyError, Written};
use galen_core::{Digest, PartyId, PublicKey, Refusal, Signed, SigningKey, config};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;
use std::sync::LazyLock;

/// Names and digests, as text and in both encodings.
fn short(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        if let Ok(name) = text.parse::<PartyId>() {
            assert!(name.as_str() == text && (1..=32).contains(&text.len()));
            assert!(Path::new(text).file_name().is_some_and(|file| file == text));
        }
        if let Ok(digest) = text.parse::<Digest>() {
            assert_eq!(digest.to_hex(), text.to_ascii_lowercase());
        }
        let parsed: Result<PartyId, _> = serde_json::from_str(text);
        if let Ok(name) = parsed {
            assert_eq!(
                serde_json::from_str::<PartyId>(&serde_json::to_string(&name).unwrap()).unwrap(),
                name
            );
        }
        let parsed: Result<Digest, _> = serde_json::from_str(text);
        if let Ok(digest) = parsed {
            assert_eq!(
                serde_json::from_str::<Digest>(&serde_json::to_string(&digest).unwrap()).unwrap(),
                digest
            );
        }
    }
    postcard_again::<PartyId>(data);
    postcard_again::<Digest>(data);
    postcard_again::<Refusal>(data);
}

/// Names, digests, and the envelopes that name their authors.
pub fn names(data: &[u8]) {
    choose(&[short, signed], data);
}

/// Signed envelopes: decoding one, checking its signature, reading what it holds.
fn signed(data: &[u8]) {
    let Some(signed) = postcard_again::<Signed>(data) else {
        return;
    };
    let key = PublicKey(Digest::of(b"nobody's key"));
    assert!(
        signed
            .open::<Digest>("domain", &Digest::of(b"study"), &key)
            .is_err()
    );
    let _ = signed.read_unverified::<Digest>();
    let _ = signed.read_unverified::<(PartyId, Vec<u64>)>();
    assert_eq!(signed.digest(), signed.clone().digest());
}

/// [`SigningKey::from_pkcs8`].
pub fn signing_key(data: &[u8]) {
    if let Ok(key) = SigningKey::from_pkcs8(data) {
        assert_eq!(key.to_pkcs8(), data);
        let study = Digest::of(b"study");
        let signed = key.sign("domain", &study, &7u32).unwrap();
        assert_eq!(signed.open::<u32>("domain", &study, &key.public()).unwrap(), 7);
    }
}

fn text_of(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// Parses TOML, and once more what that was written as.
pub(crate) fn toml_again<T: DeserializeOwned + Serialize>(text: &str) -> Option<T> {
    // The tree that TOML is parsed into takes some hundred bytes for every table or array that a few bytes open.
    let value: T = bounded(text.as_bytes(), HINTED, 4096, || {
        config::parse(Path::new("x.toml"), text)
    })
    .ok()?;
    let written = toml::to_string(&value).unwrap();
    let again: T = toml::from_str(&written).unwrap();
    // Compared as text, since a study may hold NaN, which is unequal to itself.
    assert_eq!(toml::to_string(&again).unwrap(), written);
    Some(value)
}

/// A study as its author wrote it: parsing and checking.
pub fn study(data: &[u8]) {
    let Some(study) = text_of(data).and_then(toml_again::<Study>) else {
        return;
    };
    let problems = study.check();
    for problem in &problems {
        assert!(!problem.to_string().is_empty());
    }
    let card = |name: &PartyId, tag: &str| Card {
        name: name.clone(),
        certificate: Digest::of(format!("certificate {tag}{name}").as_bytes()),
        signing: PublicKey(Digest::of(format!("signing {tag}{name}").as_bytes())),
        sealing: Digest::of(format!("sealing {tag}{name}").as_bytes()),
    };
    let cards = study.party.iter().map(|member| card(&member.name, "")).collect();
    let coordinator = card(&PartyId::new("coordinator").unwrap(), "c ");
    match FrozenStudy::freeze(study.clone(), coordinator, cards) {
        Ok(frozen) => {
            assert!(problems.is_empty());
            derived(&frozen);
        }
        Err(StudyError::Problems(found)) => assert_eq!(found.len(), problems.len()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// What every party derives from a study that passed its checks must exist, or be refused with an error.
fn derived(frozen: &FrozenStudy) {
    let study = frozen.study();
    if let Ok(roster) = galen_sums::Roster::from_study(frozen) {
        let Ok(shapes) = galen_models::agenda::schedule_shapes(study) else {
            assert!(!galen_models::Course::check(study).is_empty());
            return;
        };
        let schedule = galen_sums::schedule::Schedule::new(shapes, study.sums.max_attempts);
        for round in [0, 1, schedule.len() as u32 - 1] {
            let inputs = schedule.inputs(&roster, round).unwrap();
            let _ = galen_sums::SumPlan::new(&inputs);
        }
    }
    // Beyond this a model takes longer to make than a fuzzer should wait.
    if let Ok(course) = galen_models::Course::of(study) {
        assert!(course.first().params().iter().all(|p| p.is_finite()));
    }
}

/// A frozen study's file: [`FrozenStudy::load`].
fn frozen_study(data: &[u8]) {
    let path = scratch_file(data);
    if let Ok(frozen) = FrozenStudy::load(&path) {
        let path = scratch_file(frozen.to_toml().unwrap().as_bytes());
        assert_eq!(FrozenStudy::load(&path).unwrap().digest(), frozen.digest());
    }
}

/// The files that an operator edits: the coordinator's and a party's configuration, identity cards.
fn configuration(data: &[u8]) {
    let Some(text) = text_of(data) else { return };
    toml_again::<galen_coordinator::config::Config>(text);
    toml_again::<Card>(text);
    let parsed: Result<galen_party::config::Config, _> = config::parse(Path::new("x.toml"), text);
    if let Ok(config) = parsed {
        assert!(!format!("{config:?}").is_empty());
    }
}

/// The draft of a successor: [`Written::load`], [`Draft::freeze`].
fn draft(data: &[u8]) {
    static BEFORE: LazyLock<FrozenStudy> = LazyLock::new(|| frozen_heart());
    let path = scratch_file(data);
    let Ok(Written::Successor(draft)) = Written::load(&path) else {
        return;
    };
    text_of(data).and_then(toml_again::<Draft>).unwrap();
    if let Ok(frozen) = draft.freeze(&BEFORE) {
        assert_eq!(frozen.version(), 2);
        assert!(frozen.check_successor_of(&BEFORE).is_empty());
        derived(&frozen);
    }
}

/// The study of `configs/studies/heart` as it is when all cards are joined.
pub fn frozen_heart() -> FrozenStudy {
    let study = crate::heart();
    let card = |name: &PartyId| Card {
        name: name.clone(),
        certificate: Digest::of(format!("certificate {name}").as_bytes()),
        signing: PublicKey(Digest::of(format!("signing {name}").as_bytes())),
        sealing: Digest::of(format!("sealing {name}").as_bytes()),
    };
    let cards = study.party.iter().map(|member| card(&member.name)).collect();
    FrozenStudy::freeze(study, card(&PartyId::new("coordinator").unwrap()), cards).unwrap()
}

/// Files that people hand around: frozen studies, configurations, identity cards, drafts of successors.
pub fn files(data: &[u8]) {
    choose(&[frozen_study, configuration, draft], data);
}
