//! What was opened to whom, when and over how many contributors.

use super::chain::AuditHead;
use super::check::Finding;
use super::event::Culprit;
use super::words::{count, culprit_words, names, plain, repeat_words};
use crate::record::RoundId;
use galen_core::clock::utc;
use galen_core::study::Purpose;
use galen_core::{Digest, PartyId, StudyDigest};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// An account of a whole log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The study.
    pub study: StudyDigest,
    /// Where the log ends.
    pub head: AuditHead,
    /// Time of the first line, in milliseconds since the Unix epoch.
    pub from_ms: Option<u64>,
    /// Latest time of a line.
    pub until_ms: Option<u64>,
    /// Every opened sum.
    pub openings: Vec<Opening>,
    /// Members that were named as at fault.
    pub accusations: Vec<Accusation>,
    /// Statements that were refused.
    pub rejections: Vec<Rejection>,
    /// Attempts that ended without a result, with sums that may be open.
    pub repeats: Vec<Repeat>,
    /// Models that were served.
    pub served: Vec<Digest>,
    /// How the study ended, if it did.
    pub closed: Option<Closing>,
    /// Odd, but no breach.
    pub warnings: Vec<Warning>,
    /// Lines that the study's rules forbid.
    pub findings: Vec<Finding>,
}

/// A sum that was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Opening {
    /// Number of the line that says so.
    pub line: u64,
    /// When.
    pub time_ms: u64,
    /// Round and attempt.
    #[serde(flatten)]
    pub id: RoundId,
    /// What the sum is for.
    pub purpose: Option<Purpose>,
    /// Whose values it adds up.
    pub contributors: Vec<PartyId>,
    /// Who can read it.
    pub receivers: Vec<PartyId>,
    /// The custodians that agreed.
    pub custodians: Vec<PartyId>,
    /// Receivers that said they have read it.
    pub readers: BTreeSet<PartyId>,
    /// Receivers that could not read it, with what they said.
    pub failures: BTreeMap<PartyId, String>,
    /// When its result was published.
    pub published_ms: Option<u64>,
}

/// A member that was named as at fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Accusation {
    /// Number of the line.
    pub line: u64,
    /// Round and attempt.
    #[serde(flatten)]
    pub id: RoundId,
    /// Who.
    pub party: PartyId,
    /// Of what.
    pub culprit: Culprit,
    /// In words.
    pub text: String,
}

/// A statement that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rejection {
    /// Number of the line.
    pub line: u64,
    /// Whose.
    pub party: PartyId,
    /// What it stated.
    pub what: String,
    /// Number of the code.
    pub code: u16,
    /// Why.
    pub text: String,
}

/// An attempt that ended without a result, whose sum may be open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Repeat {
    /// Number of the line.
    pub line: u64,
    /// Round and attempt.
    #[serde(flatten)]
    pub id: RoundId,
    /// Why.
    pub reason: String,
    /// The contributors whose sum may be open.
    pub members: BTreeSet<PartyId>,
    /// Who was asked in the next attempt.
    pub next: BTreeSet<PartyId>,
}

/// The end of a study.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Closing {
    /// Whether all its steps were done.
    pub completed: bool,
    /// Why it ended.
    pub reason: String,
}

/// Something odd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// Number of the line.
    pub line: u64,
    /// What.
    pub text: String,
}

impl Report {
    pub(super) fn new(study: StudyDigest) -> Self {
        Self {
            study,
            head: AuditHead::default(),
            from_ms: None,
            until_ms: None,
            openings: Vec::new(),
            accusations: Vec::new(),
            rejections: Vec::new(),
            repeats: Vec::new(),
            served: Vec::new(),
            closed: None,
            warnings: Vec::new(),
            findings: Vec::new(),
        }
    }

    /// Notes the time of a line. The coordinator's clock may be set back; that breaks no rule.
    pub(super) fn time(&mut self, line: u64, time_ms: u64) {
        self.from_ms.get_or_insert(time_ms);
        match self.until_ms {
            Some(until) if time_ms < until => self.warnings.push(Warning {
                line,
                text: format!("it is dated {}, before the line before it", utc(time_ms)),
            }),
            _ => self.until_ms = Some(time_ms),
        }
    }

