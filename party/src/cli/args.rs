//! The command line, and the help that teaches it.

mod data;
mod model;
mod query;
mod train;

pub(super) use data::{DataAction, DescribeArgs, Division, SplitArgs};
pub(super) use model::{
    EnsembleArgs, ExportArgs, ImportArgs, ModelAction, ModelShowArgs, QuantiseArgs, RecordArgs,
};
pub(super) use query::QueryArgs;
pub(super) use train::TrainArgs;

use super::output::Format;
use clap::{Args, Parser, Subcommand};
use galen_core::{Digest, PartyId};
use std::path::PathBuf;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed for a reason not listed here
  2  the command line is wrong
  3  folder, configuration, keys, study or a model's file
  4  the hospital's table or a data set (the message names file, line and column)
  5  the coordinator cannot be reached, or refused
  6  something does not verify: stop and call the other parties
  7  the study is closed without being completed

Every error has a stable code (P... or G...) and a hint. `--format json` puts one object on standard output:
{\"ok\": true, \"command\": ..., \"result\": ...} or {\"ok\": false, \"command\": ..., \"error\": {code, message, hint}}.";

/// A hospital's side of a Galen study.
#[derive(Debug, Parser)]
#[command(
    name = "party",
    about = "A hospital's side of a Galen study: train together, show nobody your patients",
    long_about = "A hospital's side of a Galen study.\n\n\
        Hospitals train one model together. Each keeps its patients; what leaves it is encrypted so that only sums over several \
        hospitals are ever readable. Afterwards it can have patients evaluated by the coordinator without showing them.\n\n\
        In order:\n  \
        party init --dir DIR --name NAME     make this hospital's keys; send card.toml to the operator\n  \
        party study sign FILE --dir DIR      read the frozen study that comes back, compare, sign\n  \
        party serve --dir DIR                take part until the study is over\n  \
        party status --dir DIR               see how far it is\n  \
        party query --dir DIR --held-out     ask the finished model, encrypted\n  \
        party audit verify --dir DIR         see what was opened to whom",
    after_help = EXIT_CODES,
    arg_required_else_help = true
)]
pub(super) struct Cli {
    /// What standard output holds: text for people, or one JSON object
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub(super) format: Format,
    /// Print the version
    #[arg(short = 'V', long)]
    pub(super) version: bool,
    /// With --version, also what the arithmetic runs on
    #[arg(long, requires = "version")]
    pub(super) verbose: bool,
    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a party: folder, keys, configuration
    #[command(
        long_about = "Makes a party's folder with its keys, a commented config.toml and the public identity card.\n\n\
        Needs: a name (a-z, 0-9, '-') that the study will use, and a folder that no party lives in. Nothing is ever \
        overwritten.\n\n\
        Example:\n  party init --dir /srv/galen --name st-mary --title \"St Mary's Hospital\" --coordinator galen.example.org:7700\n\n\
        Next: send card.toml to the study's operator and tell them its fingerprint by telephone. Make a backup with `party keys \
        backup`: keys of a signed study cannot be replaced."
    )]
    Init(InitArgs),
    /// Back up this party's keys, check a backup, restore one
    Keys(KeysCommand),
    /// Read, compare and sign the study
    Study(StudyCommand),
    /// Take part in the study
    #[command(
        long_about = "Runs the daemon: connects to the coordinator (outgoing UDP only) and takes part in every round until the \
        study is over.\n\n\
        Needs: a signed study (`party study sign`) and, for contributors, the table or images that config.toml names. They are \
        checked first; the first thing wrong with them is an error with file and place, such as line and column.\n\n\
        It may be killed and started again at any moment: it goes on from what is on the disk. SIGINT or SIGTERM stop it \
        in order.\n\n\
        Example:\n  party serve --dir /srv/galen\n\n\
        Next: `party status --dir /srv/galen` while it runs. It keeps running when the rounds are done, until the operator closes \
        the study or you stop it."
    )]
    Serve(DirArgs),
    /// Show how far the study is
    #[command(
        long_about = "Shows what the daemon last said of itself: phase, round, who is waited for, traffic, errors.\n\n\
        Needs: nothing but the folder; it works while `party serve` runs and after.\n\n\
        Example:\n  party status --dir /srv/galen --format json\n\n\
        Next: when it says that the study is finished, `party query`."
    )]
    Status(DirArgs),
    /// Have patients evaluated, encrypted
    #[command(
        long_about = "Encrypts patients under this hospital's own key, has the coordinator evaluate a model on them blindly, and \
        decrypts the results.\n\n\
        Needs: the role of a querier, and patients. MODEL is a name that --list shows, or the digest of a version; its patients are \
        --data: a table, an archive of arrays, IDX images, or a folder of images, described by --schema where the shape of a sample does not say it all; \
        --csv FILE says that the file is a CSV table. \
        Without MODEL the study's own model is asked, once it is trained: --csv FILE with the columns of the study (the class may be left \
        out), --data FILE or FOLDER of images where the study is on images, or --held-out. The key is made once and kept encrypted; its public evaluation part (some megabytes) is uploaded once.\n\n\
        A model is evaluated by ckks, approximately and thousands of patients at a time, or by tfhe, exactly and patient by patient; --engine chooses where \
        there are both. By ckks, few patients are packed into one ciphertext where the operator offers that and it is faster; --dry-run shows both ways, \
        and --packing takes one. By tfhe, answers reveal no more than --reveal says, as far as the operator allows it.\n\n\
        Results are rounded to the precision that is planned; raw decryptions are never written, because they would leak \
        the key when passed on. A query that was interrupted goes on when the same command is given again.\n\n\
        Example:\n  party query --list --dir /srv/galen\n  \
        party query heart --data new.csv --schema heart.toml --dir /srv/galen --dry-run\n  \
        party query heart --csv new.csv --schema heart.toml --dir /srv/galen --out results.csv\n  \
        party query heart --data new.csv --schema heart.toml --dir /srv/galen --engine tfhe --reveal decision\n  \
        party query --csv new-patients.csv --dir /srv/galen --out probabilities.csv\n  \
        party query --data new-scans/ --dir /srv/galen --out probabilities.csv\n\n\
        Next: the CSV has one line per patient: what tells it apart in the file, label, probabilities and scores."
    )]
    Query(QueryArgs),
    /// Print every opened sum
    #[command(
        long_about = "Prints every sum that this party opened: round, purpose, contributors, and the sums as integers, exactly as \
        they were added up. For the hospital's own records.\n\n\
        Needs: at least one opened round. The sums are read from the sealed files in shared/; the daemon may run.\n\n\
        Example:\n  party opened --dir /srv/galen --format json > sums.json"
    )]
    Opened(DirArgs),
    /// Data sets of tables, signals and images
    Data(DataCommand),
    /// Train a network on one's own data
    #[command(
        long_about = "Trains a network on this hospital's own data by a recipe, for encrypted evaluation. Nothing leaves this machine.\n\n\
        Needs: a network, a recipe and a schema (.toml files), and the data. Part of the data (--hold-out) judges the network after each \
        epoch. A run that was interrupted goes on where it stopped when the same command is given again, and ends in the same bits.\n\n\
        Example:\n  party train configs/models/mnist/network.toml --recipe configs/recipes/mnist.toml \\\n    \
        --schema configs/models/mnist/data.toml --data train-images-idx3-ubyte.gz --test t10k-images-idx3-ubyte.gz --out digits\n\n\
        Next: report.html in the folder shows curves, errors and ranges; `party model show` shows model.safetensors, which is as \
        confidential as the data that its ranges were seen in. docs/training.md explains recipes."
    )]
    Train(TrainArgs),
    /// The trained model
    Model(ModelCommand),
    /// The audit log: who was let do what, and what was opened to whom
    Audit(AuditCommand),
    /// The derived state, for a hospital that joins
    State(StateCommand),
}

