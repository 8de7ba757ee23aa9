//! A receiver that is kept away, and then told something.

use super::culprit::study;
use super::play::{Play, honest};
use super::*;
use crate::authentic;
use galen_net::protocol::Item;
use galen_sums::statement::{OPENED, Opened};

/// Attack: a receiver is kept away until the contributions are deleted, and shown another state as the published one.
#[test]
fn what_a_latecomer_cannot_check_must_be_signed_by_enough_receivers() {
    let mut play = Play::new(Federation::of(study()));
    play.until_published(1, &honest);
    let published = &play.engine.state().published[0];
    let id = RoundId {
        round: 0,
        attempt: published.attempt,
    };
    let state = published.result;
    let round = play.round(id);
    let words = play.fetch(id, Item::Openings);
    authentic::vouched(&round, &words, &state).unwrap();
    // Line of defence: as many signed words on this state as make a sum.
    let needed = round.roster().min_contributors();
    let other = Digest::of(b"another state");
    refused(authentic::vouched(&round, &words, &other), "signed that");
    refused(
        authentic::vouched(&round, &words[..needed - 1], &state),
        "signed that",
    );
    // Nobody counts twice, nobody in another's name, and no word on another record.
    let repeated = vec![words[0].clone(); needed];
    refused(authentic::vouched(&round, &repeated, &state), "signed that");
    let mut borrowed = repeated;
    for (word, member) in borrowed.iter_mut().zip(&play.federation.members) {
        word.author = member.identity.name.clone();
    }
    refused(authentic::vouched(&round, &borrowed, &state), "signed that");
    let elsewhere: Vec<Authored> = play
        .federation
        .members
        .iter()
        .map(|member| {
            let said = Opened {
                record: Digest::of(b"another record"),
                result: state,
                max_noise: 0,
            };
            Authored {
                author: member.identity.name.clone(),
                statement: play.sign(member, OPENED, &said),
            }
        })
        .collect();
    refused(authentic::vouched(&round, &elsewhere, &state), "signed that");
}
