//! The command line.

mod init;
mod output;
mod serve;
mod status;
mod study;

use clap::{Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// Runs a Galen study for hospitals without seeing their patients.
#[derive(Parser)]
#[command(name = "coordinator", version, about, long_about = LONG, after_help = AFTER)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// How results are written to standard output: text for people, or one JSON object.
    #[arg(long, value_enum, default_value_t = Format::Text, global = true)]
    format: Format,
}

const LONG: &str = "\
The operator's daemon of a Galen study. It collects encrypted contributions from hospitals, adds them without being able to
read them, and, if the study releases its model to the coordinator, evaluates encrypted queries.

The way from nothing to a running study:
  1. coordinator init --dir coordinator            makes this coordinator's identity
  2. each hospital runs `party init` and sends its card.toml
  3. write study.toml, then: coordinator study check study.toml
  4. coordinator study freeze study.toml --dir coordinator --card A/card.toml --card B/card.toml --card C/card.toml
  5. send the frozen study to every hospital; each compares the digest by telephone and runs `party study sign`
  6. coordinator serve --dir coordinator           and each hospital: `party serve`
  7. coordinator status --dir coordinator";

const AFTER: &str = "Exit status: 0 done, 1 failed, 2 wrong usage. With --format json, standard output holds one JSON object and nothing else.";

#[derive(Subcommand)]
enum Command {
    /// Make a coordinator's folder: identity, keys and a commented configuration.
    #[command(long_about = init::LONG)]
    Init {
        /// Folder to create.
        #[arg(long)]
        dir: PathBuf,
    },
    /// Check a study, or freeze it with the identity cards of its parties.
    #[command(subcommand)]
    Study(StudyCommand),
    /// Run the daemon until it is told to stop (Ctrl-C or SIGTERM). It resumes where it stood.
    #[command(long_about = serve::LONG)]
    Serve {
        /// The coordinator's folder.
        #[arg(long)]
        dir: PathBuf,
    },
    /// Show where the study stands, also while the daemon runs.
    #[command(long_about = status::LONG)]
    Status {
        /// The coordinator's folder.
        #[arg(long)]
        dir: PathBuf,
    },
}

#[derive(Subcommand)]
enum StudyCommand {
    /// Find what is wrong with a study, and show what it will cost.
    #[command(long_about = study::CHECK)]
    Check {
        /// The study, as its author wrote it.
        file: PathBuf,
    },
    /// Join a study with the cards of its parties, so that its digest can be compared and signed.
    #[command(long_about = study::FREEZE)]
    Freeze {
        /// The study, as its author wrote it.
        file: PathBuf,
        /// The coordinator's folder; the frozen study is put there.
        #[arg(long)]
        dir: PathBuf,
        /// A party's card.toml; once per party.
        #[arg(long = "card", required = true)]
        cards: Vec<PathBuf>,
    },
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    main_from(std::env::args_os())
}

/// Runs a command line; the first argument is the name of the program. Another executable that links this crate can thereby be the
/// coordinator, as the quickstart is.
pub fn main_from(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = Cli::parse_from(args);
    let (name, result) = match cli.command {
        Command::Init { dir } => ("init", init::run(&dir)),
        Command::Study(StudyCommand::Check { file }) => ("study check", study::check(&file)),
        Command::Study(StudyCommand::Freeze { file, dir, cards }) => {
            ("study freeze", study::freeze(&file, &dir, &cards))
        }
        Command::Serve { dir } => ("serve", serve::run(&dir)),
        Command::Status { dir } => ("status", status::run(&dir)),
    };
    output::finish(name, cli.format, result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent_and_teaches() {
        Cli::command().debug_assert();
        let mut command = Cli::command();
        let help = command
            .render_long_help()
            .to_string()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        for step in [
            "coordinator init",
            "study check",
            "study freeze",
            "party study sign",
            "coordinator serve",
            "coordinator status",
        ] {
            assert!(help.contains(step), "{step}");
        }
        let named = command
            .get_subcommands()
            .map(|c| c.get_name().to_owned())
            .filter(|name| name != "help")
            .collect::<Vec<_>>();
        assert_eq!(named, ["init", "study", "serve", "status"]);
    }
}
