//! One array in the format of NumPy (NEP 1, "A simple file format for NumPy arrays"): a magic number, a version, a header that is the
//! text of a Python dictionary, and the numbers.
//!
//! Read here because the crates for it bring a parser generator along, which costs more to build than everything else in this crate.

/// An array of numbers in C order.
#[derive(Debug, PartialEq)]
pub(crate) struct Array {
    /// Its dimensions; none for a single number.
    pub(crate) dimensions: Vec<usize>,
    /// Its numbers.
    pub(crate) values: Vec<f64>,
    /// Whether its numbers are unsigned bytes.
    pub(crate) bytes: bool,
}

/// What the header says, and where the numbers begin.
#[derive(Debug, PartialEq)]
pub(crate) struct Header {
    kind: String,
    fortran: bool,
    /// The dimensions.
    pub(crate) dimensions: Vec<usize>,
    start: usize,
}

/// Reads the header at the beginning of the bytes.
pub(crate) fn header(bytes: &[u8]) -> Result<Header, &'static str> {
    const SHORT: &str = "it ends within its header";
    let rest = bytes
        .strip_prefix(b"\x93NUMPY")
        .ok_or("it does not begin as a NumPy array does")?;
    let ([major, _], rest) = rest.split_first_chunk::<2>().ok_or(SHORT)?;
    let (length, prefix) = match major {
        1 => {
            let (length, _) = rest.split_first_chunk::<2>().ok_or(SHORT)?;
            (usize::from(u16::from_le_bytes(*length)), 2)
        }
        2 | 3 => {
            let (length, _) = rest.split_first_chunk::<4>().ok_or(SHORT)?;
            (u32::from_le_bytes(*length) as usize, 4)
        }
        _ => return Err("its version is unknown"),
    };
    let text = rest.get(prefix..).and_then(|r| r.get(..length)).ok_or(SHORT)?;
    let text = std::str::from_utf8(text).map_err(|_| "its header is not text")?;
    let mut header = dictionary(text).ok_or("its header is not that of an array of numbers")?;
    header.start = 8 + prefix + length;
    Ok(header)
}

/// Reads the three entries of the dictionary, in any order. `None` if anything else is there, or one is not.
fn dictionary(text: &str) -> Option<Header> {
    let mut rest = text.trim().strip_prefix('{')?.strip_suffix('}')?.trim();
    let (mut kind, mut fortran, mut dimensions) = (None, None, None);
    while !rest.is_empty() {
        let (key, tail) = quoted(rest)?;
        let value = tail.trim_start().strip_prefix(':')?.trim_start();
        let tail = match key {
            "descr" => {
                let (text, tail) = quoted(value)?;
                kind = Some(text.to_owned());
                tail
            }
            "fortran_order" => {
                let (truth, tail) = match value.strip_prefix("True") {
                    Some(tail) => (true, tail),
                    None => (false, value.strip_prefix("False")?),
                };
                fortran = Some(truth);
                tail
            }
            "shape" => {
                let (inside, tail) = value.strip_prefix('(')?.split_once(')')?;
                let parts = inside.split(',').map(str::trim).filter(|part| !part.is_empty());
                dimensions = Some(
                    parts
                        .map(|part| part.parse().ok())
                        .collect::<Option<Vec<usize>>>()?,
                );
                tail
            }
            _ => return None,
        };
        let tail = tail.trim_start();
        rest = match tail.strip_prefix(',') {
            Some(next) => next.trim_start(),
            None if tail.is_empty() => tail,
            None => return None,
        };
    }
    Some(Header {
        kind: kind?,
        fortran: fortran?,
        dimensions: dimensions?,
        start: 0,
    })
}

/// The text in quotes at the beginning, and what follows.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    text.get(1..)?.split_once(quote)
}

/// Reads the array whose header was read from the same bytes.
pub(crate) fn array(bytes: &[u8], header: Header) -> Result<Array, &'static str> {
    if header.fortran && header.dimensions.len() > 1 {
        return Err("it is in Fortran order; save np.ascontiguousarray(x)");
    }
    let count = header
        .dimensions
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d));
    let count = count.ok_or("its shape overflows")?;
    let data = bytes.get(header.start..).unwrap_or(&[]);
    let (order, kind) = header.kind.split_at_checked(1).ok_or("its type is unknown")?;
    let values = match (order, kind) {
        ("|", "b1") => numbers(data, count, |[b]: [u8; 1]| f64::from(u8::from(b != 0))),
        ("|", "u1") => numbers(data, count, |[b]: [u8; 1]| f64::from(b)),
        ("|", "i1") => numbers(data, count, |[b]: [u8; 1]| f64::from(b.cast_signed())),
        ("<", "u2") => numbers(data, count, |b| f64::from(u16::from_le_bytes(b))),
        ("<", "i2") => numbers(data, count, |b| f64::from(i16::from_le_bytes(b))),
        ("<", "u4") => numbers(data, count, |b| f64::from(u32::from_le_bytes(b))),
        ("<", "i4") => numbers(data, count, |b| f64::from(i32::from_le_bytes(b))),
        ("<", "u8") => numbers(data, count, |b| u64::from_le_bytes(b) as f64),
        ("<", "i8") => numbers(data, count, |b| i64::from_le_bytes(b) as f64),
        ("<", "f4") => numbers(data, count, |b| f64::from(f32::from_le_bytes(b))),
        ("<", "f8") => numbers(data, count, f64::from_le_bytes),
        _ => return Err("its type is not supported; little-endian integers, float32, float64 and bool are"),
    };
    Ok(Array {
        dimensions: header.dimensions,
        values: values.ok_or("its length does not follow from its header")?,
        bytes: kind == "u1",
    })
}