impl Command {
    /// The command's name, as in the JSON object.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Init(_) => "init",
            Self::Keys(keys) => match keys.command {
                KeysAction::Backup(_) => "keys backup",
                KeysAction::Verify(_) => "keys verify",
                KeysAction::Restore(_) => "keys restore",
            },
            Self::Study(_) => "study sign",
            Self::Serve(_) => "serve",
            Self::Status(_) => "status",
            Self::Query(_) => "query",
            Self::Opened(_) => "opened",
            Self::Data(DataCommand {
                command: DataAction::Describe(_),
            }) => "data describe",
            Self::Data(DataCommand {
                command: DataAction::Split(_),
            }) => "data split",
            Self::Train(_) => "train",
            Self::Model(model) => match model.command {
                ModelAction::Show(_) => "model show",
                ModelAction::Import(_) => "model import",
                ModelAction::Ensemble(_) => "model ensemble",
                ModelAction::Record(_) => "model record",
                ModelAction::Quantise(_) => "model quantise",
                ModelAction::Export(_) => "model export",
            },
            Self::Audit(AuditCommand {
                command: AuditAction::Verify(_),
            }) => "audit verify",
            Self::Audit(AuditCommand {
                command: AuditAction::Show(_),
            }) => "audit show",
            Self::State(state) => match state.command {
                StateAction::Export(_) => "state export",
                StateAction::Import(_) => "state import",
            },
        }
    }
}

