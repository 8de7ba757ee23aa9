//! What must hold for the network and the training of a study to make sense, as far as the file alone tells. Whether the layers fit the data
//! and each other is found by `galen_models`, which builds them.

use super::check::{Checker, MAX_ROUNDS};
use super::plan::{Release, Study};
use super::training::{Server, TrainingPlan};
use crate::recipe::{Activations, ClassWeights, Objective, Recipe, Schedule, Stage};

impl Study {
    pub(super) fn check_model(&self, c: &mut Checker) {
        let m = &self.model;
        if m.layers.is_empty() {
            if self.data.samples.is_some() {
                c.require(false, "model.layers", || {
                    "is missing: residual blocks (model.hidden) take the columns of a table; give the layers of a network for images, and \
                     [training.recipe] to train it"
                        .into()
                });
                return;
            }
            c.range("model.hidden", m.hidden.len(), 1, 4);
            c.require(
                m.hidden.iter().all(|w| (1..=1024).contains(w)),
                "model.hidden",
                || "widths must be 1 to 1024".into(),
            );
            c.range("model.power", m.power, 2, 2);
            c.range("model.scale", m.scale, 1e-3, 10.0);
            return;
        }
        let beside = [
            ("model.hidden", !m.hidden.is_empty()),
            ("model.power", m.power != 0),
            ("model.scale", m.scale != 0.0),
        ];
        for (field, given) in beside {
            c.require(!given, field, || {
                "stands beside model.layers; a study has the one or the other".into()
            });
        }
        c.require(self.training.recipe.is_some(), "model.layers", || {
            "is trained by a recipe only: add [training.recipe], or give model.hidden, power and scale instead".into()
        });
    }

    pub(super) fn check_training(&self, c: &mut Checker) {
        let t = &self.training;
        c.range("training.local_epochs", t.local_epochs, 1, 1000);
        c.range("training.clip", t.clip, 1e-3, 1e4);
        c.range("training.fraction_bits", t.fraction_bits, 8, 30);
        c.range("training.proximal", t.proximal, 0.0, 100.0);
        check_server(c, &t.server);
        c.require(
            t.private.is_empty() || self.serving.release == Release::Contributors,
            "training.private",
            || {
                "keeps parameters at the hospitals, so there is no whole model that the coordinator could serve: set serving.release = \
                 \"contributors\" and give nobody the role of querier, or share all parameters"
                    .into()
            },
        );
        for (i, name) in t.private.iter().enumerate() {
            c.require(
                !t.private[..i].contains(name),
                &format!("training.private[{i}]"),
                || format!("\"{name}\" stands twice"),
            );
        }
        match &t.recipe {
            None => check_descent(c, t),
            Some(recipe) => {
                for (field, given) in replaced(t) {
                    c.require(!given, field, || {
                        "stands beside training.recipe, whose stages say how is trained; leave it out".into()
                    });
                }
                check_recipe(c, recipe, self.data.samples.is_some());
                c.range("training.recipe.stages", self.training_rounds(), 1, MAX_ROUNDS);
            }
        }
    }
}

