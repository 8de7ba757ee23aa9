//! Arguments of `party model`.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// What can be done with the model.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ModelAction {
    /// Show a network: layers, shapes, parameters, depth and encrypted cost
    #[command(
        long_about = "Shows a network as a table: its layers, the shapes between them, their parameters, and what evaluating it encrypted is \
        estimated to need.\n\n\
        Needs: a file, which is a network (.toml), or a model (.safetensors or .onnx).\n\n\
        Example:\n  party model show net.toml\n  party --format json model show model.safetensors\n  \
        party model show --schema > net.schema.json\n\n\
        Next: docs/models.md explains the layers and how levels and operations are counted."
    )]
    Show(ModelShowArgs),
    /// Make a model file from an ONNX file, or from a network and weights trained elsewhere
    #[command(
        long_about = "Makes a model file (safetensors, f64) from an ONNX file, or from a network (.toml) and another framework's weights \
        (.safetensors, of 16, 32 or 64 bits, with PyTorch's names).\n\n\
        Weights find their layers in the order of their modules' names; a mapping (--map, a TOML file of lines such as \
        layer0 = \"features.0\") names those for which that is not right.\n\n\
        Needs: the ONNX file; or the network and the weights.\n\n\
        Example:\n  party model import net.onnx --out model.safetensors\n  \
        party model import weights.safetensors --network net.toml --map names.toml --out model.safetensors\n\n\
        Next: `party model show model.safetensors`."
    )]
    Import(ImportArgs),
    /// Join trained models into one that gives the mean of their outputs
    #[command(
        long_about = "Joins trained models side by side into one that gives the mean of their outputs, which is right more often than each of \
        them. It takes the levels of the deepest one and the work of all. The mean goes into the weights of the last layers, which must be dense.\n\n\
        Needs: two or more models with the same input, outputs, classes and standardisation, say trained by the same recipe with \
        different seeds (`party train --seed`).\n\n\
        Example:\n  party model ensemble one.safetensors two.safetensors three.safetensors --out model.safetensors\n\n\
        Next: `party model show model.safetensors`."
    )]
    Ensemble(EnsembleArgs),
    /// Record in a model file where patients' values lie, by which the compiler for encrypted evaluation goes
    #[command(
        long_about = "Runs a model on data and writes into its file between which values the inputs and what enters the activations lie, in place \
        of what it said before. `coordinator model plan` and `add` compile for batches (CKKS) by these ranges. `party train` records them by itself; \
        imported models need it.\n\n\
        Needs: the model, and data like those that it was trained on, as many as there are (--schema for a table; a schema with classes names those of \
        the model too). A range is the extreme of one or two patients: the file tells of them.\n\n\
        Example:\n  party model record imported.safetensors --data train-images-idx3-ubyte.gz --schema digits.toml --out model.safetensors\n\n\
        Next: `coordinator model plan model.safetensors`."
    )]
    Record(RecordArgs),
    /// Put a trained network, or trees, on integers for exact encrypted evaluation
    #[command(
        long_about = "Quantises a trained network of dense, convolutional and pooling layers with ReLU, sign, sigmoid, tanh or polynomials, by \
        patients that show how its values are distributed; or gradient-boosted trees from XGBoost's JSON dump (.json), whose comparisons are kept as they are. \
        The result is evaluated exactly under TFHE: what is decrypted is what the plain integers give, and nothing but what the operator lets answers reveal.\n\n\
        With --spiking, a network of ReLU is run as integrate-and-fire neurons over a few time steps.\n\n\
        Needs: the model; patients (--data, with --schema for a table), or for trees a schema of their features. The file holds thresholds that lie \
        between values of these patients, and every hospital that asks the model gets it.\n\n\
        Example:\n  party model quantise model.safetensors --data patients.csv --schema heart.toml --out heart.json\n  \
        party model quantise trees.json --schema heart.toml --out heart.json\n  \
        party model quantise digits.safetensors --data t10k-images-idx3-ubyte.gz --spiking 2 --out digits.json\n\n\
        Next: the operator registers the file: coordinator model add heart.json --reveal label."
    )]
    Quantise(QuantiseArgs),
    /// Write a model to a file that other programs read
    #[command(
        long_about = "Writes a model to a safetensors file (f64) or, where the name ends in .onnx, to an ONNX file (f32): the trained model, as \
        this party derived it from the opened sums, or one from a file.\n\n\
        Needs: for the trained model a party that contributes, and all training rounds done.\n\n\
        Example:\n  party model export --dir /srv/galen --out model.safetensors\n  \
        party model export --model model.safetensors --out model.onnx\n\n\
        Next: the file opens with any safetensors or ONNX library; the trained model's digest is in `party status`."
    )]
    Export(ExportArgs),
}