/// Exactly so many numbers.
fn numbers<const N: usize>(data: &[u8], count: usize, number: impl Fn([u8; N]) -> f64) -> Option<Vec<f64>> {
    if count.checked_mul(N) != Some(data.len()) {
        return None;
    }
    Some(
        data.as_chunks::<N>()
            .0
            .iter()
            .map(|&bytes| number(bytes))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(version: u8, text: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY".to_vec();
        bytes.extend([version, 0]);
        match version {
            1 => bytes.extend((text.len() as u16).to_le_bytes()),
            _ => bytes.extend((text.len() as u32).to_le_bytes()),
        }
        bytes.extend(text.as_bytes());
        bytes.extend(data);
        bytes
    }

    fn read(version: u8, text: &str, data: &[u8]) -> Result<Array, &'static str> {
        let bytes = file(version, text, data);
        array(&bytes, header(&bytes)?)
    }

    #[test]
    fn headers_as_numpy_writes_them() {
        let text = "{'descr': '<i2', 'fortran_order': False, 'shape': (2, 1), }          \n";
        let found = read(1, text, &[1, 0, 255, 255]).unwrap();
        assert_eq!(
            (found.dimensions, found.values, found.bytes),
            (vec![2, 1], vec![1.0, -1.0], false)
        );
        let text = "{'shape': (3,), 'fortran_order': True, 'descr': '|u1'}";
        let found = read(2, text, &[0, 7, 255]).unwrap();
        assert_eq!(
            (found.dimensions, found.values, found.bytes),
            (vec![3], vec![0.0, 7.0, 255.0], true)
        );
        let text = "{\"descr\": \"<f8\", \"fortran_order\": False, \"shape\": ()}";
        assert_eq!(read(3, text, &2.5f64.to_le_bytes()).unwrap().values, [2.5]);
    }

    #[test]
    fn every_type_is_read() {
        let one = |kind: &str, data: &[u8]| {
            read(
                1,
                &format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': (1,)}}"),
                data,
            )
            .map(|found| found.values[0])
        };
        for (kind, data, expected) in [
            ("|b1", &[2u8][..], 1.0),
            ("|i1", &[255], -1.0),
            ("<u2", &[1, 1], 257.0),
            ("<u4", &[0, 0, 0, 128], 2_147_483_648.0),
            ("<i4", &[255; 4], -1.0),
            ("<u8", &[0, 0, 0, 0, 1, 0, 0, 0], 4_294_967_296.0),
            ("<i8", &[255; 8], -1.0),
            ("<f4", &1.5f32.to_le_bytes(), 1.5),
        ] {
            assert_eq!(one(kind, data), Ok(expected), "{kind}");
        }
        for kind in [">i2", "<U3", "|O", "<c8", "", "é"] {
            assert!(one(kind, &[0, 0]).is_err(), "{kind}");
        }
    }

    #[test]
    fn what_is_not_such_a_file_is_said() {
        let good = "{'descr': '|u1', 'fortran_order': False, 'shape': (2,)}";
        assert_eq!(
            read(1, good, &[0]),
            Err("its length does not follow from its header")
        );
        assert_eq!(read(4, good, &[0, 0]), Err("its version is unknown"));
        assert_eq!(header(b"PK"), Err("it does not begin as a NumPy array does"));
        let bytes = file(1, good, &[]);
        for length in 6..bytes.len() {
            assert_eq!(
                header(&bytes[..length]),
                Err("it ends within its header"),
                "{length}"
            );
        }
        let huge = format!(
            "{{'descr': '|u1', 'fortran_order': False, 'shape': ({0}, {0})}}",
            usize::MAX
        );
        assert_eq!(read(1, &huge, &[]), Err("its shape overflows"));
        let fortran = good.replace("False", "True").replace("(2,)", "(1, 2)");
        assert!(read(1, &fortran, &[0, 0]).unwrap_err().contains("Fortran"));
        for text in [
            "{}",
            "{'descr': [('a', '<i2')], 'fortran_order': False, 'shape': (2,)}",
            "{'descr': '|u1', 'fortran_order': 0, 'shape': (2,)}",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (2, x)}",
            "{'descr': '|u1' 'fortran_order': False, 'shape': (2,)}",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (2,), 'more': 1}",
        ] {
            assert_eq!(
                read(1, text, &[0, 0]),
                Err("its header is not that of an array of numbers"),
                "{text}"
            );
        }
    }
}
