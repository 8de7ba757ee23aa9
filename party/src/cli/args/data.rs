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
