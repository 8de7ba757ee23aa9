//! Reading TOML files whose errors name the file, the line and the field.

use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

/// A configuration or study file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not valid TOML for what is expected: a syntax error, an unknown or missing field, a value of another type.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong.
        message: String,
    },
}

/// Reads a TOML file. Types should carry `#[serde(deny_unknown_fields)]`, so that a misspelt field is refused by name.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(path, &text)
}

/// Parses TOML text that came from `path`.
pub fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        let before = text.get(..offset).unwrap_or("");
        ConfigError::Parse {
            path: path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1,
            message: error.message().to_owned(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[allow(dead_code)]
        port: u16,
    }

    #[test]
    fn errors_name_file_line_and_field() {
        let path = Path::new("sample.toml");
        let error = parse::<Sample>(path, "port = 1\nprot = 2\n")
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("sample.toml:2:1: ") && error.contains("prot"),
            "{error}"
        );
        let error = parse::<Sample>(path, "# x\nport = \"a\"\n")
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("sample.toml:2:8: "), "{error}");
        let error = parse::<Sample>(path, "").unwrap_err().to_string();
        assert!(error.contains("port"), "{error}");
        let error = load::<Sample>(Path::new("/nonexistent/x.toml"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("/nonexistent/x.toml"), "{error}");
    }
}
