//! The command line.

mod audit;
mod exact;
mod init;
mod model;
mod output;
mod serve;
mod status;
mod study;
mod succeed;
mod version;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// Runs a Galen study for hospitals without seeing their patients.
#[derive(Parser)]
#[command(name = "coordinator", about, long_about = LONG, after_help = AFTER, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Print the version.
    #[arg(short = 'V', long)]
    version: bool,
    /// With --version, also what the arithmetic runs on.
    #[arg(long, requires = "version")]
    verbose: bool,
    /// How results are written to standard output: text for people, or one JSON object.
    #[arg(long, value_enum, default_value_t = Format::Text, global = true)]
    format: Format,
}

// Paragraphs are one line each, so that they wrap at the width of the terminal.
const LONG: &str = "\
The operator's daemon of a Galen study.

It collects encrypted contributions from hospitals, adds them without being able to read them, and, if the study releases its model to the coordinator, evaluates encrypted queries.

In order:
  coordinator init --dir DIR                make this coordinator's identity
  (each hospital)                           party init; it sends its card.toml
  coordinator study check study.toml        see what is wrong, and what it costs
  coordinator study freeze study.toml ...   join the study with all cards
  (each hospital)                           compare the digest; party study sign
  coordinator serve --dir DIR               run it; each hospital: party serve
  coordinator status --dir DIR              see how far it is
  coordinator audit show --dir DIR          see what was opened to whom
  coordinator model add FILE --dir DIR      let hospitals ask another model, encrypted

When a hospital joins or leaves, with the daemon stopped:
  coordinator study succeed --dir DIR ...   draft the successor; then freeze it, and let all sign it";

const AFTER: &str = "\
Exit codes:
  0  done
  1  failed for a reason not listed here
  2  the command line is wrong
  3  folder, configuration or study
  5  the network address cannot be used

Every error has a stable code (C...) and a hint. `--format json` puts one object on standard output: {\"ok\": true, \"command\": ..., \"result\": ...} or {\"ok\": false, \"command\": ..., \"error\": {code, message, hint}}.";

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
        /// Announce no round from this one on, counted from 0, so that the study can be succeeded between rounds.
        #[arg(long, value_name = "ROUND")]
        hold_before: Option<u32>,
    },
    /// Read the audit log: who was let do what, and what was opened to whom.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Models that parties may ask, encrypted: plan, add, list, remove.
    #[command(subcommand)]
    Model(ModelCommand),
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
        /// The study, as its author wrote it, or the draft of a successor.
        file: PathBuf,
        /// The coordinator's folder; the frozen study is put there.
        #[arg(long)]
        dir: PathBuf,
        /// A party's card.toml; once per party. The draft of a successor has the cards in it.
        #[arg(long = "card")]
        cards: Vec<PathBuf>,
    },
    /// Draft the successor under which hospitals join or leave.
    #[command(long_about = succeed::LONG)]
    Succeed(succeed::Args),
}

#[derive(Subcommand)]
enum AuditCommand {
    /// Print the log in plain English, and an account of every opening.
    #[command(long_about = audit::SHOW)]
    Show {
        /// The coordinator's folder.
        #[arg(long)]
        dir: PathBuf,
        /// First line to print.
        #[arg(long, default_value_t = 1)]
        from: u64,
    },
    /// Write the log to a file that anybody can verify.
    #[command(long_about = audit::EXPORT)]
    Export {
        /// The coordinator's folder.
        #[arg(long)]
        dir: PathBuf,
        /// File to write; an existing one is not overwritten.
        #[arg(long)]
        out: PathBuf,
    },
}

#[derive(Subcommand)]
enum ModelCommand {
    /// Say what evaluating a model costs, and whether it can be evaluated.
    #[command(long_about = model::PLAN)]
    Plan(model::PlanArgs),
    /// Compile a model and have the daemon answer it.
    #[command(long_about = model::ADD)]
    Add(model::AddArgs),
    /// Show the models that are answered.
    #[command(long_about = model::LIST)]
    List {
        /// The coordinator's folder.
        #[arg(long)]
        dir: PathBuf,
    },
    /// Remove a model, or one version of it.
    #[command(long_about = model::REMOVE)]
    Remove {
        /// Name, or digest of a version.
        model: String,
        /// The coordinator's folder.
        #[arg(long)]
        dir: PathBuf,
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
    if cli.version {
        return output::finish("version", cli.format, Ok(version::outcome(cli.verbose)));
    }
    let Some(command) = cli.command else {
        Cli::command()
            .error(ErrorKind::MissingSubcommand, "a command is needed; see --help")
            .exit()
    };
    let (name, result) = match command {
        Command::Init { dir } => ("init", init::run(&dir)),
        Command::Study(StudyCommand::Check { file }) => ("study check", study::check(&file)),
        Command::Study(StudyCommand::Freeze { file, dir, cards }) => {
            ("study freeze", study::freeze(&file, &dir, &cards))
        }
        Command::Audit(AuditCommand::Show { dir, from }) => ("audit show", audit::show(&dir, from)),
        Command::Audit(AuditCommand::Export { dir, out }) => ("audit export", audit::export(&dir, &out)),
        Command::Serve { dir, hold_before } => ("serve", serve::run(&dir, hold_before)),
        Command::Study(StudyCommand::Succeed(args)) => ("study succeed", succeed::run(&args)),
        Command::Model(ModelCommand::Plan(args)) => ("model plan", model::plan(&args)),
        Command::Model(ModelCommand::Add(args)) => ("model add", model::add(&args)),
        Command::Model(ModelCommand::List { dir }) => ("model list", model::list(&dir)),
        Command::Model(ModelCommand::Remove { model, dir }) => ("model remove", model::remove(&dir, &model)),
        Command::Status { dir } => ("status", status::run(&dir)),
    };
    output::finish(name, cli.format, result)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            "party init",
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
        assert_eq!(named, ["init", "study", "serve", "audit", "model", "status"]);
    }

    #[test]
    fn verbose_goes_with_version() {
        let cli = Cli::try_parse_from(["coordinator", "--version", "--verbose"]).unwrap();
        assert!(cli.version && cli.verbose && cli.command.is_none());
        assert!(Cli::try_parse_from(["coordinator", "--verbose"]).is_err());
    }
}
