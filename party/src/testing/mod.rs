//! Small studies, tables and identities for this crate's tests.

pub(crate) mod federation;
#[allow(clippy::type_complexity)] // Tables of attacks.
mod malicious;

use galen_core::study::{Card, FrozenStudy, Role, Study};
use galen_core::{Digest, PartyId};
use std::path::Path;

const STUDY: &str = include_str!("small.toml");

/// A name.
pub(crate) fn name(text: &str) -> PartyId {
    PartyId::new(text).unwrap()
}

/// A study of three parties.
pub(crate) fn study() -> Study {
    toml::from_str(STUDY).unwrap()
}

/// A study of so many parties, all of which contribute, and of which the first so many keep pieces.
pub(crate) fn study_of(parties: usize, custodians: usize, threshold: u32, agreement: u32) -> Study {
    let mut study = study();
    let last = study.party.pop().unwrap();
    study.party = (0..parties)
        .map(|index| {
            let mut member = last.clone();
            member.name = name(&char::from(b'a' + index as u8).to_string());
            member
                .roles
                .retain(|role| *role != Role::Custodian || index < custodians);
            member
        })
        .collect();
    study.sums.threshold = threshold;
    study.sums.agreement = agreement;
    study
}

/// A frozen study whose cards are those given, or invented.
pub(crate) fn frozen(cards: &[Card]) -> FrozenStudy {
    frozen_of(study(), cards)
}

/// The same of another study.
pub(crate) fn frozen_of(study: Study, cards: &[Card]) -> FrozenStudy {
    let invented = |name: &PartyId| {
        let digest = |what: &str| Digest::of(format!("{what} of {name}").as_bytes());
        Card {
            name: name.clone(),
            certificate: digest("certificate"),
            signing: galen_core::PublicKey(digest("signing")),
            sealing: digest("sealing"),
        }
    };
    let card = |name: &PartyId| {
        cards
            .iter()
            .find(|c| &c.name == name)
            .cloned()
            .unwrap_or_else(|| invented(name))
    };
    let members = study.party.iter().map(|m| card(&m.name)).collect();
    FrozenStudy::freeze(study, card(&name("coordinator")), members).unwrap()
}

/// Writes a table of the small study with `rows` patients.
pub(crate) fn write_table(path: &Path, rows: usize, seed: usize) {
    let mut text = String::from("age,sex,sick\n");
    for i in 0..rows {
        let age = 30 + (i * 17 + seed * 5) % 50;
        let sex = (i + seed) % 2;
        let sick = u8::from(age + 10 * sex > 60);
        let shown = if i % 11 == 3 {
            "?".to_owned()
        } else {
            age.to_string()
        };
        text.push_str(&format!("{shown},{sex},{sick}\n"));
    }
    std::fs::write(path, text).unwrap();
}
