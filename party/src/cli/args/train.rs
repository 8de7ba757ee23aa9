//! Arguments of `party train`.

use clap::Args;
use std::path::PathBuf;

/// Arguments of `train`.
#[derive(Debug, Args)]
pub(in crate::cli) struct TrainArgs {
    /// The network (.toml)
    pub(in crate::cli) network: PathBuf,
    /// How it is trained (.toml); configs/recipes has some
    #[arg(long)]
    pub(in crate::cli) recipe: PathBuf,
    /// Another seed than the recipe's
    #[arg(long)]
    pub(in crate::cli) seed: Option<u64>,
    /// Data to learn from: a file, or a folder of images
    #[arg(long)]
    pub(in crate::cli) data: PathBuf,
    /// What every sample is expected to look like (.toml)
    #[arg(long)]
    pub(in crate::cli) schema: PathBuf,
    /// Share of the data that is not learnt from but judges the network after each epoch; 0 for none
    #[arg(long, default_value_t = 0.2, value_parser = share)]
    pub(in crate::cli) hold_out: f64,
    /// Data on which only the finished model is evaluated
    #[arg(long)]
    pub(in crate::cli) test: Option<PathBuf>,
    /// What the test data look like (.toml), if they are in other columns or arrays than the data to learn from
    #[arg(long, requires = "test")]
    pub(in crate::cli) test_schema: Option<PathBuf>,
    /// Where the network is trained: cpu, cuda or wgpu
    #[arg(long, default_value = "cpu")]
    pub(in crate::cli) device: String,
    /// Threads; 0 for one per core
    #[arg(long, default_value_t = 0)]
    pub(in crate::cli) threads: usize,
    /// Folder to write; one with the checkpoint of the same training is gone on with
    #[arg(long)]
    pub(in crate::cli) out: PathBuf,
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..1.0).contains(share));
    share.ok_or_else(|| "a number from 0 to below 1 is needed".to_owned())
}
