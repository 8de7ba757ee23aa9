//! Arguments of `party query`.

use crate::query::{Packing, Revealed};
use clap::{ArgGroup, Args};
use galen_net::protocol::Engine;
use std::path::PathBuf;

/// Arguments of `query`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["data", "csv", "held_out", "list", "cancel"]))]
#[command(group = ArgGroup::new("patients").args(["data", "csv"]))]
pub(in crate::cli) struct QueryArgs {
    /// The model: a name, or the digest of a version, or its first 8 digits and more; without it, the study's own
    #[arg(requires = "patients")]
    pub(in crate::cli) model: Option<String>,
    /// The party's folder
    #[arg(long)]
    pub(in crate::cli) dir: PathBuf,
    /// How MODEL is evaluated: ckks (thousands of patients at a time, approximately), tfhe (patient by patient, exactly), or as it can be
    #[arg(long, requires = "model", value_enum, default_value_t = EngineChoice::Auto)]
    pub(in crate::cli) engine: EngineChoice,
    /// How patients are packed under ckks: many (slots), few (packed), or what is faster for their number
    #[arg(long, requires = "model", value_enum, default_value_t = Packing::Auto)]
    pub(in crate::cli) packing: Packing,
    /// What answers are to reveal, as far as the operator allows; less than scores only by tfhe
    #[arg(long, requires = "model", value_enum)]
    pub(in crate::cli) reveal: Option<Revealed>,
    /// Patients for MODEL: a file (.csv, .parquet, .npz, IDX), or a folder of images. Without MODEL, images for the model of a study on images
    #[arg(long)]
    pub(in crate::cli) data: Option<PathBuf>,
    /// What every sample of --data or --csv looks like (.toml); tables need it. The study's own model takes what the study says
    #[arg(long, requires = "model")]
    pub(in crate::cli) schema: Option<PathBuf>,
    /// How --data are stored, if the name does not tell: csv, parquet, npz, idx, folder
    // A requirement that an argument's conflict rules out is waived, so the conflict is named too.
    #[arg(long, requires = "data", conflicts_with_all = ["csv", "held_out"], value_name = "FORMAT", value_parser = clap::value_parser!(galen_data::Format))]
    pub(in crate::cli) stored_as: Option<galen_data::Format>,
    /// Values outside the range that MODEL takes become the nearest that it does
    #[arg(long, requires = "model")]
    pub(in crate::cli) clip: bool,
    /// Patients for MODEL: as --data FILE --stored-as csv. Without MODEL, for the own model of a study on tables: a CSV file with its columns; the class may be left out
    #[arg(long)]
    pub(in crate::cli) csv: Option<PathBuf>,
    /// Patients for the study's own model: this hospital's held-out ones
    #[arg(long)]
    pub(in crate::cli) held_out: bool,
    /// Show the models that can be asked
    #[arg(long)]
    pub(in crate::cli) list: bool,
    /// Take back the queries that are not finished
    #[arg(long)]
    pub(in crate::cli) cancel: bool,
    /// Where the results go, as CSV; without it, to standard output
    #[arg(long)]
    pub(in crate::cli) out: Option<PathBuf>,
    /// Check everything and say what would be sent and how long it takes, but send nothing of the patients
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
    /// Make a new key first: after an answer that was not usable
    #[arg(long)]
    pub(in crate::cli) new_key: bool,
}

/// Which engine is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum EngineChoice {
    /// ckks where it can, tfhe where less than scores is to be revealed or nothing else can
    Auto,
    /// Batches of thousands of patients, approximately
    Ckks,
    /// Patient by patient, exactly
    Tfhe,
}

impl EngineChoice {
    /// The engine, if one is asked for.
    pub(in crate::cli) fn engine(self) -> Option<Engine> {
        match self {
            Self::Auto => None,
            Self::Ckks => Some(Engine::Ckks),
            Self::Tfhe => Some(Engine::Tfhe),
        }
    }
}
