//! Folders of images (PNG, JPEG, DICOM) whose subfolders are classes.

use crate::error::{DatasetError, Place, Problem};
use crate::labels::Labels;
use crate::limits::Limits;
use crate::picture::{self, Pictures};
use crate::{Dataset, Groups, Inputs, Targets};
use galen_core::samples::{Schema, Target};
use std::path::{Path, PathBuf};

/// How deep folders may lie in each other.
const DEPTH: usize = 16;
/// Files that lie beside images without being any.
const BESIDE: [&str; 3] = ["Thumbs.db", "desktop.ini", "DICOMDIR"];

/// Reads every file of a folder and of the folders in it. A file's class is the name of the folder of `path` that it lies in, unless
/// `source.target` names a DICOM attribute; `source.patient` and `source.site` name DICOM attributes, too. Hidden files are left alone.
pub(crate) fn load(path: &Path, schema: &Schema, limits: &Limits) -> Result<Dataset, DatasetError> {
    let mut files = Vec::new();
    list(path, 0, limits, &mut files)?;
    if files.is_empty() {
        return Err(DatasetError::file(path, Problem::Empty));
    }
    // The same on every file system.
    files.sort();
    let source = &schema.source;
    let asked: Vec<&str> = [&source.target, &source.patient, &source.site]
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
    let Pictures { values, attributes } = picture::read_all(&files, &asked, schema, limits)?;
    let attribute = |keyword: &str, index: usize| -> Result<String, DatasetError> {
        let place = asked.iter().position(|name| *name == keyword);
        let text = place.and_then(|place| attributes.get(index)?.get(place)?.clone());
        text.ok_or_else(|| {
            let what = format!("the DICOM attribute {keyword}");
            DatasetError::file(&files[index], Problem::Missing { what })
        })
    };
    let groups = |keyword: &Option<String>| -> Result<Option<Groups>, DatasetError> {
        let Some(keyword) = keyword else { return Ok(None) };
        let names: Result<Vec<_>, _> = (0..files.len()).map(|index| attribute(keyword, index)).collect();
        Ok(Some(Groups::new(names?)))
    };
    let label = |index: usize| match &source.target {
        Some(keyword) => attribute(keyword, index),
        None => class_folder(path, &files[index]),
    };
    let labels: Vec<String> = (0..files.len()).map(label).collect::<Result<_, _>>()?;
    let targets = targets(&labels, &files, schema)?;
    let (patients, sites) = (groups(&source.patient)?, groups(&source.site)?);
    Dataset::new(schema.clone(), values, targets, patients, sites)
        .map_err(|problem| DatasetError::file(path, problem))
}

/// The inputs alone, named by the DICOM attribute `source.patient`, or without one by their paths in the folder.
pub(crate) fn inputs(path: &Path, schema: &Schema, limits: &Limits) -> Result<Inputs, DatasetError> {
    let mut files = Vec::new();
    list(path, 0, limits, &mut files)?;
    if files.is_empty() {
        return Err(DatasetError::file(path, Problem::Empty));
    }
    files.sort();
    let asked: Vec<&str> = schema.source.patient.as_deref().into_iter().collect();
    let Pictures { values, attributes } = picture::read_all(&files, &asked, schema, limits)?;
    let name = |(file, attributes): (&PathBuf, &Vec<Option<String>>)| match asked.first() {
        None => Ok(file
            .strip_prefix(path)
            .unwrap_or(file)
            .to_string_lossy()
            .into_owned()),
        Some(keyword) => attributes.first().cloned().flatten().ok_or_else(|| {
            let what = format!("the DICOM attribute {keyword}");
            DatasetError::file(file, Problem::Missing { what })
        }),
    };
    let names = files.iter().zip(&attributes).map(name);
    Inputs::new(path, schema, values, names.collect::<Result<_, _>>()?)
}

fn targets(labels: &[String], files: &[PathBuf], schema: &Schema) -> Result<Targets, DatasetError> {
    let labelled = || labels.iter().zip(files);
    if let Target::Regression { .. } = schema.target {
        let number = |(label, file): (&String, &PathBuf)| {
            let number = label.trim().parse().ok().filter(|v: &f64| v.is_finite());
            number.ok_or_else(|| DatasetError::at(file, Place::Target, Problem::NotANumber))
        };
        return Ok(Targets::Numbers(
            labelled().map(number).collect::<Result<_, _>>()?,
        ));
    }
    let known = Labels::new(&schema.target);
    let class = |(label, file): (&String, &PathBuf)| {
        known.class(label).ok_or_else(|| {
            let labels = known.list();
            DatasetError::at(file, Place::Target, Problem::NotAClass { labels })
        })
    };
    Ok(Targets::Classes(labelled().map(class).collect::<Result<_, _>>()?))
}

/// The name of the folder in `path` that a file lies in.
fn class_folder(path: &Path, file: &Path) -> Result<String, DatasetError> {
    let inner = file
        .strip_prefix(path)
        .ok()
        .filter(|inner| inner.components().count() > 1);
    let folder = inner.and_then(|inner| inner.components().next());
    folder
        .map(|folder| folder.as_os_str().to_string_lossy().into_owned())
        .ok_or_else(|| {
            let what =
                "a folder with the name of its class around it (or source.target, a DICOM attribute)".into();
            DatasetError::file(file, Problem::Missing { what })
        })
}

fn list(folder: &Path, depth: usize, limits: &Limits, files: &mut Vec<PathBuf>) -> Result<(), DatasetError> {
    let fail = |error| DatasetError::file(folder, Problem::Read(error));
    if depth > DEPTH {
        let limit = DEPTH as u64;
        return Err(DatasetError::file(
            folder,
            Problem::Limit {
                what: "folders in each other",
                limit,
            },
        ));
    }
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') || BESIDE.contains(&name.as_ref()) {
            continue;
        }
        let path = entry.path();
        if path.is_dir() {
            list(&path, depth + 1, limits, files)?;
        } else {
            files.push(path);
            limits.check(folder, files.len(), 1)?;
        }
    }
    Ok(())
}