/// Arguments of `init`.
#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// Folder to make the party in
    #[arg(long)]
    pub(super) dir: PathBuf,
    /// Name in the study: 1 to 32 characters of a-z, 0-9 and '-', starting with a letter
    #[arg(long)]
    pub(super) name: PartyId,
    /// The hospital's full name, for the study file
    #[arg(long, default_value = "")]
    pub(super) title: String,
    /// Address of the coordinator, host:port, for config.toml
    #[arg(long)]
    pub(super) coordinator: Option<String>,
    /// Path of the hospital's table or images, for config.toml; a relative path is relative to the folder
    #[arg(long)]
    pub(super) data: Option<String>,
}

/// Commands about the keys.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(super) struct KeysCommand {
    #[command(subcommand)]
    pub(super) command: KeysAction,
}

/// What can be done with the keys.
#[derive(Debug, Subcommand)]
pub(super) enum KeysAction {
    /// Write an encrypted backup of the keys
    #[command(
        long_about = "Writes the long-term keys, the card, the configuration and the signed study to a file, encrypted under a passphrase.\n\n\
        Needs: a party's folder; the daemon may run. The passphrase (12 bytes or more) is asked for twice, or comes from \
        --passphrase-file or the variable GALEN_PASSPHRASE; it is never an argument. An existing file is not overwritten.\n\n\
        Not in the backup, on purpose: one-round keys and contributions, which must be gone when their round is over; the key of the \
        local storage; what was opened, which a restored party fetches again; the hospital's table; keys of queries.\n\n\
        Example:\n  party keys backup st-mary.galen-backup --dir /srv/galen\n\n\
        Next: `party keys verify FILE`, then keep it elsewhere than the machine, and the passphrase elsewhere than the file. Make another \
        after signing a study."
    )]
    Backup(BackupArgs),
    /// Say what is in a backup, and whether it is good
    #[command(
        long_about = "Opens a backup and says for which party and study it is, when it was made, and whether its keys are those of its card, \
        of the study, and of this party. Writes nothing.\n\n\
        Needs: the file and its passphrase. With --dir the backup is compared with the party in that folder, with --study with the \
        card in that frozen study.\n\n\
        Example:\n  party keys verify st-mary.galen-backup --dir /srv/galen"
    )]
    Verify(KeysVerifyArgs),
    /// Make a party from a backup, on a new machine
    #[command(
        long_about = "Puts the party of a backup into a new folder. Nothing is ever overwritten.\n\n\
        Needs: the file, its passphrase, and a folder that does not exist or is empty. No other machine may serve as this party any \
        more: two that sign under the same keys contradict each other.\n\n\
        The folder is marked as restored: as a custodian the party begins anew and takes part in no attempt that it might have \
        answered before. As a contributor it fetches and opens again what was opened.\n\n\
        Example:\n  party keys restore st-mary.galen-backup --dir /srv/galen\n\n\
        Next: put the hospital's table where config.toml says, then `party serve --dir /srv/galen`."
    )]
    Restore(RestoreArgs),
}

