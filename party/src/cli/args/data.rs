//! Arguments of `party data`.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// What can be done with a data set.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum DataAction {
    /// Check a data set against its schema and tell what it holds
    #[command(
        long_about = "Reads a whole data set as training would, and prints how many samples, patients, classes and hospitals there are, and the \
        range of every feature or channel. The first thing that does not fit the schema is an error that names file and place, but not what \
        stands there.\n\n\
        Needs: the data (.csv, .parquet, .npz, IDX, or a folder of PNG, JPEG or DICOM images) and a schema (.toml).\n\n\
        Example:\n  party data describe patients.parquet --schema heart.toml\n  \
        party --format json data describe scans/ --schema scans.toml\n\n\
        Next: docs/data.md explains schemas and formats."
    )]
    Describe(DescribeArgs),
    /// Divide a table among hospitals, real or simulated, a file for each
    #[command(
        long_about = "Writes the rows of a table out as one CSV file for each hospital, to rehearse a federation with: by the column of sites that the \
        schema names, evenly (every hospital has the same number of patients of each class), or with the hospitals' shares of each class drawn from a \
        Dirichlet distribution (a small --alpha gives hospitals of few classes). Says how many samples of each class every file has. Rows and cells \
        stay as they are, and all samples of a patient stay together where the schema names a column of patients.\n\n\
        Needs: a table (.csv, .csv.gz) with a header line and a schema (.toml). The folder is made; files that exist are not overwritten.\n\n\
        Example:\n  party data split all.csv --schema heart.toml --by site --out sites\n  \
        party data split all.csv --schema heart.toml --by dirichlet --hospitals 5 --alpha 0.3 --seed 1 --out sites\n\n\
        Next: name the files in a study's folder and rehearse it with `quickstart --study`."
    )]
    Split(SplitArgs),
}

/// How samples are dealt out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum Division {
    /// By the column of sites.
    Site,
    /// The same number of each class for everybody.
    Even,
    /// Shares of each class from a Dirichlet distribution.
    Dirichlet,
}

/// Arguments of `data split`.
#[derive(Debug, Args)]
pub(in crate::cli) struct SplitArgs {
    /// The table (.csv, .csv.gz)
    pub(in crate::cli) data: PathBuf,
    /// What every sample is expected to look like (.toml)
    #[arg(long)]
    pub(in crate::cli) schema: PathBuf,
    /// How the samples are dealt out
    #[arg(long, value_enum)]
    pub(in crate::cli) by: Division,
    /// Number of simulated hospitals
    #[arg(long, value_name = "NUMBER", required_if_eq_any([("by", "even"), ("by", "dirichlet")]))]
    pub(in crate::cli) hospitals: Option<usize>,
    /// Concentration of the Dirichlet distribution, 0.01 to 1000000: small for hospitals of few classes, large for hospitals that are alike
    #[arg(long, required_if_eq("by", "dirichlet"))]
    pub(in crate::cli) alpha: Option<f64>,
    /// Fixes who gets what
    #[arg(long, default_value_t = 1)]
    pub(in crate::cli) seed: u64,
    /// The folder for the files
    #[arg(long)]
    pub(in crate::cli) out: PathBuf,
}

/// Arguments of `data describe`.
#[derive(Debug, Args)]
pub(in crate::cli) struct DescribeArgs {
    /// The data: a file, or a folder of images
    pub(in crate::cli) data: PathBuf,
    /// What every sample is expected to look like (.toml)
    #[arg(long)]
    pub(in crate::cli) schema: PathBuf,
    /// How the data are stored, if the name does not tell: csv, parquet, npz, idx, folder
    #[arg(long, value_name = "FORMAT", value_parser = clap::value_parser!(galen_data::Format))]
    pub(in crate::cli) stored_as: Option<galen_data::Format>,
}
