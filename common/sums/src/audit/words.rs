//! A line in plain English.

use super::chain::AuditLine;
use super::event::{AuditEvent, Culprit};
use crate::authored::Authored;
use galen_core::PartyId;
use galen_core::clock::utc;
use std::collections::BTreeSet;

/// Version of the wording. Raised whenever a sentence changes, so that a file written with other words is not taken for a changed one.
pub const WORDS: u32 = 1;

/// Longest text of others that is shown, in characters.
const MAX_TEXT: usize = 300;

/// A line for people: number, time, and what happened.
pub fn line(line: &AuditLine) -> String {
    format!(
        "{:>6}  {}  {}",
        line.number,
        utc(line.time_ms),
        event(&line.event)
    )
}

/// What happened, in one sentence. Texts that others wrote are cut and cleaned of control characters.
pub fn event(event: &AuditEvent) -> String {
    match event {
        AuditEvent::Admitted { party, consent } => {
            format!(
                "{party} joined with its signed consent to the study ({}).",
                consent.short()
            )
        }
        AuditEvent::Activated => "Every party has signed; the study is active.".into(),
        AuditEvent::Incarnation {
            custodian,
            nonce,
            seq,
        } => format!(
            "Custodian {custodian} started as incarnation {}, at entry {seq} of its ledger.",
            nonce.short()
        ),
        AuditEvent::Confirmed { custodian, nonce, by } => format!(
            "Custodian {by} confirmed incarnation {} of {custodian}: it knows of nothing newer.",
            nonce.short()
        ),
        AuditEvent::Stale { custodian, nonce, by } => format!(
            "Custodian {by} rejected incarnation {} of {custodian}, which has forgotten what it signed: it was put back to an old state.",
            nonce.short()
        ),
        AuditEvent::Record {
            id,
            purpose,
            record,
            base,
            standing,
        } => {
            let mut text = format!(
                "{} for {} was announced by record {}; contributions start from state {}",
                begin(id.to_string()),
                purpose.name(),
                record.short(),
                base.short()
            );
            for (attempt, members) in standing {
                text.push_str(&format!(
                    "; attempt {attempt} was not given up: its sum over {} may be open",
                    names(members)
                ));
            }
            text.push('.');
            text
        }
        AuditEvent::Contribution {
            id,
            contributor,
            header,
            blob,
        } => format!(
            "The encrypted contribution of {contributor} to {id} was received (header {}, ciphertexts {}).",
            header.short(),
            blob.short()
        ),
        AuditEvent::Refused {
            party,
            what,
            code,
            text,
        } => format!(
            "{party} was refused a {} (G{code}): {}.",
            plain(what),
            plain(text)
        ),
        AuditEvent::Named {
            id,
            party,
            culprit,
            text,
            evidence,
        } => format!(
            "In {id}, {party} was found at fault, {}: {} ({}).",
            culprit_words(*culprit),
            plain(text),
            count(
                evidence.len(),
                "signed statement shows it",
                "signed statements show it"
            )
        ),
        AuditEvent::Proposed {
            id,
            members,
            set,
            sum,
        } => format!(
            "In {id} the contributions of {} were added: set {}, encrypted sum {}.",
            names(members.keys()),
            set.short(),
            sum.short()
        ),
        AuditEvent::Certified {
            id,
            set,
            sum,
            endorsements,
        } => format!(
            "Custodians {} agreed to open sum {} over set {} of {id}, and no other.",
            signers(endorsements),
            sum.short(),
            set.short()
        ),
        AuditEvent::Abandoned {
            id,
            reason,
            signatures,
        } => format!(
            "{} was given up, and nothing of it opened: {}; custodians {} signed so.",
            begin(id.to_string()),
            plain(reason),
            signers(signatures)
        ),
        AuditEvent::Answered {
            id,
            custodian,
            pieces,
            key_sum,
        } => format!(
            "Custodian {custodian} sent the summed key of {id} for {} to the receivers, sealed ({}).",
            count(*pieces as usize, "piece", "pieces"),
            key_sum.short()
        ),
        AuditEvent::Opened {
            id,
            receivers,
            contributors,
        } => format!(
            "The sum of {id} over {} was opened to {}.",
            count(*contributors as usize, "contributor", "contributors"),
            names(receivers)
        ),
        AuditEvent::Read { id, receiver, result } => format!(
            "{receiver} read the sum of {id} and derived state {}.",
            result.short()
        ),
        AuditEvent::OpeningFailed { id, receiver, fault } => {
            format!("{receiver} could not read the sum of {id}: {}.", plain(fault))
        }
        AuditEvent::Published { id, sum, result } => format!(
            "{} was published: sum {} leads to state {}.",
            begin(id.to_string()),
            sum.short(),
            result.short()
        ),
        AuditEvent::Released { party, model } => format!(
            "{party} agreed that model {} goes to the coordinator in clear.",
            model.short()
        ),
        AuditEvent::Served { model } => format!("The coordinator serves model {}.", model.short()),
        AuditEvent::Closed { completed, reason } => {
            let how = if *completed { "completed" } else { "not completed" };
            format!("The study is over, {how}: {}.", plain(reason))
        }
        AuditEvent::Repeated {
            id,
            reason,
            members,
            next,
        } => {
            let begin = begin(id.to_string());
            let (reason, then) = (plain(reason), repeat_words(members, next));
            format!("{begin} ended without a result: {reason}; {then}.")
        }
        AuditEvent::Endorsed { id, endorsement } => format!(
            "Custodian {} agreed as well to open the sum of {id}.",
            endorsement.author
        ),
    }
}