/// Arguments of `keys backup`.
#[derive(Debug, Args)]
pub(super) struct BackupArgs {
    /// File to write; an existing one is not overwritten
    pub(super) file: PathBuf,
    /// The party's folder
    #[arg(long)]
    pub(super) dir: PathBuf,
    #[command(flatten)]
    pub(super) passphrase: PassphraseArgs,
}

/// Arguments of `keys verify`.
#[derive(Debug, Args)]
pub(super) struct KeysVerifyArgs {
    /// The backup
    pub(super) file: PathBuf,
    /// A party's folder: the backup must be of that party
    #[arg(long)]
    pub(super) dir: Option<PathBuf>,
    /// A frozen study: the backup must be of one of its parties
    #[arg(long)]
    pub(super) study: Option<PathBuf>,
    #[command(flatten)]
    pub(super) passphrase: PassphraseArgs,
}

/// Arguments of `keys restore`.
#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// The backup
    pub(super) file: PathBuf,
    /// Folder to make the party in; it must not exist, or be empty
    #[arg(long)]
    pub(super) dir: PathBuf,
    #[command(flatten)]
    pub(super) passphrase: PassphraseArgs,
}

/// Where the passphrase comes from, if it is not asked for.
#[derive(Debug, Args)]
pub(super) struct PassphraseArgs {
    /// File whose first line is the passphrase; without it, GALEN_PASSPHRASE is looked at, then it is asked for
    #[arg(long, value_name = "FILE")]
    pub(super) passphrase_file: Option<PathBuf>,
}

/// Commands about the study.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(super) struct StudyCommand {
    #[command(subcommand)]
    pub(super) command: StudyAction,
}

/// What can be done with a study.
#[derive(Debug, Subcommand)]
pub(super) enum StudyAction {
    /// Sign the frozen study
    #[command(
        long_about = "Reads the frozen study, checks that it knows this party under its keys, shows what it means, and signs it.\n\n\
        Needs: the frozen study file from the operator (`coordinator study freeze` makes it). If the data that config.toml names are \
        there, they are checked against the study too.\n\n\
        Before you agree: compare the digest with the other parties by telephone. Everything that follows is bound to it.\n\n\
        Example:\n  party study sign study.toml --dir /srv/galen\n  \
        party study sign study.toml --dir /srv/galen --digest 3f2a...   (no question asked: the digest was compared)\n\n\
        A successor of the study that this party takes part in (a hospital joins or leaves) is signed in the same folder, while the daemon \
        does not run. From then on the old study is closed here: what was drawn for it is erased.\n\n\
        Next: `party serve --dir /srv/galen`."
    )]
    Sign(SignArgs),
}

/// Arguments of `study sign`.
#[derive(Debug, Args)]
pub(super) struct SignArgs {
    /// The frozen study
    pub(super) file: PathBuf,
    /// The party's folder
    #[arg(long)]
    pub(super) dir: PathBuf,
    /// The digest agreed by telephone, 64 hexadecimal digits; signs only this study, without asking
    #[arg(long)]
    pub(super) digest: Option<Digest>,
    /// Sign without asking
    #[arg(long)]
    pub(super) yes: bool,
}

/// A party's folder.
#[derive(Debug, Args)]
pub(super) struct DirArgs {
    /// The party's folder
    #[arg(long)]
    pub(super) dir: PathBuf,
}

/// Commands about data sets.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(super) struct DataCommand {
    #[command(subcommand)]
    pub(super) command: DataAction,
}

/// Commands about the model.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(super) struct ModelCommand {
    #[command(subcommand)]
    pub(super) command: ModelAction,
}

