//! What must hold for a study to make sense.

use super::data::{Column, ColumnKind};
use super::plan::{Release, Role, Study};
use crate::network::Shape;
use crate::samples::{self, Schema};
use std::collections::BTreeSet;
use std::fmt;

/// Something in a study that cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The field, as a path such as `sums.threshold`.
    pub field: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// Most pieces into which a key is cut: C(n, t-1) above this makes contributions and custodians slow.
const MAX_PIECES: u64 = 512;
/// Most members: what is known of each stands in every record of a round.
const MAX_PARTIES: usize = 256;
/// Most custodians: the header of a contribution holds the seeds for each of them, and must fit into one stored record.
const MAX_CUSTODIANS: u32 = 128;
/// Most training rounds: every view lists the rounds that are published.
pub(super) const MAX_ROUNDS: u32 = 1000;

pub(super) struct Checker(Vec<Problem>);

impl Checker {
    pub(super) fn require(&mut self, holds: bool, field: &str, message: impl FnOnce() -> String) {
        if !holds {
            self.0.push(Problem {
                field: field.to_owned(),
                message: message(),
            });
        }
    }

    pub(super) fn range<T: PartialOrd + fmt::Display + Copy>(
        &mut self,
        field: &str,
        value: T,
        low: T,
        high: T,
    ) {
        self.require(low <= value && value <= high, field, || {
            format!("is {value}, must be between {low} and {high}")
        });
    }
}

impl Study {
    /// Everything that is wrong with the study; empty if it can be frozen (given the cards and a feasible plan for the sums).
    pub fn check(&self) -> Vec<Problem> {
        let mut c = Checker(Vec::new());
        c.require(self.format == 1, "format", || {
            format!("is {}, this version reads 1", self.format)
        });
        self.check_members(&mut c);
        self.check_sums(&mut c);
        self.check_data(&mut c);
        self.check_model(&mut c);
        self.check_training(&mut c);
        c.range("evaluation.bins", self.evaluation.bins, 2, 4096);
        c.range("serving.precision_bits", self.serving.precision_bits, 4, 24);
        let queriers = self.with_role(Role::Querier).len();
        c.require(self.serving.release == Release::Coordinator || queriers == 0, "serving.release", || {
            "is \"contributors\", but the study has queriers: encrypted queries need a model at the coordinator".into()
        });
        c.0
    }

    fn check_members(&self, c: &mut Checker) {
        c.range("party", self.party.len(), 3, MAX_PARTIES);
        let mut names = BTreeSet::new();
        for (i, member) in self.party.iter().enumerate() {
            let field = format!("party[{i}].name");
            c.require(names.insert(&member.name), &field, || {
                format!("\"{}\" stands twice", member.name)
            });
            c.require(member.name.as_str() != "coordinator", &field, || {
                "\"coordinator\" is taken".into()
            });
            c.require(!member.roles.is_empty(), &format!("party[{i}].roles"), || {
                "is empty".into()
            });
            let alone = member.roles.contains(&Role::Querier) && !member.roles.contains(&Role::Contributor);
            c.require(!alone, &format!("party[{i}].roles"), || {
                "a querier must also be a contributor: preparing patients takes the statistics that only contributors read"
                    .into()
            });
            let distinct: BTreeSet<_> = member.roles.iter().collect();
            c.require(
                distinct.len() == member.roles.len(),
                &format!("party[{i}].roles"),
                || "repeats a role".into(),
            );
        }
    }

    fn check_sums(&self, c: &mut Checker) {
        let custodians = self.with_role(Role::Custodian).len() as u32;
        let contributors = self.with_role(Role::Contributor).len() as u32;
        let s = &self.sums;
        c.require((3..=MAX_CUSTODIANS).contains(&custodians), "party", || {
            format!("{custodians} custodians, must be between 3 and {MAX_CUSTODIANS}")
        });
        c.require(contributors >= 3, "party", || {
            format!("{contributors} contributors, at least 3 are needed")
        });
        c.require(
            2 <= s.threshold && s.threshold <= custodians,
            "sums.threshold",
            || {
                format!(
                    "is {}, must be between 2 and the number of custodians ({custodians})",
                    s.threshold
                )
            },
        );
        c.require(
            s.threshold <= s.agreement && s.agreement <= custodians,
            "sums.agreement",
            || {
                format!(
                    "is {}, must be between threshold ({}) and the number of custodians ({custodians})",
                    s.agreement, s.threshold
                )
            },
        );
        c.require(3 <= s.min_contributors, "sums.min_contributors", || {
            format!(
                "is {}, must be at least 3: of two parties each always knows the other's value",
                s.min_contributors
            )
        });
        c.require(s.min_contributors <= s.quorum && s.quorum <= contributors, "sums.quorum", || {
            format!("is {}, must be between min_contributors ({}) and the number of contributors ({contributors})", s.quorum, s.min_contributors)
        });
        let pieces = binomial(custodians.into(), s.threshold.saturating_sub(1).into());
        c.require(pieces <= MAX_PIECES, "sums.threshold", || {
            format!("{} of {custodians} custodians would cut keys into {pieces} pieces, at most {MAX_PIECES} are allowed", s.threshold)
        });
        c.range("sums.patience_s", s.patience_s, 1, 86_400);
        c.range("sums.give_up_s", s.give_up_s, s.patience_s, 30 * 86_400);
        c.range("sums.max_attempts", s.max_attempts, 1, 100);
    }

