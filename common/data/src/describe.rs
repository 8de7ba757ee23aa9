//! What a data set holds, in numbers.

use crate::{Dataset, Groups, Schema, Target, Targets};
use serde::{Deserialize, Serialize};

/// How many per class and site, how much is missing, and which values there are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// What every sample looks like.
    pub schema: Schema,
    /// Number of samples.
    pub samples: u64,
    /// Number of patients, if the files tell.
    pub patients: Option<u64>,
    /// Per class, its samples; empty for a regression.
    pub classes: Vec<ClassCount>,
    /// Targets of a regression.
    pub target: Option<ValueRange>,
    /// Per site, its samples; empty if the files do not tell.
    pub sites: Vec<SiteCount>,
    /// Per feature or channel, its values.
    pub elements: Vec<ElementRange>,
}

/// Samples of a class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassCount {
    /// Its name.
    pub name: String,
    /// Its samples.
    pub samples: u64,
}

/// Samples of a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteCount {
    /// Its name.
    pub name: String,
    /// Its samples.
    pub samples: u64,
    /// Its samples per class, in the order of the classes.
    pub classes: Vec<u64>,
}

/// Values of a feature or channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ElementRange {
    /// Its name, or its number.
    pub name: String,
    /// Missing values.
    pub missing: u64,
    /// The others, if there are any.
    pub range: Option<ValueRange>,
}

/// Extent of some numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValueRange {
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
    /// Mean.
    pub mean: f64,
    /// Standard deviation (divided by the count).
    pub std: f64,
}

impl ValueRange {
    /// Of numbers that can be visited twice; `None` if there are none.
    fn new(numbers: impl Iterator<Item = f64> + Clone) -> Option<Self> {
        let (mut count, mut sum) = (0u64, 0.0);
        let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
        for number in numbers.clone() {
            count += 1;
            sum += number;
            min = min.min(number);
            max = max.max(number);
        }
        let mean = sum / count as f64;
        let squares: f64 = numbers.map(|n| (n - mean).powi(2)).sum();
        let std = (squares / count as f64).sqrt();
        (count > 0).then_some(Self { min, max, mean, std })
    }
}

impl Dataset {
    /// Counts and ranges.
    pub fn describe(&self) -> Description {
        let names: Vec<String> = self
            .schema()
            .target
            .classes()
            .iter()
            .map(|c| c.name.clone())
            .collect();
        let count = |samples: &mut dyn Iterator<Item = u32>| {
            let mut counts = vec![0u64; names.len()];
            samples.for_each(|class| counts[class as usize] += 1);
            counts
        };
        let classes = self.classes().unwrap_or(&[]);
        let totals = count(&mut classes.iter().copied()).into_iter();
        let target = match self.targets() {
            Targets::Numbers(numbers) => ValueRange::new(numbers.iter().copied()),
            Targets::Classes(_) => None,
        };
        let site = |(number, name): (u32, &String)| {
            let of = self.sites().map_or(&[][..], Groups::of);
            let members = || (0..self.len()).filter(move |&i| of[i] == number);
            SiteCount {
                name: name.clone(),
                samples: members().count() as u64,
                classes: match self.classes() {
                    Some(classes) => count(&mut members().map(|i| classes[i])),
                    None => Vec::new(),
                },
            }
        };
        let shape = self.schema().input;
        let (each, area) = (shape.len(), shape.area());
        let element = |channel: usize| {
            let values = || {
                let samples = self.values().chunks_exact(each);
                samples.flat_map(move |sample| sample[channel * area..(channel + 1) * area].iter().copied())
            };
            ElementRange {
                name: self.schema().element(channel),
                missing: values().filter(|v| v.is_nan()).count() as u64,
                range: ValueRange::new(values().filter(|v| !v.is_nan()).map(f64::from)),
            }
        };
        Description {
            schema: self.schema().clone(),
            samples: self.len() as u64,
            patients: self.patients().map(|p| p.names().len() as u64),
            classes: names
                .iter()
                .cloned()
                .zip(totals)
                .map(|(name, samples)| ClassCount { name, samples })
                .collect(),
            target,
            sites: (0u32..)
                .zip(self.sites().map_or(&[][..], Groups::names))
                .map(site)
                .collect(),
            elements: (0..shape.channels()).map(element).collect(),
        }
    }
}

