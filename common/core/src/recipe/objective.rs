//! What training minimises.

use serde::{Deserialize, Serialize};

/// The task that a network is trained for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// Classes: the cross-entropy in nats. One output is the logit of class 1; several are the logits of as many classes.
    #[default]
    Classification,
    /// Numbers: the mean squared error over outputs.
    Regression,
}

/// Learning from the outputs of a teacher (Baruch et al., arXiv 2111.03362).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distillation {
    /// T, by which the logits of both are divided; positive.
    #[serde(default = "default_temperature")]
    pub temperature: f64,
    /// alpha: the factor on `T^2 KL(softmax(t / T) || softmax(s / T))`, which is added to the loss. For regression the factor on
    /// the mean squared difference between the outputs of both.
    #[serde(default = "default_weight")]
    pub weight: f64,
}

fn default_temperature() -> f64 {
    10.0
}

fn default_weight() -> f64 {
    0.1
}

impl Default for Distillation {
    fn default() -> Self {
        Self {
            temperature: default_temperature(),
            weight: default_weight(),
        }
    }
}

/// How much a patient of each class counts in the cross-entropy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Weights", into = "Weights")]
pub enum ClassWeights {
    /// `"balanced"`: the number of all patients over the number of classes times the number of the class's patients, so that every class
    /// counts the same and a patient counts 1 on average. The patients are those that are learnt from; inside a study those of all
    /// hospitals together, as the statistics round counts them.
    Balanced,
    /// A factor for each class, in the order of the classes; positive.
    Given(Vec<f64>),
}

/// Class weights as they stand in files: a word, or a list of numbers.
#[derive(Clone, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "\"balanced\", or a list with a positive number for each class"
)]
enum Weights {
    Word(Balanced),
    List(Vec<f64>),
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Balanced {
    Balanced,
}

impl From<Weights> for ClassWeights {
    fn from(weights: Weights) -> Self {
        match weights {
            Weights::Word(Balanced::Balanced) => Self::Balanced,
            Weights::List(list) => Self::Given(list),
        }
    }
}

impl From<ClassWeights> for Weights {
    fn from(weights: ClassWeights) -> Self {
        match weights {
            ClassWeights::Balanced => Self::Word(Balanced::Balanced),
            ClassWeights::Given(list) => Self::List(list),
        }
    }
}

impl ClassWeights {
    /// The factor for each class, of which there are `counts` patients each. A class without patients gets 1: it weighs nothing.
    pub fn of(&self, counts: &[u64]) -> Vec<f64> {
        match self {
            Self::Given(list) => list.clone(),
            Self::Balanced => {
                let all: u64 = counts.iter().sum();
                let share = |&count: &u64| match count {
                    0 => 1.0,
                    count => all as f64 / (counts.len() as f64 * count as f64),
                };
                counts.iter().map(share).collect()
            }
        }
    }
}

/// How far outside its bound the input of an activation is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// The mean of max(0, |u| - bound) over all values.
    #[default]
    Mean,
    /// The overshoot of the largest and of the smallest value of the batch: max(0, max u - bound) + max(0, -bound - min u), the
    /// range-aware loss of Baruch et al. (arXiv 2304.14836).
    Largest,
}

/// A penalty on what enters the activations.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Penalty {
    /// Factor on the overshoot, summed over activations.
    pub weight: f64,
    /// Inputs up to this magnitude cost nothing.
    pub bound: f64,
    /// What is measured.
    #[serde(default)]
    pub reach: Reach,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct File {
        weights: ClassWeights,
    }

    #[test]
    fn class_weights_are_a_word_or_a_list() {
        let read = |text: &str| toml::from_str::<File>(text).map(|file| file.weights);
        assert_eq!(read("weights = \"balanced\""), Ok(ClassWeights::Balanced));
        let given = ClassWeights::Given(vec![1.0, 2.5]);
        assert_eq!(read("weights = [1.0, 2.5]"), Ok(given.clone()));
        for wrong in ["weights = \"even\"", "weights = 2.0"] {
            let said = read(wrong).unwrap_err().to_string();
            assert!(said.contains("\"balanced\", or a list"), "{said}");
        }
        for weights in [ClassWeights::Balanced, given] {
            let file = File { weights };
            assert_eq!(toml::from_str::<File>(&toml::to_string(&file).unwrap()), Ok(file));
        }
    }

    /// 6 patients of one class and 2 of the other: 8 / (2 * 6) and 8 / (2 * 2); the patients' mean weight is 1.
    #[test]
    fn balanced_weights_by_hand() {
        let weights = ClassWeights::Balanced.of(&[6, 2]);
        assert_eq!(weights, [8.0 / 12.0, 2.0]);
        assert_eq!(6.0 * weights[0] + 2.0 * weights[1], 8.0);
        assert_eq!(ClassWeights::Balanced.of(&[3, 0]), [0.5, 1.0]);
        assert_eq!(ClassWeights::Given(vec![2.0, 3.0]).of(&[1, 1]), [2.0, 3.0]);
    }
}
