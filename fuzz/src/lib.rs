//! What the fuzz targets do with an input: one function per reader of bytes that somebody else wrote.
//!
//! Every function gives its input to the reader and, where that takes it, asserts more than the absence of a panic: what was read
//! is written as bytes that read as the same; canonical formats give exactly the input; a short input never makes the reader hold
//! much memory ([`memory`]); and what was read goes through the operations that its reader performs on it.
//!
//! [`TARGETS`] lists them. Each has a binary of its own for libFuzzer in `fuzz_targets/`, and `cargo test` replays the committed corpus
//! through all of them with any compiler.

pub mod ckks;
pub mod core;
pub mod data;
pub mod exact;
pub mod federation;
pub mod memory;
pub mod models;
pub mod packing;
pub mod query;
pub mod stored;
pub mod sums;
pub mod wire;

use memory::bounded;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

/// What one input does to one reader.
pub type Target = fn(&[u8]);

/// Every target with its name.
pub const TARGETS: &[(&str, Target)] = &[
    ("ckks_ciphertext", ckks::ciphertext),
    ("ckks_keys", ckks::keys),
    ("ckks_set", ckks::set),
    ("core_files", core::files),
    ("core_names", core::names),
    ("core_study", core::study),
    ("custody_key_sum", sums::key_sum),
    ("data_sets", data::sets),
    ("exact", exact::exact),
    ("keys", stored::keys),
    ("model_files", models::files),
    ("model_imports", models::imports),
    ("model_sums", models::sums),
    ("net_frame", wire::frame),
    ("query", query::query),
    ("rns_packing", packing::residues),
    ("stored", stored::stored),
    ("sums_blob", sums::blob),
    ("sums_signed", sums::signed),
    ("sums_statements", sums::statements),
    ("table", models::table),
];

/// Hands an input to one of several readers that are close relatives: its first byte selects, the rest is the reader's.
pub fn choose(readers: &[Target], data: &[u8]) {
    if let Some((&which, rest)) = data.split_first() {
        readers[usize::from(which) % readers.len()](rest);
    }
}

/// What a reader of serde may reserve because a length field says so: 1 MiB for each sequence that is open, and no type here
/// nests them deeper than this.
pub const HINTED: usize = 4 << 20;

/// Reads postcard, and once more what that is written as.
///
/// # Panics
/// If the second reading differs from the first, or the first took more memory than its input explains.
pub fn postcard_again<T: DeserializeOwned + Serialize>(data: &[u8]) -> Option<T> {
    let value: T = bounded(data, HINTED, 64, || postcard::from_bytes(data)).ok()?;
    let written = postcard::to_stdvec(&value).unwrap();
    let again: T = postcard::from_bytes(&written).unwrap();
    assert_eq!(postcard::to_stdvec(&again).unwrap(), written);
    Some(value)
}

/// The study of `configs/studies/heart`.
pub fn heart() -> galen_core::study::Study {
    const TEXT: &str = include_str!("../../configs/studies/heart/study.toml");
    galen_core::config::parse(Path::new("study.toml"), TEXT).unwrap()
}

/// A folder of this thread, in `GALEN_FUZZ_SCRATCH` or else below the system's for temporary files.
pub fn scratch_dir() -> PathBuf {
    thread_local! {
        static DIR: PathBuf = {
            let of_process = std::env::var_os("GALEN_FUZZ_SCRATCH").map_or_else(
                || std::env::temp_dir().join(format!("galen-fuzz-{}", std::process::id())),
                PathBuf::from,
            );
            // Tests run side by side, each on a thread.
            let dir = of_process.join(format!("{:?}", std::thread::current().id()));
            std::fs::create_dir_all(&dir).unwrap();
            dir
        };
    }
    DIR.with(PathBuf::clone)
}

/// A file with this content, for readers that take a path. The next call overwrites it.
pub fn scratch_file(content: &[u8]) -> PathBuf {
    let path = scratch_dir().join("input");
    std::fs::write(&path, content).unwrap();
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Every committed input goes through its target, and every target has a corpus and a binary.
    #[test]
    fn the_corpus_passes() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for (name, target) in TARGETS {
            assert!(
                root.join("fuzz_targets")
                    .join(name)
                    .with_extension("rs")
                    .is_file(),
                "{name}"
            );
            let mut inputs = 0;
            for folder in ["corpus", "regressions"] {
                let Ok(files) = fs::read_dir(root.join(folder).join(name)) else {
                    continue;
                };
                for file in files {
                    let path = file.unwrap().path();
                    println!("{}", path.display());
                    target(&fs::read(&path).unwrap());
                    inputs += 1;
                }
            }
            assert!(inputs > 0, "{name} has no corpus");
        }
    }

    /// Cut short, extended, and with every byte changed in turn, inputs are read or refused.
    #[test]
    fn damaged_inputs_pass() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for (name, target) in TARGETS {
            let Ok(files) = fs::read_dir(root.join("corpus").join(name)) else {
                continue;
            };
            // Slow readers are left to the fuzzer.
            for file in files.take(3) {
                let mut input = fs::read(file.unwrap().path()).unwrap();
                let step = input.len().div_ceil(50).max(1);
                for at in (0..input.len()).step_by(step) {
                    target(&input[..at]);
                    input[at] ^= 0x41;
                    target(&input);
                    input[at] ^= 0x41;
                }
                input.push(0);
                target(&input);
            }
        }
    }
}