/// Arguments of `model show`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ModelShowArgs {
    /// A network (.toml) or a model (.safetensors, .onnx)
    #[arg(required_unless_present = "schema")]
    pub(in crate::cli) file: Option<PathBuf>,
    /// Print the JSON schema of a network's file instead
    #[arg(long, conflicts_with = "file")]
    pub(in crate::cli) schema: bool,
}

/// Arguments of `model import`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ImportArgs {
    /// A model (.onnx) or weights (.safetensors)
    pub(in crate::cli) file: PathBuf,
    /// The network that the weights are for
    #[arg(long, value_name = "NETWORK")]
    pub(in crate::cli) network: Option<PathBuf>,
    /// Which layer takes which tensors
    #[arg(long, value_name = "NAMES", requires = "network")]
    pub(in crate::cli) map: Option<PathBuf>,
    /// File to write; an existing one is not overwritten
    #[arg(long)]
    pub(in crate::cli) out: PathBuf,
}

/// Arguments of `model ensemble`.
#[derive(Debug, Args)]
pub(in crate::cli) struct EnsembleArgs {
    /// The models (.safetensors, .onnx)
    #[arg(required = true, num_args = 2.., value_name = "MODEL")]
    pub(in crate::cli) members: Vec<PathBuf>,
    /// File to write, .safetensors or .onnx; an existing one is not overwritten
    #[arg(long)]
    pub(in crate::cli) out: PathBuf,
}

/// Arguments of `model record`.
#[derive(Debug, Args)]
pub(in crate::cli) struct RecordArgs {
    /// A model (.safetensors, .onnx)
    #[arg(value_name = "MODEL")]
    pub(in crate::cli) file: PathBuf,
    /// Data like those that the model was trained on
    #[arg(long)]
    pub(in crate::cli) data: PathBuf,
    /// What every sample of --data looks like (.toml); tables need it
    #[arg(long)]
    pub(in crate::cli) schema: Option<PathBuf>,
    /// How --data are stored, if the name does not tell: csv, parquet, npz, idx, folder
    #[arg(long, value_name = "FORMAT", value_parser = clap::value_parser!(galen_data::Format))]
    pub(in crate::cli) stored_as: Option<galen_data::Format>,
    /// File to write (.safetensors); an existing one is not overwritten
    #[arg(long)]
    pub(in crate::cli) out: PathBuf,
}

/// Arguments of `model quantise`.
#[derive(Debug, Args)]
pub(in crate::cli) struct QuantiseArgs {
    /// A model (.safetensors, .onnx), or a dump of XGBoost's trees (.json)
    #[arg(value_name = "MODEL")]
    pub(in crate::cli) file: PathBuf,
    /// Patients, of whom no classes are needed
    #[arg(long)]
    pub(in crate::cli) data: Option<PathBuf>,
    /// What every sample of --data looks like (.toml); tables and trees need it
    #[arg(long)]
    pub(in crate::cli) schema: Option<PathBuf>,
    /// How --data are stored, if the name does not tell: csv, parquet, npz, idx, folder
    #[arg(long, requires = "data", value_name = "FORMAT", value_parser = clap::value_parser!(galen_data::Format))]
    pub(in crate::cli) stored_as: Option<galen_data::Format>,
    /// Patients to calibrate on: the first so many
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(8..=100_000))]
    pub(in crate::cli) rows: u32,
    /// Bits of the tables that are read at once: 6 is finer, and costs more
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(3..=6))]
    pub(in crate::cli) table_bits: u32,
    /// Bits of a score
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u32).range(4..=20))]
    pub(in crate::cli) score_bits: u32,
    /// Run a network of ReLU as spiking neurons over this many time steps
    #[arg(long, value_name = "STEPS", requires = "data", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(in crate::cli) spiking: Option<u32>,
    /// Of spiking neurons, which fire at a potential of 2^BITS
    #[arg(long, value_name = "BITS", default_value_t = 4, requires = "spiking", value_parser = clap::value_parser!(u32).range(1..=12))]
    pub(in crate::cli) threshold_bits: u32,
    /// Of trees: the base score, as a margin
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    pub(in crate::cli) base_margin: f64,
    /// File to write (.json); an existing one is not overwritten
    #[arg(long)]
    pub(in crate::cli) out: PathBuf,
}

/// Arguments of `model export`.
#[derive(Debug, Args)]
#[group(skip)]
pub(in crate::cli) struct ExportArgs {
    /// The folder of the party whose trained model is written
    #[arg(long, required_unless_present = "model", conflicts_with = "model")]
    pub(in crate::cli) dir: Option<PathBuf>,
    /// A model (.safetensors, .onnx) that is written instead
    #[arg(long)]
    pub(in crate::cli) model: Option<PathBuf>,
    /// File to write, .safetensors or .onnx; an existing one is not overwritten
    #[arg(long)]
    pub(in crate::cli) out: PathBuf,
}
