//! The table of results: identifiers, labels, probabilities and scores.

use super::report::{decimals, rounded};
use galen_exact::Outcome;
use galen_models::Subject;
use galen_models::metrics::sigmoid;

/// A table of results.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Table {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// A row for each patient.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// Of what is revealed of patients with these names. Scores and probabilities are rounded to what `bits` bits of a score are worth.
    pub fn new(subject: &Subject, names: &[String], outcomes: &[Outcome], bits: u32) -> Self {
        let places = decimals(bits);
        let number = |value: f64| format!("{:.*}", places as usize, rounded(value, places) + 0.0);
        let class = |class: usize| subject.classes.get(class).cloned().unwrap_or(class.to_string());
        let kind = Kind::of(subject, outcomes.first());
        let rows = names.iter().zip(outcomes).map(|(name, outcome)| {
            let mut row = vec![name.clone()];
            let outputs = match outcome {
                Outcome::Label(label) => {
                    row.push(class(*label));
                    return row;
                }
                Outcome::Decision(reached) => {
                    row.push(if *reached { "yes" } else { "no" }.to_owned());
                    return row;
                }
                Outcome::Scores(outputs) => outputs,
            };
            match &kind {
                Kind::Binary(classes) => {
                    let logit = outputs.first().copied().unwrap_or(0.0);
                    let label = &classes[usize::from(logit > 0.0)];
                    row.extend([label.clone(), number(sigmoid(logit)), number(logit)]);
                }
                Kind::Classes(classes) => {
                    let label = best(outputs).and_then(|best| classes.get(best));
                    row.push(label.cloned().unwrap_or_default());
                    row.extend(softmax(outputs).into_iter().map(number));
                    row.extend(outputs.iter().map(|&v| number(v)));
                }
                _ => row.extend(outputs.iter().map(|&v| number(v))),
            }
            row
        });
        Self {
            rows: rows.collect(),
            columns: kind.columns(),
        }
    }

    /// As CSV.
    pub fn to_csv(&self) -> Result<Vec<u8>, csv::Error> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(&self.columns)?;
        for row in &self.rows {
            writer.write_record(row)?;
        }
        writer.into_inner().map_err(|error| error.into_error().into())
    }
}

/// What outputs mean.
enum Kind {
    /// A number, or several.
    Number,
    /// The logit of the second of two classes.
    Binary([String; 2]),
    /// A score for each class.
    Classes(Vec<String>),
    /// Only the most likely class.
    Label,
    /// Only whether the operator's threshold is reached.
    Decision,
}

impl Kind {
    fn of(subject: &Subject, outcome: Option<&Outcome>) -> Self {
        let outputs = match outcome {
            Some(Outcome::Label(_)) => return Self::Label,
            Some(Outcome::Decision(_)) => return Self::Decision,
            Some(Outcome::Scores(outputs)) => outputs.len(),
            None => 0,
        };
        match (subject.classes.as_slice(), outputs) {
            ([negative, positive], 1) => Self::Binary([negative.clone(), positive.clone()]),
            (_, 1) => Self::Number,
            (classes, n) if classes.len() == n => Self::Classes(classes.to_vec()),
            (_, n) => Self::Classes((0..n).map(|class| class.to_string()).collect()),
        }
    }

    fn columns(&self) -> Vec<String> {
        let fixed = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        match self {
            Self::Number => fixed(&["patient", "output"]),
            Self::Label => fixed(&["patient", "label"]),
            Self::Decision => fixed(&["patient", "decision"]),
            Self::Binary(_) => fixed(&["patient", "label", "probability", "score"]),
            Self::Classes(classes) => {
                let mut columns = fixed(&["patient", "label"]);
                columns.extend(classes.iter().map(|class| format!("probability {class}")));
                columns.extend(classes.iter().map(|class| format!("score {class}")));
                columns
            }
        }
    }
}

/// The place of the largest output.
fn best(outputs: &[f64]) -> Option<usize> {
    let places = outputs.iter().enumerate();
    // The first of equal ones, as training counts them.
    let (best, _) = places.rev().max_by(|a, b| a.1.total_cmp(b.1))?;
    Some(best)
}

fn softmax(outputs: &[f64]) -> Vec<f64> {
    let largest = outputs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = outputs.iter().map(|v| (v - largest).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|w| w / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use galen_core::Digest;
    use galen_models::Shape;

    fn subject(classes: &[&str]) -> Subject {
        Subject {
            model: Digest::default(),
            title: String::new(),
            classes: classes.iter().map(|&c| c.to_owned()).collect(),
            input: Shape::Features(2),
            standardisation: None,
        }
    }

    fn csv(classes: &[&str], outputs: &[Vec<f64>]) -> String {
        let outcomes: Vec<Outcome> = outputs.iter().cloned().map(Outcome::Scores).collect();
        written(classes, &outcomes)
    }

    fn written(classes: &[&str], outcomes: &[Outcome]) -> String {
        let names: Vec<String> = (0..outcomes.len()).map(|i| format!("p,{i}")).collect();
        let table = Table::new(&subject(classes), &names, outcomes, 8);
        String::from_utf8(table.to_csv().unwrap()).unwrap()
    }

    #[test]
    fn less_than_scores_is_shown_as_it_is() {
        let labels = [Outcome::Label(1), Outcome::Label(0)];
        assert_eq!(
            written(&["well", "ill"], &labels),
            "patient,label\n\"p,0\",ill\n\"p,1\",well\n"
        );
        assert_eq!(written(&[], &labels[..1]), "patient,label\n\"p,0\",1\n");
        let decisions = [Outcome::Decision(true), Outcome::Decision(false)];
        assert_eq!(
            written(&["well", "ill"], &decisions),
            "patient,decision\n\"p,0\",yes\n\"p,1\",no\n"
        );
    }

    #[test]
    fn outputs_become_what_they_mean() {
        assert_eq!(
            csv(&["well", "ill"], &[vec![-0.00390625], vec![2.0]]),
            "patient,label,probability,score\n\"p,0\",well,0.499,-0.004\n\"p,1\",ill,0.881,2.000\n"
        );
        assert_eq!(csv(&[], &[vec![3.25]]), "patient,output\n\"p,0\",3.250\n");
        assert_eq!(
            csv(&["a", "b"], &[vec![1.0, 1.0]]),
            "patient,label,probability a,probability b,score a,score b\n\"p,0\",a,0.500,0.500,1.000,1.000\n"
        );
        let table = csv(&[], &[vec![0.0, 900.0, -900.0]]);
        assert!(
            table.ends_with("1,0.000,1.000,0.000,0.000,900.000,-900.000\n"),
            "{table}"
        );
        // A small negative number is no negative zero.
        assert!(csv(&[], &[vec![-0.0001]]).ends_with(",0.000\n"));
    }
}