/// Commands about the audit log.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(super) struct AuditCommand {
    #[command(subcommand)]
    pub(super) command: AuditAction,
}

/// What can be done with an audit log.
#[derive(Debug, Subcommand)]
pub(super) enum AuditAction {
    /// Verify a log offline, and say what was opened to whom
    #[command(
        long_about = "Verifies an audit log without asking anybody: that the coordinator signed every line, that no line is missing, \
        exchanged or changed, and that what the lines tell keeps the rules of the study (certificates with enough custodians' \
        signatures, sets that are large enough, no contribution and no quantity opened twice, no second attempt without a certificate \
        that the first was given up). Then it prints in words what was opened to whom, when and over how many contributors.\n\n\
        Needs: this party's folder, whose own copy is verified; or FILE with the frozen study (--study). With both FILE and --dir, the \
        two logs are also compared with each other, which shows whether the coordinator told two hospitals different things. The daemon \
        may run.\n\n\
        Any fault ends with exit code 6 and the number of the line.\n\n\
        Example:\n  party audit verify --dir /srv/galen\n  \
        party audit verify audit.jsonl --study study.toml\n  \
        party audit verify other-hospital.jsonl --dir /srv/galen\n\n\
        Next: compare the head with another hospital by telephone: `party audit verify --dir DIR --head DIGEST` tells whether the \
        head that they read out is on this log."
    )]
    Verify(VerifyArgs),
    /// Print the log line by line in plain English
    #[command(
        long_about = "Verifies the links and signatures of this party's copy of the audit log, or of FILE, and prints every line in plain \
        English.\n\n\
        Needs: as `party audit verify`. The daemon may run.\n\n\
        Example:\n  party audit show --dir /srv/galen --from 100\n\n\
        Next: `party audit verify` checks what the lines tell against the rules of the study."
    )]
    Show(ShowArgs),
}

/// Which log, and by which study.
#[derive(Debug, Args)]
pub(super) struct LogArgs {
    /// A file of JSON lines: an export of the coordinator, or audit/log.jsonl of a hospital; without it, this party's own copy
    #[arg(required_unless_present = "dir")]
    pub(super) file: Option<PathBuf>,
    /// The party's folder
    #[arg(long, required_unless_present = "study")]
    pub(super) dir: Option<PathBuf>,
    /// The frozen study, where there is no party's folder
    #[arg(long, conflicts_with = "dir", requires = "file")]
    pub(super) study: Option<PathBuf>,
}

/// Arguments of `audit verify`.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    pub(super) log: LogArgs,
    /// A head that another hospital read out, 64 hexadecimal digits: must be on this log
    #[arg(long)]
    pub(super) head: Option<Digest>,
}

/// Arguments of `audit show`.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    pub(super) log: LogArgs,
    /// First line to print
    #[arg(long, default_value_t = 1)]
    pub(super) from: u64,
}

/// Commands about the derived state.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(super) struct StateCommand {
    #[command(subcommand)]
    pub(super) command: StateAction,
}

/// What can be done with the derived state.
#[derive(Debug, Subcommand)]
pub(super) enum StateAction {
    /// Seal the derived state for a hospital that joins
    #[command(
        long_about = "Writes what follows from the opened sums so far (the statistics and the model) to a file, sealed to the card of a hospital \
        that joins. Nobody else can read it.\n\n\
        Needs: a successor study with that hospital, signed here, and the state that it starts from: export before the study goes on.\n\n\
        Example:\n  party state export for-basel.galen-state --to basel/card.toml --dir /srv/galen\n\n\
        Next: send the file to the hospital that joins; any way will do."
    )]
    Export(StateExportArgs),
    /// Take in the state that another member exported
    #[command(
        long_about = "Takes in the derived state that a member exported for this hospital. It is accepted only if it is the state that the \
        frozen study names, whoever sent it.\n\n\
        Needs: a signed successor study, and a daemon that does not run.\n\n\
        Example:\n  party state import for-basel.galen-state --dir /srv/galen\n\n\
        Next: `party serve --dir /srv/galen`."
    )]
    Import(StateImportArgs),
}

