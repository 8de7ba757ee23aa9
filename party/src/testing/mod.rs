//! Small studies, tables and identities for this crate's tests.

pub(crate) mod federation;
#[allow(clippy::type_complexity)] // Tables of attacks.
mod malicious;

use galen_core::study::{Card, FrozenStudy, Role, Study};
use galen_core::{Digest, PartyId};
use std::path::{Path, PathBuf};

const STUDY: &str = include_str!("small.toml");
const IMAGES: &str = include_str!("images.toml");

/// A name.
pub(crate) fn name(text: &str) -> PartyId {
    PartyId::new(text).unwrap()
}

/// A study of three parties.
pub(crate) fn study() -> Study {
    toml::from_str(STUDY).unwrap()
}

/// A study of three parties on images.
pub(crate) fn images() -> Study {
    toml::from_str(IMAGES).unwrap()
}

/// Writes the images of a hospital of that study as IDX, `count` of them: gray stripes, every other one with horizontal ones. Gives the path of
/// the images.
pub(crate) fn write_images(folder: &Path, count: usize, seed: usize) -> PathBuf {
    let stripes = |index: usize| {
        (0..16).map(move |pixel| {
            let (row, column) = (pixel / 4, pixel % 4);
            let along = if index % 2 == 1 { row } else { column };
            let noise = (index * 31 + pixel * 17 + seed * 7) % 40;
            ((along + index / 2) % 2 * 200 + noise) as u8
        })
    };
    let file = |sides: &[usize], bytes: Vec<u8>| {
        let magic = [0, 0, 8, sides.len() as u8].into_iter();
        let sides = sides.iter().flat_map(|&side| (side as u32).to_be_bytes());
        magic.chain(sides).chain(bytes).collect::<Vec<u8>>()
    };
    let images = folder.join("scans-images-idx3-ubyte");
    let values = (0..count).flat_map(stripes).collect();
    std::fs::write(&images, file(&[count, 4, 4], values)).unwrap();
    let labels = (0..count).map(|index| (index % 2) as u8).collect();
    std::fs::write(folder.join("scans-labels-idx1-ubyte"), file(&[count], labels)).unwrap();
    images
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
