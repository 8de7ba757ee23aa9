//! `config.toml`: where things are on this machine. What is agreed with others stands in the study, not here.

use crate::error::PartyError;
use crate::home::Home;
use galen_core::telemetry::LogFormat;
use serde::Deserialize;
use std::path::PathBuf;

/// The commented sample that `party init` writes.
pub const SAMPLE: &str = include_str!("../../configs/party.toml");

/// Settings of a party. [`SAMPLE`] explains every field.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The frozen study file.
    pub study: PathBuf,
    /// Address of the coordinator, `host:port`.
    pub coordinator: String,
    /// The hospital's table or images.
    pub data: PathBuf,
    /// What trains the model.
    pub device: String,
    /// Threads for encryption and key sums; 0, as where it is left out, for one per core.
    #[serde(default)]
    pub threads: usize,
    /// Logging.
    pub log: Log,
}

/// How events are logged.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Lines or JSON objects.
    pub format: LogFormat,
    /// Which events.
    pub filter: String,
}

impl Config {
    /// Reads the configuration of a party; relative paths become paths below its folder.
    pub fn load(home: &Home) -> Result<Self, PartyError> {
        let config: Self = galen_core::config::load(&home.config())?;
        Ok(Self {
            study: home.resolve(&config.study),
            data: home.resolve(&config.data),
            ..config
        })
    }
}

/// The sample with some fields set: what `party init` writes.
pub fn sample(coordinator: Option<&str>, data: Option<&str>) -> String {
    let mut text = String::with_capacity(SAMPLE.len());
    for line in SAMPLE.lines() {
        let chosen = [("coordinator", coordinator), ("data", data)]
            .into_iter()
            .find_map(|(field, value)| {
                Some((field, value?)).filter(|_| line.starts_with(&format!("{field} = ")))
            });
        match chosen {
            Some((field, value)) => text.push_str(&format!("{field} = {}", toml::Value::from(value))),
            None => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn load(text: &str) -> Result<Config, PartyError> {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::create(temp.path()).unwrap();
        std::fs::write(home.config(), text).unwrap();
        Config::load(&home)
    }

    #[test]
    fn the_sample_is_a_configuration() {
        let config = load(SAMPLE).unwrap();
        assert_eq!(config.coordinator, "127.0.0.1:4433");
        assert!(config.data.is_absolute() && config.data.ends_with("data.csv"));
    }

    #[test]
    fn every_field_of_the_sample_is_commented() {
        let lines: Vec<&str> = SAMPLE.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            if line.contains(" = ") && !line.starts_with('#') {
                assert!(lines[i - 1].starts_with('#'), "{line}");
            }
        }
    }

    #[test]
    fn init_sets_fields_and_keeps_the_comments() {
        let text = sample(Some("galen.example:9"), Some("C:\\data \"x\".csv"));
        assert_eq!(text.lines().count(), SAMPLE.lines().count());
        let config = load(&text).unwrap();
        assert_eq!(config.coordinator, "galen.example:9");
        assert!(config.data.ends_with(Path::new("C:\\data \"x\".csv")));
        assert_eq!(sample(None, None).trim_end(), SAMPLE.trim_end());
    }

    #[test]
    fn an_unknown_field_is_refused_with_its_line() {
        let line = SAMPLE
            .lines()
            .position(|line| line.starts_with("device"))
            .unwrap()
            + 1;
        let error = load(&SAMPLE.replace("\ndevice = ", "\ndevise = ")).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(&format!("config.toml:{line}:1: ")) && text.contains("devise"),
            "{text}"
        );
        assert_eq!(
            (error.code().as_str(), error.exit()),
            ("P101", crate::error::Exit::Setup)
        );
    }
}
