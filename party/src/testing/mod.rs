//! Small studies, tables and identities for this crate's tests.

pub(crate) mod federation;
#[allow(clippy::type_complexity)] // Tables of attacks.
mod malicious;

use galen_core::study::{Card, FrozenStudy, Role, Study};
use galen_core::{Digest, PartyId};
use std::path::Path;

const STUDY: &str = r#"
format = 1
name = "small"
title = "A small study"
seed = 7

[[party]]
name = "a"
title = "Hospital A"
roles = ["contributor", "custodian", "querier"]
[[party]]
name = "b"
roles = ["contributor", "custodian", "querier"]
[[party]]
name = "c"
roles = ["contributor", "custodian"]

[sums]
threshold = 2
agreement = 2
min_contributors = 3
quorum = 3
patience_s = 30
max_attempts = 3
receivers = "contributors"

[data]
header = true
missing = ["?", ""]
max_rows = 100
held_out = 0.25

[[data.column]]
name = "age"
kind = "numeric"
min = 0
max = 120
[[data.column]]
name = "sex"
kind = "categorical"
values = [0, 1]
[[data.column]]
name = "sick"
kind = "target"

[data.target]
negative = [0]
positive = [1]

[model]
hidden = [4]
power = 2
scale = 0.1

[training]
rounds = 2
local_epochs = 2
batch_size = 8
learning_rate = 0.05
learning_rate_decay = 0.9
momentum = 0.9
weight_decay = 0.001
latent_penalty = 0.1
latent_bound = 4.0
clip = 5.0
fraction_bits = 24

[evaluation]
bins = 20

[serving]
release = "coordinator"
precision_bits = 12
"#;

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
