//! From a study to its course.

use super::{Course, Sharing};
use crate::fedavg::FedAvg;
use crate::spec::{Layer, ModelSpec, Site};
use galen_core::study::{Problem, Release, Study};

/// A study whose training cannot be computed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("the study's training is impossible: {}", .problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct CourseError {
    /// What is wrong, by field.
    pub problems: Vec<Problem>,
}

fn problem(field: &str, message: impl Into<String>) -> Problem {
    Problem {
        field: field.to_owned(),
        message: message.into(),
    }
}

fn one(field: &str, message: impl Into<String>) -> CourseError {
    CourseError {
        problems: vec![problem(field, message)],
    }
}

pub(super) fn build(study: &Study) -> Result<Course, CourseError> {
    let (plan, training) = (&study.model, &study.training);
    let (field, spec) = if plan.layers.is_empty() {
        let hidden: Vec<usize> = plan.hidden.iter().map(|&width| width as usize).collect();
        let spec = ModelSpec::residual_mlp(study.data.inputs(), &hidden, plan.scale, plan.power);
        ("model.hidden", spec)
    } else {
        let spec = ModelSpec {
            input: study.data.input(),
            layers: plan.layers.clone(),
        };
        ("model.layers", spec.check().map(|()| spec))
    };
    let spec = spec.map_err(|error| one(field, error.to_string()))?;
    let adaptation = training
        .recipe
        .as_ref()
        .and_then(|recipe| recipe.adaptation.as_ref());
    let first = spec
        .start(adaptation, study.seed)
        .map_err(|error| one("training.recipe.adaptation", error.to_string()))?;
    let mut problems = Vec::new();
    let sites = first.spec().resolve().unwrap_or_default();
    let outputs = first.spec().outputs();
    if outputs != 1 {
        problems.push(problem(
            field,
            format!("end in {outputs} outputs; a study tells two classes apart by one, the logit of the positive class: end with {{ dense = {{ outputs = 1 }} }}"),
        ));
    }
    let mut activations = 0;
    let mut layers = Vec::new();
    collect(&sites, &mut layers);
    for site in &layers {
        let (path, kind) = (&site.path, site.layer.name());
        activations +=
            usize::from(site.layer.is_activation() || matches!(site.layer, Layer::Residual { .. }));
        if *site.layer == Layer::Sign {
            problems.push(problem(
                field,
                format!("{path} ({kind}) has no gradient and cannot be trained"),
            ));
        } else if study.serving.release == Release::Coordinator
            && !site.layer.is_polynomial()
            && site.body.is_empty()
        {
            problems.push(problem(
                field,
                format!("{path} ({kind}) is no polynomial, so the coordinator cannot evaluate it encrypted: have training.recipe.adaptation replace it, or set serving.release = \"contributors\""),
            ));
        }
    }
    if let Some(recipe) = &training.recipe
        && let Err(error) = recipe.check_for(activations)
    {
        problems.push(problem("training.recipe", error.to_string()));
    }
    let sharing = Sharing::new(first.spec(), &training.private).unwrap_or_else(|found| {
        problems.extend(found.problems);
        Sharing::all(first.spec())
    });
    if !problems.is_empty() {
        return Err(CourseError { problems });
    }
    Ok(Course {
        seed: study.seed,
        rounds: study.training_rounds(),
        average: FedAvg::new(training, &study.data),
        server: training.server,
        recipe: training.recipe.clone(),
        sharing,
        first,
    })
}

/// All layers with those inside additions.
fn collect<'s, 'a>(sites: &'s [Site<'a>], all: &mut Vec<&'s Site<'a>>) {
    for site in sites {
        all.push(site);
        collect(&site.body, all);
        collect(&site.shortcut, all);
    }
}