    pub(super) fn opening(&mut self, id: RoundId) -> Option<&mut Opening> {
        self.openings.iter_mut().rev().find(|opening| opening.id == id)
    }

    /// Whether every line could have happened under the study's rules.
    pub fn is_consistent(&self) -> bool {
        self.findings.is_empty()
    }

    /// The account in plain English.
    pub fn text(&self) -> String {
        // Writing to a string cannot fail.
        let mut out = format!(
            "Audit log of study {}\n{}, {}\nhead {}\n\n",
            self.study.short(),
            count(self.head.lines as usize, "line", "lines"),
            match (self.from_ms, self.until_ms) {
                (Some(from), Some(until)) => format!("from {} to {}", utc(from), utc(until)),
                _ => "nothing has happened yet".into(),
            },
            self.head.digest.spoken()
        );
        if self.openings.is_empty() {
            out.push_str("No sum was opened.\n");
        } else {
            let _ = writeln!(
                out,
                "{}:",
                count(self.openings.len(), "sum was opened", "sums were opened")
            );
        }
        for opening in &self.openings {
            let _ = writeln!(out, "  {}", opening.text());
        }
        let mut section = |title: &str, lines: Vec<String>| {
            if !lines.is_empty() {
                let _ = writeln!(out, "\n{title}:\n  {}", lines.join("\n  "));
            }
        };
        let accused = |a: &Accusation| {
            format!(
                "line {}: {} in {}, {}: {}",
                a.line,
                a.party,
                a.id,
                culprit_words(a.culprit),
                plain(&a.text)
            )
        };
        section(
            "Named as at fault",
            self.accusations.iter().map(accused).collect(),
        );
        let refused = |r: &Rejection| {
            format!(
                "line {}: a {} of {}, G{}: {}",
                r.line,
                plain(&r.what),
                r.party,
                r.code,
                plain(&r.text)
            )
        };
        section("Refused", self.rejections.iter().map(refused).collect());
        let repeated = |r: &Repeat| {
            let then = repeat_words(&r.members, &r.next);
            format!("line {}: {}, because {}; {then}", r.line, r.id, plain(&r.reason))
        };
        section(
            "Ended without a result",
            self.repeats.iter().map(repeated).collect(),
        );
        let served = self.served.iter().map(|model| model.to_hex()).collect();
        section("Served by the coordinator, in clear", served);
        let warnings = self
            .warnings
            .iter()
            .map(|w| format!("line {}: {}", w.line, w.text));
        section("Odd, but no breach", warnings.collect());
        let findings = self
            .findings
            .iter()
            .map(|f| format!("line {}: {}", f.line, f.text));
        section("AGAINST THE RULES OF THE STUDY", findings.collect());
        if let Some(Closing { completed, reason }) = &self.closed {
            let how = if *completed { "completed" } else { "NOT completed" };
            let _ = write!(out, "\nThe study is over, {how}: {}.", plain(reason));
        }
        out.trim_end().to_owned()
    }
}

impl Opening {
    /// The opening in one sentence.
    pub fn text(&self) -> String {
        let purpose = self.purpose.map_or("unknown purpose", Purpose::name);
        let mut text = format!(
            "{} ({purpose}): on {} the sum over {} ({}) was opened to {}; custodians {} agreed; ",
            self.id,
            utc(self.time_ms),
            count(self.contributors.len(), "contributor", "contributors"),
            names(&self.contributors),
            names(&self.receivers),
            names(&self.custodians),
        );
        let read = match self.readers.len() {
            0 => "nobody has said that it read it".to_owned(),
            _ => format!("read by {}", names(&self.readers)),
        };
        text.push_str(&read);
        for (receiver, fault) in &self.failures {
            let _ = write!(text, "; {receiver} could not read it ({})", plain(fault));
        }
        text.push_str(match self.published_ms {
            Some(_) => "; its result was published.",
            None => "; no result was published.",
        });
        text
    }
}
