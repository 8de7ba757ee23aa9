//! Networks as TOML files, with errors that name the line.

use super::{ModelSpec, SpecError};
use galen_core::config::{self, ConfigError};
use std::path::Path;
use toml::de::{DeTable, DeValue};

impl ModelSpec {
    /// Reads a network from a TOML file.
    ///
    /// Errors name the file, the line and the field or layer; an impossible network is refused at the line of its first
    /// impossible layer.
    pub fn load_toml(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse_toml(path, &text)
    }

    /// Reads a network from TOML text that came from `path`; errors as [`ModelSpec::load_toml`].
    pub fn parse_toml(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let spec: Self = config::parse(path, text)?;
        spec.check().map_err(|error| {
            let before = text.get(..place(text, &error)).unwrap_or("");
            ConfigError::Parse {
                path: path.to_owned(),
                line: before.matches('\n').count() + 1,
                column: before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1,
                message: error.to_string(),
            }
        })?;
        Ok(spec)
    }
}

/// Where in the text the error's layer begins, in bytes; where the input is written if no layer is at fault.
fn place(text: &str, error: &SpecError) -> usize {
    let Ok(document) = DeTable::parse(text) else {
        return 0;
    };
    let root = document.get_ref();
    let found = match error.layer() {
        None => root.get("input").map(|value| value.span().start),
        Some(path) => layer(root, path),
    };
    found.unwrap_or(0)
}

/// Where the layer at `path` (see [`Site::path`](super::Site)) begins: `layer3.body0` is `layers[3].add.body[0]`.
fn layer(root: &DeTable<'_>, path: &str) -> Option<usize> {
    let mut table = root;
    let mut found = None;
    for (depth, step) in path.split('.').enumerate() {
        let digits = step.find(|c: char| c.is_ascii_digit())?;
        let (name, index) = step.split_at(digits);
        let key = if depth == 0 { "layers" } else { name };
        let DeValue::Array(layers) = table.get(key)?.get_ref() else {
            return found;
        };
        let value = layers.get(index.parse::<usize>().ok()?)?;
        found = Some(value.span().start);
        let DeValue::Table(settings) = value.get_ref() else {
            return found;
        };
        match settings.get("add").map(|add| add.get_ref()) {
            Some(DeValue::Table(add)) => table = add,
            _ => return found,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        let error = ModelSpec::parse_toml(Path::new("net.toml"), text).unwrap_err();
        error.to_string()
    }

    #[test]
    fn impossible_layers_are_named_with_their_line() {
        let text = "input = [1, 8, 8]\nlayers = [\n  \"square\",\n  { dense = { outputs = 3 } },\n]\n";
        let said = error(text);
        assert!(
            said.starts_with("net.toml:4:3: layer1 (dense) needs a vector"),
            "{said}"
        );
        let nested = "input = 4\nlayers = [\n  \"square\",\n  { add = { body = [\n    \"square\",\n    { dropout = { rate = 2.0 } },\n  ] } },\n]\n";
        let said = error(nested);
        assert!(
            said.starts_with("net.toml:6:5: layer1.body1 has the rate 2"),
            "{said}"
        );
        let tables =
            "input = 4\n\n[[layers]]\ndense = { outputs = 4 }\n\n[[layers]]\ndense = { outputs = 0 }\n";
        let said = error(tables);
        assert!(said.starts_with("net.toml:6:1: layer1 has 0 outputs"), "{said}");
        let said = error("# a comment\ninput = 0\nlayers = [\"square\"]\n");
        assert!(said.starts_with("net.toml:2:9: a model needs 1 to"), "{said}");
    }

    #[test]
    fn misspelt_and_mistyped_fields_are_named_with_their_line() {
        let said = error("input = 4\nlayers = [{ dense = { output = 3 } }]\n");
        assert!(
            said.starts_with("net.toml:2:23: ") && said.contains(": output, available keys: outputs"),
            "{said}"
        );
        let said = error("input = 4\nlayers = [\n  \"squared\",\n]\n");
        assert!(
            said.starts_with("net.toml:3:3:") && said.contains("squared"),
            "{said}"
        );
        let said = error("input = [3, 8]\nlayers = [\"square\"]\n");
        assert!(
            said.starts_with("net.toml:1:") && said.contains("[channels, height, width]"),
            "{said}"
        );
        let said = error("input = [3, 8, 8, 8]\nlayers = [\"square\"]\n");
        assert!(said.contains("invalid length 4"), "{said}");
        let conv = |kernel: &str| {
            error(&format!(
                "input = [1, 8, 8]\nlayers = [\n{{ conv2d = {{ channels = 1, kernel = {kernel} }} }}]\n"
            ))
        };
        for wrong in ["-3", "\"3\"", "[3]", "[3, 3, 3]", "3.5"] {
            let said = conv(wrong);
            assert!(
                said.starts_with("net.toml:3:") && said.contains("[vertical, horizontal]"),
                "{said}"
            );
        }
        let said = error("input = 4\nlayers = [\"square\"\n");
        assert!(said.starts_with("net.toml:"), "{said}");
    }

    #[test]
    fn both_ways_of_writing_are_the_same_network() {
        let short = "input = 4\nlayers = [{ dense = { outputs = 4 } }, { batch_norm = {} }]\n";
        let long =
            "input = 4\n[[layers]]\ndense = { outputs = 4 }\n[[layers]]\nbatch_norm = { epsilon = 1e-5 }\n";
        let read = |text| ModelSpec::parse_toml(Path::new("net.toml"), text).unwrap();
        assert_eq!(read(short), read(long));
        let written = toml::to_string(&read(short)).unwrap();
        assert_eq!(read(&written), read(short));
    }

    /// The schema knows every layer, and what it says about shapes.
    #[test]
    fn the_schema_names_every_layer() {
        let schema = ModelSpec::json_schema();
        let text = schema.to_string();
        for name in [
            "dense",
            "residual",
            "conv2d",
            "average_pool",
            "sum_pool",
            "max_pool",
            "batch_norm",
            "flatten",
            "add",
            "dropout",
            "square",
            "power",
            "polynomial",
            "fixed_polynomial",
            "hermite",
            "relu",
            "sigmoid",
            "tanh",
            "sign",
        ] {
            assert!(text.contains(&format!("\"{name}\"")), "{name}");
        }
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["required"], serde_json::json!(["input", "layers"]));
        assert_eq!(schema["$defs"]["Shape"]["anyOf"][1]["minItems"], 3);
    }
}