    fn check_data(&self, c: &mut Checker) {
        let d = &self.data;
        c.range("data.max_rows", d.max_rows, 10, 1 << 20);
        c.range("data.held_out", d.held_out, 0.05, 0.5);
        match &d.samples {
            Some(samples) => check_samples(c, samples, d.value_range()),
            None => self.check_table(c),
        }
    }

    fn check_table(&self, c: &mut Checker) {
        let d = &self.data;
        let mut names = BTreeSet::new();
        for (i, column) in d.column.iter().enumerate() {
            let field = format!("data.column[{i}]");
            c.require(names.insert(&column.name), &format!("{field}.name"), || {
                format!("\"{}\" stands twice", column.name)
            });
            check_column(c, &format!("{field} (\"{}\")", column.name), column);
        }
        let targets = d
            .column
            .iter()
            .filter(|column| column.kind == ColumnKind::Target)
            .count();
        c.require(targets == 1, "data.column", || {
            format!("{targets} columns of kind \"target\", exactly one is needed")
        });
        c.require(d.features().count() > 0, "data.column", || {
            "no column is a feature".into()
        });
        c.range("data.column", d.inputs(), 1, 4096);
        let t = &d.target;
        c.require(!t.negative.is_empty(), "data.target.negative", || {
            "is empty".into()
        });
        c.require(!t.positive.is_empty(), "data.target.positive", || {
            "is empty".into()
        });
        c.require(
            t.negative.iter().all(|v| !t.positive.contains(v)),
            "data.target",
            || "a value is in both classes".into(),
        );
    }
}

/// What a study asks of images beyond what their schema by itself must fulfil.
fn check_samples(c: &mut Checker, samples: &Schema, [min, max]: [f32; 2]) {
    if let Err(error) = samples.check() {
        c.require(false, "data.samples", || error.to_string());
    }
    c.require(matches!(samples.input, Shape::Image(_)), "data.samples.input", || {
        "is a number of features, but samples are images, [channels, height, width], or signals, [channels, 1, length]: a table is \
         described by [[data.column]], whose values are standardised over all hospitals"
            .into()
    });
    c.require(
        matches!(samples.target, samples::Target::Binary { .. }),
        "data.samples.target",
        || {
            "must be { binary = { negative = .., positive = .. } }: a study tells two classes apart; each may have several labels, so that \
             one class can be told from all others"
                .into()
        },
    );
    c.require(
        min.is_finite() && max.is_finite() && min < max,
        "data.range",
        || format!("is [{min}, {max}], must be finite numbers, the smaller one first"),
    );
}

fn check_column(c: &mut Checker, field: &str, column: &Column) {
    match column.kind {
        ColumnKind::Numeric => {
            let range = column
                .min
                .zip(column.max)
                .is_some_and(|(a, b)| a.is_finite() && b.is_finite() && a < b);
            c.require(range, field, || "a numeric column needs min < max".into());
            c.require(column.values.is_empty(), field, || {
                "a numeric column has no values".into()
            });
        }
        ColumnKind::Categorical => {
            c.require(column.values.len() >= 2, field, || {
                "a categorical column needs at least two values".into()
            });
            let bad = column
                .values
                .iter()
                .enumerate()
                .any(|(i, v)| !v.is_finite() || column.values[..i].contains(v));
            c.require(!bad, field, || "a value stands twice or is not finite".into());
            c.require(column.min.is_none() && column.max.is_none(), field, || {
                "a categorical column has no min or max".into()
            });
        }
        ColumnKind::Ignored | ColumnKind::Target => {
            let bare = column.values.is_empty()
                && column.min.is_none()
                && column.max.is_none()
                && column.missing_values.is_empty();
            c.require(bare, field, || {
                "only feature columns have min, max, values or missing_values".into()
            });
        }
    }
}

/// C(n, k), saturating.
fn binomial(n: u64, k: u64) -> u64 {
    (0..k.min(n)).fold(1u64, |acc, i| acc.saturating_mul(n - i) / (i + 1))
}