/// What may be open of an attempt that ended without a result, and who is asked again.
pub fn repeat_words(members: &BTreeSet<PartyId>, next: &BTreeSet<PartyId>) -> String {
    let open = match members.is_empty() {
        true => "no set was proposed".to_owned(),
        false => format!("its sum over {} may be open", names(members)),
    };
    let next = match next.is_empty() {
        true => "nobody is asked again".to_owned(),
        false => format!("the round is collected again from {}", names(next)),
    };
    format!("{open}; {next}")
}

/// What a culprit did, in a few words.
pub fn culprit_words(culprit: Culprit) -> &'static str {
    match culprit {
        Culprit::BadSeeds => "its sealed seeds do not fit",
        Culprit::BadCiphertext => "its ciphertexts are no encryption of values in range",
        Culprit::BadFingerprint => "its fingerprint does not fit its ciphertexts",
        Culprit::WrongKeySum => "its key sum is wrong",
        Culprit::TwoSignatures => "it signed twice for one attempt",
        Culprit::RefusedAnswer => "it endorsed and did not answer",
        Culprit::Suspected => "it is left out: sums with it do not open",
    }
}

/// Text that somebody else wrote, as it may be shown: one line, no control or direction characters, of limited length, without a
/// stop at its end.
pub fn plain(text: &str) -> String {
    let unseen = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let clean: String = text
        .chars()
        .map(|c| if unseen(c) { ' ' } else { c })
        .take(MAX_TEXT)
        .collect();
    clean.trim().trim_end_matches('.').to_owned()
}

/// Names in a row.
pub fn names<'a>(names: impl IntoIterator<Item = &'a PartyId>) -> String {
    let names: Vec<&str> = names.into_iter().map(PartyId::as_str).collect();
    match names.split_last() {
        None => "nobody".into(),
        Some((only, [])) => (*only).to_owned(),
        Some((last, first)) => format!("{} and {last}", first.join(", ")),
    }
}

/// A number with the right form of what is counted.
pub fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

fn signers(statements: &[Authored]) -> String {
    names(statements.iter().map(|statement| &statement.author))
}

fn begin(sentence: String) -> String {
    let mut characters = sentence.chars();
    let first = characters.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(characters).collect()
}
