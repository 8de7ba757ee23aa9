//! The commands: each parses its arguments, asks the library, and says one thing on standard output.

mod args;
mod audit;
mod data;
mod init;
mod keys;
mod model;
mod opened;
mod output;
mod passphrase;
mod quantise;
mod query;
mod record;
mod serve;
mod state;
mod status;
mod study;
mod train;
mod version;

use crate::home::Home;
use crate::{PartyError, succession};
use args::{Cli, Command};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use output::Output;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    main_from(std::env::args_os())
}

/// Runs a command line; the first argument is the name of the program. Another executable that links this crate can thereby be
/// a party, as the quickstart is.
pub fn main_from(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = Cli::parse_from(args);
    let name = match &cli.command {
        Some(command) if !cli.version => command.name(),
        _ => "version",
    };
    let output = Output::new(cli.format, name);
    let result = match cli.command {
        _ if cli.version => version::say(cli.verbose, &output),
        None => Cli::command()
            .error(ErrorKind::MissingSubcommand, "a command is needed; see --help")
            .exit(),
        Some(command) => run(command, &output),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => output.fail(&error),
    }
}

/// The folder of an existing party; a change to a successor study that was interrupted is finished first.
fn open(dir: &Path) -> Result<Home, PartyError> {
    let home = Home::open(dir)?;
    succession::finish(&home)?;
    Ok(home)
}

fn run(command: Command, output: &Output) -> anyhow::Result<()> {
    match command {
        Command::Init(args) => init::run(&args, output),
        Command::Keys(args::KeysCommand { command }) => match command {
            args::KeysAction::Backup(args) => keys::backup(&args, output),
            args::KeysAction::Verify(args) => keys::verify(&args, output),
            args::KeysAction::Restore(args) => keys::restore(&args, output),
        },
        Command::Study(args::StudyCommand {
            command: args::StudyAction::Sign(args),
        }) => study::sign(&args, output),
        Command::Serve(args) => serve::run(&args, output),
        Command::Status(args) => status::run(&args, output),
        Command::Query(args) => query::run(&args, output),
        Command::Opened(args) => opened::run(&args, output),
        Command::Data(args::DataCommand {
            command: args::DataAction::Describe(args),
        }) => data::describe(&args, output),
        Command::Data(args::DataCommand {
            command: args::DataAction::Split(args),
        }) => data::split(&args, output),
        Command::Train(args) => train::run(&args, output),
        Command::Model(args::ModelCommand { command }) => match command {
            args::ModelAction::Show(args) => model::show(&args, output),
            args::ModelAction::Import(args) => model::import(&args, output),
            args::ModelAction::Ensemble(args) => model::ensemble(&args, output),
            args::ModelAction::Record(args) => record::run(&args, output),
            args::ModelAction::Quantise(args) => quantise::run(&args, output),
            args::ModelAction::Export(args) => model::export(&args, output),
        },
        Command::Audit(args::AuditCommand {
            command: args::AuditAction::Verify(args),
        }) => audit::verify(&args, output),
        Command::Audit(args::AuditCommand {
            command: args::AuditAction::Show(args),
        }) => audit::show(&args, output),
        Command::State(args::StateCommand { command }) => match command {
            args::StateAction::Export(args) => state::export(&args, output),
            args::StateAction::Import(args) => state::import(&args, output),
        },
    }
}