/// Arguments of `state export`.
#[derive(Debug, Args)]
pub(super) struct StateExportArgs {
    /// File to write; an existing one is not overwritten
    pub(super) file: PathBuf,
    /// Card of the hospital that joins
    #[arg(long, value_name = "CARD")]
    pub(super) to: PathBuf,
    /// The party's folder
    #[arg(long)]
    pub(super) dir: PathBuf,
}

/// Arguments of `state import`.
#[derive(Debug, Args)]
pub(super) struct StateImportArgs {
    /// The exported state
    pub(super) file: PathBuf,
    /// The party's folder
    #[arg(long)]
    pub(super) dir: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// Every command explains what it does, what it needs and shows an example; every argument is explained.
    #[test]
    fn every_help_teaches() {
        fn look(command: &clap::Command, path: &str) {
            for argument in command
                .get_arguments()
                .filter(|a| a.get_id() != "help" && a.get_id() != "version")
            {
                assert!(argument.get_help().is_some(), "{path} {}", argument.get_id());
            }
            let mut leaf = true;
            for inner in command.get_subcommands().filter(|c| c.get_name() != "help") {
                leaf = false;
                look(inner, &format!("{path} {}", inner.get_name()));
            }
            if leaf {
                let long = command
                    .get_long_about()
                    .unwrap_or_else(|| panic!("{path}"))
                    .to_string();
                assert!(
                    long.contains("Needs:") && long.contains(&format!("Example:\n  {path} ")),
                    "{path}: {long}"
                );
                // What is left of a line that was to be continued.
                assert!(!long.contains("        "), "{path}: {long}");
            }
        }
        look(&Cli::command(), "party");
        let help = Cli::command().render_long_help().to_string();
        for code in ["Exit codes", "study sign", "party init --dir"] {
            assert!(help.contains(code), "{help}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let parse = |args: &[&str]| Cli::try_parse_from([&["party", "query", "--dir", "d"], args].concat());
        assert!(parse(&[]).is_err());
        assert!(parse(&["--csv", "x", "--held-out"]).is_err());
        assert!(parse(&["--data", "x", "--held-out"]).is_err() && parse(&["--data", "x", "--clip"]).is_err());
        assert!(parse(&["--data", "x", "--schema", "s"]).is_err());
        assert!(
            parse(&["--data", "x", "--stored-as", "npz"]).is_ok() && parse(&["m", "--held-out"]).is_err()
        );
        assert!(parse(&["m", "--data", "x", "--schema", "s", "--clip"]).is_ok());
        assert!(parse(&["--csv", "x"]).is_ok() && parse(&["--held-out", "--format", "json"]).is_ok());
        assert!(parse(&["m", "--csv", "x", "--schema", "s", "--clip"]).is_ok());
        assert!(parse(&["m"]).is_err() && parse(&["m", "--list"]).is_err());
        assert!(parse(&["m", "--csv", "x", "--data", "y"]).is_err());
        assert!(parse(&["m", "--csv", "x", "--stored-as", "npz"]).is_err());
        assert!(parse(&["--held-out", "--stored-as", "npz"]).is_err());
        assert!(
            parse(&["--csv", "x", "--schema", "s"]).is_err() && parse(&["--held-out", "--clip"]).is_err()
        );
        let audit = |args: &[&str]| Cli::try_parse_from([&["party", "audit", "verify"], args].concat());
        assert!(audit(&[]).is_err() && audit(&["x"]).is_err() && audit(&["--study", "s"]).is_err());
        assert!(audit(&["x", "--study", "s", "--dir", "d"]).is_err());
        assert!(audit(&["--dir", "d"]).is_ok() && audit(&["x", "--dir", "d"]).is_ok());
        assert!(audit(&["x", "--study", "s"]).is_ok() && audit(&["--dir", "d", "--head", "00"]).is_err());
        assert!(Cli::try_parse_from(["party", "init", "--dir", "d", "--name", "Not A Name"]).is_err());
    }
}
