//! The coordinator's configuration file.

use galen_core::telemetry::LogFormat;
use galen_net::Tuning;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

/// The commented sample that `coordinator init` writes.
pub const SAMPLE: &str = include_str!("../../configs/coordinator.toml");

/// `config.toml` in the coordinator's folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// UDP address to listen on.
    pub listen: SocketAddr,
    /// Most connections at a time; parties share them by turns.
    #[serde(default = "connections")]
    pub connections: usize,
    /// The frozen study; relative to the folder.
    pub study: PathBuf,
    /// Threads for adding and evaluating; 0 for one per core.
    pub threads: usize,
    /// Logging.
    pub log: LogConfig,
    /// What the query service takes.
    pub queries: QueryConfig,
}

/// Configurations written before there was this field do without it.
fn connections() -> usize {
    Tuning::default().connections
}

/// Logging.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// Which lines: a `tracing` filter such as `info` or `galen_coordinator=debug,warn`.
    pub filter: String,
    /// `text` or `json`.
    pub format: LogFormat,
}

/// What the query service takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueryConfig {
    /// Most queries of one party that wait at a time.
    pub max_waiting: u32,
    /// Largest encrypted batch, in MiB.
    pub max_batch_mib: u64,
    /// Largest evaluation key, in MiB.
    pub max_key_mib: u64,
    /// Most batches that a party may have evaluated in an hour; 0 for no limit.
    #[serde(default)]
    pub max_hourly: u32,
    /// Hours for which answers that nobody fetches are kept, and batches that nobody asks about.
    #[serde(default = "keep_hours")]
    pub keep_hours: u32,
    /// Versions of a model that are kept.
    #[serde(default = "keep_versions")]
    pub keep_versions: u32,
}

fn keep_hours() -> u32 {
    24
}

fn keep_versions() -> u32 {
    3
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_sample_is_valid_and_unknown_fields_are_refused_by_name_and_line() {
        let config: Config = galen_core::config::parse(Path::new("coordinator.toml"), SAMPLE).unwrap();
        assert_eq!(config.listen.port(), 4433);
        let silent: String = SAMPLE
            .lines()
            .filter(|line| {
                let optional = ["connections", "max_hourly", "keep_hours", "keep_versions"];
                !optional.iter().any(|field| line.starts_with(field))
            })
            .fold(String::new(), |text, line| text + line + "\n");
        let default = galen_core::config::parse::<Config>(Path::new("c.toml"), &silent).unwrap();
        assert_eq!(default, config, "the sample shows the default");
        let misspelt = SAMPLE.replace("max_waiting", "max_wating");
        let error = galen_core::config::parse::<Config>(Path::new("c.toml"), &misspelt)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("c.toml:") && error.contains("max_wating"),
            "{error}"
        );
    }
}
