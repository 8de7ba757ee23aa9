//! Studies with a network of layers, a recipe, a server strategy or private parameters: how they are written, what is refused, and what
//! their digest binds.

#![allow(clippy::unwrap_used)] // A test that cannot set itself up has failed.

use galen_core::recipe::{Activations, Augmentation};
use galen_core::recipe::{
    ClassWeights, Distillation, EarlyStopping, Objective, Recipe, Schedule, Transition,
};
use galen_core::study::{Card, FrozenStudy, Release, Role, Server, Study};
use galen_core::{Digest, PartyId, PublicKey};
use std::path::Path;

/// The heart study with a recipe and private normalisations.
fn extended() -> Study {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/studies/heart/personal.toml");
    galen_core::config::load(&path).unwrap()
}

fn frozen(study: Study) -> FrozenStudy {
    let card = |name: &str| {
        let digest = |what: &str| Digest::of(format!("{what} of {name}").as_bytes());
        Card {
            name: PartyId::new(name).unwrap(),
            certificate: digest("certificate"),
            signing: PublicKey(digest("signing key")),
            sealing: digest("sealing key"),
        }
    };
    let cards = study
        .party
        .iter()
        .map(|member| card(member.name.as_str()))
        .collect();
    FrozenStudy::freeze(study, card("coordinator"), cards).unwrap()
}

fn recipe(study: &mut Study) -> &mut Recipe {
    study.training.recipe.as_mut().unwrap()
}

type Change = fn(&mut Study);

#[test]
fn a_frozen_file_reads_back_as_it_was() {
    let study = extended();
    assert_eq!(study.check(), []);
    let frozen = frozen(study.clone());
    let text = frozen.to_toml().unwrap();
    let read = FrozenStudy::parse(Path::new("study.toml"), &text).unwrap();
    assert_eq!(read.study(), &study);
    assert_eq!(read.digest(), frozen.digest());
    // What the recipe takes the place of is not written.
    for absent in ["learning_rate_decay", "latent_bound", "hidden", "seed = 0"] {
        assert!(!text.contains(absent), "{absent}\n{text}");
    }
    let edited = text.replace("proximal = 0.01", "proximal = 0.02");
    assert_ne!(edited, text);
    let error = FrozenStudy::parse(Path::new("study.toml"), &edited).unwrap_err();
    assert!(error.to_string().contains("changed after freezing"), "{error}");
}

/// Nothing that decides about training is outside the digest.
#[test]
fn the_digest_binds_network_recipe_strategy_and_sharing() {
    let changes: &[Change] = &[
        |_| {},
        |s| {
            s.model.layers.pop();
        },
        |s| s.training.local_epochs += 1,
        |s| s.training.proximal = 0.5,
        |s| s.training.server = Server::Average,
        |s| {
            s.training.server = Server::Momentum {
                learning_rate: 1.0,
                momentum: 0.9,
            }
        },
        |s| s.training.private.clear(),
        |s| recipe(s).stages[0].epochs += 1,
        |s| recipe(s).stages[1].distillation = None,
        |s| recipe(s).class_weights = Some(ClassWeights::Given(vec![1.0, 2.0])),
        |s| recipe(s).class_weights = None,
        |s| recipe(s).adaptation.as_mut().unwrap().normalise ^= true,
    ];
    let mut digests: Vec<Digest> = changes
        .iter()
        .map(|change| {
            let mut study = extended();
            change(&mut study);
            frozen(study).digest()
        })
        .collect();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), changes.len());
}

