//! Recipes that cannot be followed.

use super::{Activations, AugmentError, ClassWeights, Group, Objective, Recipe, Schedule, Stage};

/// Largest number of epochs of a stage.
const MAX_EPOCHS: u32 = 100_000;

/// A recipe with an impossible setting.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// A setting outside its range.
    #[error("{place} has {setting} = {value}: {possible}")]
    Setting {
        /// The stage, or the recipe itself.
        place: String,
        /// The setting.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What it could be.
        possible: &'static str,
    },
    /// A stage that ends before its transition does.
    #[error(
        "stage \"{stage}\" has epochs = {epochs}: the transition of {activations} activations takes {needed}"
    )]
    Transition {
        /// The stage.
        stage: String,
        /// Its epochs.
        epochs: u32,
        /// Activations of the network.
        activations: usize,
        /// Epochs that the transition takes.
        needed: u32,
    },
    /// An augmentation that is impossible, or impossible for the network.
    #[error(transparent)]
    Augmentation(#[from] AugmentError),
}

impl Recipe {
    /// Checks every setting; errors name the first one that is impossible.
    pub fn check(&self) -> Result<(), RecipeError> {
        let recipe = Checker { place: "the recipe" };
        recipe.that(
            self.batch_size >= 1,
            "batch_size",
            self.batch_size,
            "at least 1 is needed",
        )?;
        recipe.that(!self.stages.is_empty(), "stages", 0, "at least one is needed")?;
        if let Some(augmentation) = &self.augmentation {
            augmentation.check()?;
        }
        if let Some(weights) = &self.class_weights {
            recipe.that(
                self.objective == Objective::Classification,
                "class_weights",
                "on",
                "numbers have no classes; leave it out, or set objective = \"classification\"",
            )?;
            if let ClassWeights::Given(list) = weights {
                let possible = list.len() >= 2 && list.iter().all(|w| w.is_finite() && *w > 0.0);
                recipe.that(
                    possible,
                    "class_weights",
                    format!("{list:?}"),
                    "a positive number for each of at least two classes is needed",
                )?;
            }
        }
        let mut taught = false;
        for stage in &self.stages {
            let place = format!("stage \"{}\"", stage.name);
            Checker { place: &place }.stage(stage, taught)?;
            taught |= stage.becomes_teacher;
        }
        Ok(())
    }

    /// Checks every setting for a network with so many activations.
    ///
    /// # Errors
    /// As [`Recipe::check`], and for a stage that ends before its transition does.
    pub fn check_for(&self, activations: usize) -> Result<(), RecipeError> {
        self.check()?;
        for stage in &self.stages {
            let Activations::Transition(transition) = stage.activations else {
                continue;
            };
            let needed = transition.length(activations);
            if stage.epochs < needed {
                return Err(RecipeError::Transition {
                    stage: stage.name.clone(),
                    epochs: stage.epochs,
                    activations,
                    needed,
                });
            }
        }
        Ok(())
    }
}

struct Checker<'a> {
    place: &'a str,
}

impl Checker<'_> {
    fn that(
        &self,
        holds: bool,
        setting: &'static str,
        value: impl ToString,
        possible: &'static str,
    ) -> Result<(), RecipeError> {
        if holds {
            return Ok(());
        }
        Err(RecipeError::Setting {
            place: self.place.to_owned(),
            setting,
            value: value.to_string(),
            possible,
        })
    }

    fn positive(&self, value: f64, setting: &'static str) -> Result<(), RecipeError> {
        self.that(
            value.is_finite() && value > 0.0,
            setting,
            value,
            "it must be positive and finite",
        )
    }

    fn not_negative(&self, value: f64, setting: &'static str) -> Result<(), RecipeError> {
        self.that(
            value.is_finite() && value >= 0.0,
            setting,
            value,
            "it must be 0 or more, and finite",
        )
    }

    fn group(&self, group: &Group) -> Result<(), RecipeError> {
        self.positive(group.learning_rate, "learning_rate")?;
        self.not_negative(group.weight_decay, "weight_decay")?;
        let momentum = (0.0..1.0).contains(&group.momentum);
        self.that(momentum, "momentum", group.momentum, "it must be 0 to below 1")
    }

    fn stage(&self, stage: &Stage, taught: bool) -> Result<(), RecipeError> {
        let epochs = (1..=MAX_EPOCHS).contains(&stage.epochs);
        self.that(epochs, "epochs", stage.epochs, "it must be 1 to 100000")?;
        self.group(&stage.weights)?;
        self.group(&stage.coefficients)?;
        self.not_negative(stage.warm_up, "warm_up")?;
        self.that(
            stage.warm_up <= f64::from(stage.epochs),
            "warm_up",
            stage.warm_up,
            "it must be at most the stage's epochs",
        )?;
        match stage.schedule {
            Schedule::Constant => {}
            Schedule::Cosine { floor } => {
                self.that((0.0..=1.0).contains(&floor), "floor", floor, "it must be 0 to 1")?;
            }
            Schedule::Plateau { factor, floor, .. } => {
                let below_one = factor > 0.0 && factor < 1.0;
                self.that(below_one, "factor", factor, "it must be between 0 and 1")?;
                self.that((0.0..=1.0).contains(&floor), "floor", floor, "it must be 0 to 1")?;
            }
        }
        if let Some(clip) = stage.clip {
            self.positive(clip, "clip")?;
        }
        if let Some(penalty) = stage.penalty {
            self.not_negative(penalty.weight, "penalty.weight")?;
            self.not_negative(penalty.bound, "penalty.bound")?;
        }
        if let Some(distillation) = stage.distillation {
            self.positive(distillation.temperature, "distillation.temperature")?;
            self.not_negative(distillation.weight, "distillation.weight")?;
            self.that(
                taught,
                "distillation",
                "on",
                "an earlier stage with becomes_teacher = true is needed",
            )?;
        }
        if let Some(least) = stage.least_leading {
            self.positive(least, "least_leading")?;
        }
        if let Some(decay) = stage.averaging {
            let between = decay > 0.0 && decay < 1.0;
            self.that(between, "averaging", decay, "it must be between 0 and 1")?;
        }
        if let Activations::Transition(transition) = stage.activations {
            let change = transition.epochs_per_change;
            self.that(change >= 1, "epochs_per_change", change, "at least 1 is needed")?;
        }
        Ok(())
    }
}