/// The fields whose place a recipe takes, and whether they are given.
fn replaced(t: &TrainingPlan) -> [(&'static str, bool); 8] {
    [
        ("training.rounds", t.rounds != 0),
        ("training.batch_size", t.batch_size != 0),
        ("training.learning_rate", t.learning_rate != 0.0),
        ("training.learning_rate_decay", t.learning_rate_decay != 0.0),
        ("training.momentum", t.momentum != 0.0),
        ("training.weight_decay", t.weight_decay != 0.0),
        ("training.latent_penalty", t.latent_penalty != 0.0),
        ("training.latent_bound", t.latent_bound != 0.0),
    ]
}

fn check_descent(c: &mut Checker, t: &TrainingPlan) {
    c.range("training.rounds", t.rounds, 1, MAX_ROUNDS);
    c.range("training.batch_size", t.batch_size, 1, 1 << 16);
    c.range("training.learning_rate", t.learning_rate, 1e-8, 10.0);
    c.range("training.learning_rate_decay", t.learning_rate_decay, 0.01, 1.0);
    c.range("training.momentum", t.momentum, 0.0, 0.999);
    c.range("training.weight_decay", t.weight_decay, 0.0, 1.0);
    c.range("training.latent_penalty", t.latent_penalty, 0.0, 100.0);
    c.range("training.latent_bound", t.latent_bound, 0.1, 1000.0);
}

fn check_server(c: &mut Checker, server: &Server) {
    match *server {
        Server::Average => {}
        Server::Momentum {
            learning_rate,
            momentum,
        } => {
            c.range(
                "training.server.momentum.learning_rate",
                learning_rate,
                1e-4,
                10.0,
            );
            c.range("training.server.momentum.momentum", momentum, 0.0, 0.99);
        }
        Server::Adam {
            learning_rate,
            beta1,
            beta2,
            tau,
        } => {
            c.range("training.server.adam.learning_rate", learning_rate, 1e-4, 10.0);
            c.range("training.server.adam.beta1", beta1, 0.0, 0.999);
            c.range("training.server.adam.beta2", beta2, 0.0, 0.9999);
            c.range("training.server.adam.tau", tau, 1e-6, 1.0);
        }
    }
}

/// A recipe inside a study: what [`Recipe::check`] asks for, and nothing that only makes sense on one's own data.
fn check_recipe(c: &mut Checker, recipe: &Recipe, on_images: bool) {
    if let Err(error) = recipe.check() {
        c.require(false, "training.recipe", || error.to_string());
    }
    c.range("training.recipe.batch_size", recipe.batch_size, 1, 1 << 16);
    c.require(recipe.seed == 0, "training.recipe.seed", || {
        "must be left out: the study's seed fixes weights and orders".into()
    });
    c.require(
        recipe.objective == Objective::Classification,
        "training.recipe.objective",
        || "must be \"classification\": a study tells two classes apart".into(),
    );
    c.require(
        on_images || recipe.augmentation.is_none(),
        "training.recipe.augmentation",
        || "varies images, and the data of this study are tables; leave it out".into(),
    );
    if let Some(ClassWeights::Given(list)) = &recipe.class_weights {
        c.require(list.len() == 2, "training.recipe.class_weights", || {
            format!(
                "has {} numbers, a study has two classes: negative, then positive",
                list.len()
            )
        });
    }
    for (i, stage) in recipe.stages.iter().enumerate() {
        check_stage(
            c,
            &format!("training.recipe.stages[{i}] (\"{}\")", stage.name),
            stage,
        );
    }
    if let (Some(last), i) = (recipe.stages.last(), recipe.stages.len().saturating_sub(1)) {
        let field = format!("training.recipe.stages[{i}] (\"{}\")", last.name);
        c.require(last.activations != Activations::Relu, &format!("{field}.activations"), || {
            "is \"relu\" in the last stage, but the model is evaluated with its own activations: end with a stage that trains them".into()
        });
        c.require(!last.max_pooling, &format!("{field}.max_pooling"), || {
            "is on in the last stage, but the model is evaluated with its own poolings: end with a stage that trains with them".into()
        });
    }
}

fn check_stage(c: &mut Checker, field: &str, stage: &Stage) {
    let mut refuse = |given: bool, setting: &str, why: &str| {
        c.require(!given, &format!("{field}.{setting}"), || why.into());
    };
    refuse(
        stage.early_stopping.is_some(),
        "early_stopping",
        "is not possible in a study: no loss is opened between rounds that a stage could be stopped by; give the number of rounds",
    );
    refuse(
        matches!(stage.schedule, Schedule::Plateau { .. }),
        "schedule",
        "\"plateau\" is not possible in a study: no loss is opened between rounds; use \"constant\" or \"cosine\"",
    );
    refuse(
        stage.averaging.is_some(),
        "averaging",
        "is not possible in a study: hospitals start each round from the opened model, not from an average of their own steps; see training.server",
    );
    refuse(
        stage.recalibrate,
        "recalibrate",
        "is not possible in a study: the opened model's statistics are averages of the hospitals', and measuring them anew would take a round of its own",
    );
}
