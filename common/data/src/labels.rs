//! From labels as files write them to classes.

use galen_core::samples::{Target, canonical};

/// From a label as a file writes it to the class.
#[derive(Debug)]
pub(crate) struct Labels(std::collections::HashMap<String, u32>);

impl Labels {
    /// The labels of a target; explicit ones win over names, names over numbers.
    pub(crate) fn new(target: &Target) -> Self {
        let classes = target.classes();
        let mut known = std::collections::HashMap::new();
        for (number, class) in (0u32..).zip(&classes) {
            class.labels.iter().for_each(|label| {
                known.insert(canonical(label), number);
            });
        }
        for (number, class) in (0u32..).zip(&classes).filter(|(_, c)| c.labels.is_empty()) {
            known.entry(canonical(&class.name)).or_insert(number);
        }
        if let Target::Classes { .. } = target {
            for (number, _) in (0u32..).zip(&classes).filter(|(_, c)| c.labels.is_empty()) {
                known.entry(canonical(&number.to_string())).or_insert(number);
            }
        }
        Self(known)
    }

    /// The labels, for messages; not more than fit on a line.
    pub(crate) fn list(&self) -> String {
        let mut known: Vec<(&u32, &String)> = self.0.iter().map(|(label, class)| (class, label)).collect();
        known.sort();
        let more = if known.len() > 20 { ", ..." } else { "" };
        let first: Vec<&str> = known.iter().take(20).map(|(_, label)| label.as_str()).collect();
        format!("{}{more}", first.join(", "))
    }

    /// The class of a label.
    pub(crate) fn class(&self, label: &str) -> Option<u32> {
        self.0.get(&canonical(label)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use galen_core::samples::Class;

    fn class(name: &str, labels: &[&str]) -> Class {
        Class {
            name: name.into(),
            labels: labels.iter().map(|&l| l.into()).collect(),
        }
    }

    #[test]
    fn labels_are_explicit_then_names_then_numbers() {
        let target = Target::Classes {
            classes: vec![class("N", &[]), class("S", &["7", "x"]), class("0", &[])],
        };
        let labels = Labels::new(&target);
        for (label, expected) in [
            ("N", Some(0)),
            ("7.0", Some(1)),
            (" x ", Some(1)),
            ("S", None),
            ("0", Some(2)),
            ("2", Some(2)),
            ("1", None),
        ] {
            assert_eq!(labels.class(label), expected, "{label}");
        }
    }
}