/// A change that makes the study wrong, the field that must be named, and a word of the reason.
const WRONG: &[(Change, &str, &str)] = &[
    (
        |s| s.model.hidden = vec![4],
        "model.hidden",
        "beside model.layers",
    ),
    (|s| s.model.power = 2, "model.power", "beside model.layers"),
    (|s| s.model.scale = 0.1, "model.scale", "beside model.layers"),
    (|s| s.training.recipe = None, "model.layers", "recipe"),
    (|s| s.training.recipe = None, "training.rounds", "between 1"),
    (
        |s| s.training.rounds = 3,
        "training.rounds",
        "beside training.recipe",
    ),
    (
        |s| s.training.batch_size = 3,
        "training.batch_size",
        "beside training.recipe",
    ),
    (
        |s| s.training.learning_rate = 0.1,
        "training.learning_rate",
        "beside",
    ),
    (
        |s| s.training.learning_rate_decay = 0.9,
        "training.learning_rate_decay",
        "beside",
    ),
    (|s| s.training.momentum = 0.9, "training.momentum", "beside"),
    (
        |s| s.training.weight_decay = 0.1,
        "training.weight_decay",
        "beside",
    ),
    (
        |s| s.training.latent_penalty = 0.1,
        "training.latent_penalty",
        "beside",
    ),
    (
        |s| s.training.latent_bound = 4.0,
        "training.latent_bound",
        "beside",
    ),
    (|s| s.training.proximal = -0.1, "training.proximal", "between 0"),
    (
        |s| s.training.proximal = f64::NAN,
        "training.proximal",
        "between 0",
    ),
    (
        |s| {
            s.training.server = Server::Momentum {
                learning_rate: 0.0,
                momentum: 0.9,
            }
        },
        "training.server.momentum.learning_rate",
        "between",
    ),
    (
        |s| {
            s.training.server = Server::Momentum {
                learning_rate: 1.0,
                momentum: 1.0,
            }
        },
        "training.server.momentum.momentum",
        "between",
    ),
    (
        |s| {
            s.training.server = Server::Adam {
                learning_rate: 0.1,
                beta1: 0.9,
                beta2: 0.99,
                tau: 0.0,
            }
        },
        "training.server.adam.tau",
        "between",
    ),
    (
        |s| {
            s.training.server = Server::Adam {
                learning_rate: 0.1,
                beta1: 1.0,
                beta2: 1.0,
                tau: 0.1,
            }
        },
        "training.server.adam.beta2",
        "between",
    ),
    (
        |s| s.serving.release = Release::Coordinator,
        "training.private",
        "no whole model that the coordinator could serve",
    ),
    (
        |s| s.party[0].roles.push(Role::Querier),
        "serving.release",
        "queriers",
    ),
    (
        |s| {
            let first = s.training.private[0].clone();
            s.training.private.push(first);
        },
        "training.private[1]",
        "twice",
    ),
    (|s| recipe(s).seed = 5, "training.recipe.seed", "the study's seed"),
    (
        |s| recipe(s).batch_size = 0,
        "training.recipe.batch_size",
        "between 1",
    ),
    (|s| recipe(s).stages.clear(), "training.recipe", "stages"),
    (
        |s| recipe(s).objective = Objective::Regression,
        "training.recipe.objective",
        "two classes",
    ),
    (
        |s| recipe(s).augmentation = Some(Augmentation::default()),
        "training.recipe.augmentation",
        "tables",
    ),
    (
        |s| recipe(s).class_weights = Some(ClassWeights::Given(vec![1.0, 1.0, 1.0])),
        "training.recipe.class_weights",
        "two classes",
    ),
    (
        |s| recipe(s).stages[1].early_stopping = Some(EarlyStopping { patience: 3 }),
        "training.recipe.stages[1] (\"transition\").early_stopping",
        "no loss is opened",
    ),
    (
        |s| {
            recipe(s).stages[0].schedule = Schedule::Plateau {
                factor: 0.5,
                patience: 1,
                floor: 0.0,
            }
        },
        "training.recipe.stages[0] (\"teacher\").schedule",
        "plateau",
    ),
    (
        |s| recipe(s).stages[2].averaging = Some(0.99),
        "training.recipe.stages[2] (\"polynomials\").averaging",
        "opened model",
    ),
    (
        |s| recipe(s).stages[2].recalibrate = true,
        "training.recipe.stages[2] (\"polynomials\").recalibrate",
        "averages of the hospitals'",
    ),
    (
        |s| recipe(s).stages[2].activations = Activations::Relu,
        "training.recipe.stages[2] (\"polynomials\").activations",
        "own activations",
    ),
    (
        |s| recipe(s).stages[2].max_pooling = true,
        "training.recipe.stages[2] (\"polynomials\").max_pooling",
        "own poolings",
    ),
    (
        |s| recipe(s).stages[0].distillation = Some(Distillation::default()),
        "training.recipe",
        "becomes_teacher",
    ),
    (
        |s| {
            recipe(s).stages[1].activations = Activations::Transition(Transition {
                epochs_per_change: 0,
                ..Transition::default()
            })
        },
        "training.recipe",
        "epochs_per_change",
    ),
    (
        |s| recipe(s).stages[0].epochs = 5000,
        "training.recipe.stages",
        "between 1 and 1000",
    ),
];

#[test]
fn what_makes_no_sense_in_a_federation_is_refused_by_field() {
    for (change, field, word) in WRONG {
        let mut study = extended();
        change(&mut study);
        let problems = study.check();
        let named = problems
            .iter()
            .any(|p| p.field == *field && p.message.contains(word));
        assert!(named, "{field}: {word}: {problems:?}");
    }
}

#[test]
fn servers_are_written_with_or_without_their_settings() {
    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct File {
        server: Server,
    }
    let read = |text: &str| toml::from_str::<File>(text).map(|file| file.server);
    assert_eq!(read("server = \"average\""), Ok(Server::Average));
    let momentum = Server::Momentum {
        learning_rate: 1.0,
        momentum: 0.5,
    };
    assert_eq!(read("server = { momentum = { momentum = 0.5 } }"), Ok(momentum));
    let adam = read("server = { adam = {} }").unwrap();
    assert!(matches!(adam, Server::Adam { beta2: 0.99, .. }), "{adam:?}");
    assert!(read("server = { adam = { beta = 1.0 } }").is_err());
}
