//! Reading files of bounded size.

use crate::error::{DatasetError, Problem};
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// How large a data set may be. A file says its own sizes, and a compressed one can be a thousandth of what comes out of it, so limits
/// are checked before memory is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest number of samples.
    pub samples: usize,
    /// Largest number of values of all samples together; each takes four bytes.
    pub values: usize,
    /// Largest size of one file, in bytes, and of what comes out of it when it is decompressed.
    pub file_bytes: u64,
}

impl Default for Limits {
    /// Ten million samples, 2^30 values (4 GiB), files of 4 GiB.
    fn default() -> Self {
        Self {
            samples: 10_000_000,
            values: 1 << 30,
            file_bytes: 1 << 32,
        }
    }
}

impl Limits {
    /// Refuses a number of samples of so many values each.
    pub(crate) fn check(&self, file: &Path, samples: usize, each: usize) -> Result<(), DatasetError> {
        let over = |what, limit: usize| {
            let limit = limit as u64;
            Err(DatasetError::file(file, Problem::Limit { what, limit }))
        };
        if samples > self.samples {
            return over("samples", self.samples);
        }
        match samples.checked_mul(each) {
            Some(values) if values <= self.values => Ok(()),
            _ => over("values", self.values),
        }
    }

    /// Reads a whole file; one whose name ends in `.gz` is decompressed.
    pub(crate) fn read(&self, path: &Path) -> Result<Vec<u8>, DatasetError> {
        let fail = |error| DatasetError::file(path, Problem::Read(error));
        let file = BufReader::new(File::open(path).map_err(fail)?);
        let packed = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gz"));
        let mut bytes = Vec::new();
        let bound = self.file_bytes.saturating_add(1);
        let read = if packed {
            MultiGzDecoder::new(file).take(bound).read_to_end(&mut bytes)
        } else {
            file.take(bound).read_to_end(&mut bytes)
        };
        read.map_err(fail)?;
        if bytes.len() as u64 > self.file_bytes {
            let (what, limit) = ("bytes", self.file_bytes);
            return Err(DatasetError::file(path, Problem::Limit { what, limit }));
        }
        Ok(bytes)
    }
}
