//! `party model`: networks shown, models imported and exported.

use super::args::{EnsembleArgs, ExportArgs, ImportArgs, ModelShowArgs};
use super::output::Output;
use crate::PartyError;
use crate::config::Config;
use crate::consent;
use crate::home;
use crate::sealed::Sealed;
use galen_core::config;
use galen_models::{Annotations, MAX_FILE_BYTES, Model, ModelFile, ModelSpec, Range, Summary};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

/// What is known of a shown file.
#[derive(Serialize)]
struct Shown {
    /// The model's digest; none for a network without parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    summary: Summary,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<Annotations>,
}

#[derive(Serialize)]
struct Written {
    model: String,
    parameters: usize,
    file: PathBuf,
}

/// Prints a network's summary, or the schema of its file.
pub(super) fn show(args: &ModelShowArgs, output: &Output) -> anyhow::Result<()> {
    let Some(path) = args.file.as_deref().filter(|_| !args.schema) else {
        let schema = ModelSpec::json_schema();
        let text = serde_json::to_string_pretty(&schema)?;
        return output.say(schema, || text);
    };
    let problem = problem_with(path);
    let shown = if has_extension(path, "toml") {
        let spec = ModelSpec::load_toml(path).map_err(PartyError::from)?;
        Shown {
            model: None,
            summary: spec.summary().map_err(problem)?,
            annotations: None,
        }
    } else {
        let file = load(path)?;
        Shown {
            model: Some(file.model.digest().to_hex()),
            summary: file.model.spec().summary().map_err(problem)?,
            annotations: (file.annotations != Annotations::default()).then_some(file.annotations),
        }
    };
    let text = shown.to_string();
    output.say(shown, || text)
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(digest) = &self.model {
            writeln!(f, "model {digest}")?;
        }
        if let Some(annotations) = &self.annotations {
            if !annotations.title.is_empty() {
                writeln!(f, "{}", annotations.title)?;
            }
            if !annotations.classes.is_empty() {
                writeln!(f, "classes: {}", annotations.classes.join(", "))?;
            }
        }
        write!(f, "{}", self.summary)?;
        for seen in self.annotations.iter().flat_map(|a| &a.activations) {
            let range = seen.overall();
            writeln!(
                f,
                "{} saw {:.4} to {:.4} in training",
                seen.path, range.min, range.max
            )?;
        }
        Ok(())
    }
}

/// Makes a model file from files of other programs.
pub(super) fn import(args: &ImportArgs, output: &Output) -> anyhow::Result<()> {
    let path = args.file.as_path();
    let model = match &args.network {
        None => load(path)?.model,
        Some(network) => {
            let spec = ModelSpec::load_toml(network).map_err(PartyError::from)?;
            let map: BTreeMap<String, String> = match &args.map {
                Some(map) => config::load(map).map_err(PartyError::from)?,
                None => BTreeMap::new(),
            };
            Model::from_tensors(spec, &read(path)?, &map).map_err(problem_with(path))?
        }
    };
    write(&ModelFile::from(model), &args.out, output)
}

/// Joins models into one.
pub(super) fn ensemble(args: &EnsembleArgs, output: &Output) -> anyhow::Result<()> {
    let members: Vec<ModelFile> = args
        .members
        .iter()
        .map(|path| load(path))
        .collect::<Result<_, _>>()?;
    let joined = ModelFile::ensemble(&members).map_err(problem_with(&args.out))?;
    write(&joined, &args.out, output)
}

/// Writes the trained model, or one from a file, to a file.
pub(super) fn export(args: &ExportArgs, output: &Output) -> anyhow::Result<()> {
    let file = match (&args.model, &args.dir) {
        (Some(path), _) => load(path)?,
        (None, Some(dir)) => trained(dir)?,
        (None, None) => {
            return Err(PartyError::NotYet("no model is named: use --dir or --model".into()).into());
        }
    };
    write(&file, &args.out, output)
}

/// The model that a party derived, with what it keeps to itself. Images enter a model as files have them, so its file says which it takes.
fn trained(dir: &Path) -> anyhow::Result<ModelFile> {
    let home = super::open(dir)?;
    let config = Config::load(&home)?;
    let study = consent::signed_study(&config)?;
    let state = Sealed::open(&home)?.state(&study.digest())?;
    let model = state.and_then(|state| {
        let personal = state.personal.as_ref();
        state.derived.trained(study.study(), personal).ok()
    });
    let model = model.ok_or_else(|| PartyError::NotYet("the model is not trained yet".into()))?;
    let mut file = ModelFile::from(model);
    let (title, data) = (&study.study().title, &study.study().data);
    if let Some(classes) = data.class_names() {
        let [min, max] = data.value_range();
        file.annotations = Annotations {
            title: title.clone(),
            classes: classes.map(str::to_owned).to_vec(),
            inputs: vec![Range::new(f64::from(min), f64::from(max))],
            ..Annotations::default()
        };
    }
    Ok(file)
}

/// Writes a model file and says so.
pub(super) fn write(file: &ModelFile, out: &Path, output: &Output) -> anyhow::Result<()> {
    new_file(out)?;
    let bytes = if has_extension(out, "onnx") {
        file.model.to_onnx().map_err(problem_with(out))?
    } else {
        file.to_safetensors()?
    };
    home::write_durably(out, &bytes)?;
    let written = Written {
        model: file.model.digest().to_hex(),
        parameters: file.model.params().len(),
        file: out.to_owned(),
    };
    let text = format!(
        "Wrote {} parameters of model {} to {}.",
        written.parameters,
        written.model,
        out.display()
    );
    output.say(written, || text)
}

/// Refuses to overwrite a file.
pub(super) fn new_file(out: &Path) -> Result<(), PartyError> {
    if !out.exists() {
        return Ok(());
    }
    let exists = "exists already and is not overwritten";
    Err(PartyError::File {
        path: out.to_owned(),
        source: std::io::Error::new(std::io::ErrorKind::AlreadyExists, exists),
    })
}

/// A model from a file of its own or from an ONNX file.
pub(super) fn load(path: &Path) -> Result<ModelFile, PartyError> {
    let bytes = read(path)?;
    if has_extension(path, "onnx") {
        let model = Model::from_onnx(&bytes).map_err(problem_with(path))?;
        return Ok(ModelFile::from(model));
    }
    ModelFile::from_safetensors(&bytes).map_err(problem_with(path))
}

/// A file's bytes, as far as a model file can be long and one more.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, PartyError> {
    let file = std::fs::File::open(path).map_err(PartyError::file(path))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(PartyError::file(path))?;
    Ok(bytes)
}

pub(super) fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension()
        .is_some_and(|found| found.eq_ignore_ascii_case(extension))
}

pub(super) fn problem_with<E: fmt::Display>(path: &Path) -> impl FnOnce(E) -> PartyError {
    let path = path.to_owned();
    move |error| PartyError::Model {
        path,
        problem: error.to_string(),
    }
}