impl std::fmt::Display for Description {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} samples of shape {}", self.samples, self.schema.input)?;
        match self.patients {
            Some(patients) => writeln!(f, " of {patients} patients")?,
            None => writeln!(f)?,
        }
        if let (Target::Regression { name, unit }, Some(range)) = (&self.schema.target, &self.target) {
            let space = if unit.is_empty() { "" } else { " " };
            writeln!(
                f,
                "target {name}: {} to {}{space}{unit}, mean {:.4}, deviation {:.4}",
                range.min, range.max, range.mean, range.std
            )?;
        }
        let width =
            |names: &mut dyn Iterator<Item = &String>| names.map(|n| n.chars().count()).max().unwrap_or(0);
        let wide = width(&mut self.classes.iter().map(|c| &c.name));
        for class in &self.classes {
            let share = 100.0 * class.samples as f64 / self.samples as f64;
            writeln!(
                f,
                "class {:wide$}  {:>8}  {share:5.1}%",
                class.name, class.samples
            )?;
        }
        let wide = width(&mut self.sites.iter().map(|s| &s.name));
        for site in &self.sites {
            let classes: Vec<String> = site.classes.iter().map(u64::to_string).collect();
            let per_class = if classes.is_empty() {
                String::new()
            } else {
                format!("  per class {}", classes.join(", "))
            };
            writeln!(f, "site  {:wide$}  {:>8}{per_class}", site.name, site.samples)?;
        }
        let wide = width(&mut self.elements.iter().map(|e| &e.name));
        for element in &self.elements {
            write!(f, "value {:wide$}  ", element.name)?;
            match &element.range {
                Some(r) => write!(
                    f,
                    "{:.4} to {:.4}, mean {:.4}, deviation {:.4}",
                    r.min, r.max, r.mean, r.std
                )?,
                None => write!(f, "none")?,
            }
            match element.missing {
                0 => writeln!(f)?,
                missing => writeln!(f, ", {missing} missing")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Class, Source};
    use galen_models::Shape;

    fn described(target: Target, targets: Targets, sites: Option<Groups>) -> Description {
        let schema = Schema {
            input: Shape::Features(2),
            elements: vec!["age".into(), "chol".into()],
            target,
            source: Source::default(),
        };
        let values = vec![40.0, f32::NAN, 50.0, f32::NAN, 60.0, f32::NAN];
        let patients = Groups::new(["p", "q", "p"].map(String::from));
        Dataset::new(schema, values, targets, Some(patients), sites)
            .unwrap()
            .describe()
    }

    fn class(name: &str) -> Class {
        Class {
            name: name.into(),
            labels: Vec::new(),
        }
    }

    #[test]
    fn classes_are_counted_by_site() {
        let target = Target::Binary {
            negative: class("healthy"),
            positive: class("ill"),
        };
        let sites = Groups::new(["x", "y", "x"].map(String::from));
        let found = described(target, Targets::Classes(vec![0, 1, 1]), Some(sites));
        assert_eq!((found.samples, found.patients), (3, Some(2)));
        assert_eq!([found.classes[0].samples, found.classes[1].samples], [1, 2]);
        assert_eq!(
            (found.sites[0].samples, &found.sites[0].classes[..]),
            (2, &[1, 1][..])
        );
        assert_eq!(
            (found.sites[1].name.as_str(), &found.sites[1].classes[..]),
            ("y", &[0, 1][..])
        );
        assert_eq!((found.elements[1].missing, found.elements[1].range), (3, None));
        let age = found.elements[0].range.unwrap();
        assert_eq!((age.min, age.max, age.mean), (40.0, 60.0, 50.0));
        assert!((age.std - (200.0f64 / 3.0).sqrt()).abs() < 1e-12);
        let text = found.to_string();
        for line in [
            "3 samples of shape 2 of 2 patients",
            "class healthy         1   33.3%",
            "site  x         2  per class 1, 1",
            "value age   40.0000 to 60.0000, mean 50.0000, deviation 8.1650",
            "value chol  none, 3 missing",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn targets_of_a_regression_have_a_range() {
        let target = Target::Regression {
            name: "score".into(),
            unit: "points".into(),
        };
        let found = described(target, Targets::Numbers(vec![1.0, 2.0, 3.0]), None);
        assert!(found.classes.is_empty() && found.sites.is_empty());
        assert_eq!(
            found.target.map(|t| (t.min, t.max, t.mean)),
            Some((1.0, 3.0, 2.0))
        );
        assert!(
            found
                .to_string()
                .contains("target score: 1 to 3 points, mean 2.0000, deviation 0.8165")
        );
    }
}
