//! The command line.

use clap::{Parser, ValueEnum};
use std::path::PathBuf;

// Paragraphs are one line each: the help is wrapped to the width of the terminal.
const LONG: &str = "\
Watches a study from nothing to encrypted predictions, on this machine alone.

It starts one coordinator and one daemon per hospital as separate processes that talk over UDP on loopback, with real files in \
a temporary folder, and runs the heart study: four hospitals (Cleveland, Budapest, Zurich, Long Beach), 920 patients as published.

  setup        keys, the frozen study, every hospital's signature
  statistics   an encrypted sum: means and deviations, for imputation and standardisation
  training     an encrypted sum per round: federated averaging of a small neural network
  evaluation   an encrypted sum: histograms of scores, for the pooled ROC curve
  release      the hospitals give the model to the coordinator, as this study says
  query        hospitals have held-out patients evaluated, encrypted under their own keys

Meanwhile it computes without any encryption what every sum must be, what each hospital reaches alone, and what pooled data \
would reach. At the end it compares. It needs some seconds and no network.";

const AFTER: &str = "\
Examples:
  quickstart                          watch, then read the report
  quickstart --format json            one JSON object on standard output, progress on standard error
  quickstart --keep /tmp/galen        then look around: logs, status.json, the parties' folders
  quickstart --study configs/studies/breast-cancer
                                      another study; docs/writing-a-study.md says how to write one

Exit status: 0 if everything held; 1 if something did not, and the report names it; 2 if the command line is wrong.";

/// Runs a whole federation on this machine and reports.
#[derive(Debug, Parser)]
#[command(name = "quickstart", version, long_about = LONG, after_help = AFTER)]
pub(crate) struct Options {
    /// What standard output holds: a report for people, or one JSON object
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
    /// Work in this folder, which must be new or empty, and leave it for inspection
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
    /// Run this study file (beside it for every party NAME.csv, or its images: a folder NAME, NAME.npz and so on), or study.toml of this folder, in place of the heart study
    #[arg(long, value_name = "PATH")]
    pub(crate) study: Option<PathBuf>,
}

/// What standard output holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A report for people.
    Text,
    /// One JSON object.
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent_and_teaches() {
        Options::command().debug_assert();
        let help = Options::command().render_long_help().to_string();
        for word in [
            "statistics",
            "training",
            "evaluation",
            "query",
            "--keep",
            "--study",
            "Exit status",
        ] {
            assert!(help.contains(word), "{word}");
        }
    }
}
