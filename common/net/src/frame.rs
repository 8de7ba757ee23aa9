//! Frames: what a stream is cut into.
//!
//! A frame is a header of 40 bytes and a payload: `version (2) | kind (2) | study digest (32) | payload length (4)`, numbers
//! little-endian. The version comes first and will stay there, so that programs of different versions can tell that they are.

use galen_core::{Code, Digest, StudyDigest};

/// The version of the protocol, in every frame. The high byte spells `G`.
pub const VERSION: u16 = 0x4701;

/// Length of a header.
pub const HEADER_BYTES: usize = 40;

/// What a frame carries. The kind decides how long it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum FrameKind {
    /// The listening side has accepted the dialling side's certificate. No payload.
    Greeting = 1,
    /// A request or response of bounded size.
    Control = 2,
    /// A signed statement or the view; a contribution's header holds sealed seeds for every piece and custodian.
    Statement = 3,
    /// Statements of many members.
    Collection = 4,
    /// A piece of a blob.
    Chunk = 5,
    /// A refusal. It is read whatever study it names, so that a refusal because of the study reaches its reader.
    Refusal = 6,
}

/// A length limit as a `u32` number of bytes, the width of the length field.
const KIB: u32 = 1 << 10;

impl FrameKind {
    /// Every kind.
    pub const ALL: [FrameKind; 6] = [
        FrameKind::Greeting,
        FrameKind::Control,
        FrameKind::Statement,
        FrameKind::Collection,
        FrameKind::Chunk,
        FrameKind::Refusal,
    ];

    /// The longest payload.
    pub const fn limit(self) -> u32 {
        match self {
            FrameKind::Greeting => 0,
            FrameKind::Control => 1024 * KIB,
            FrameKind::Statement => 4 * 1024 * KIB,
            FrameKind::Collection => 32 * 1024 * KIB,
            FrameKind::Chunk => 256 * KIB,
            FrameKind::Refusal => 16 * KIB,
        }
    }
}

/// Bytes of a peer that are not the frame or message that was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Another protocol version.
    #[error("a frame of protocol version {found:#06x}, this side speaks {VERSION:#06x}")]
    WrongVersion {
        /// The version found.
        found: u16,
    },
    /// A kind that does not exist.
    #[error("a frame of unknown kind {found}")]
    UnknownKind {
        /// The kind found.
        found: u16,
    },
    /// Another study.
    #[error("a frame of study {}, this side serves {}", found.short(), expected.short())]
    WrongStudy {
        /// The study found.
        found: StudyDigest,
        /// The study of this side.
        expected: StudyDigest,
    },
    /// A frame longer than its kind may be.
    #[error("a frame of {len} bytes, at most {limit} are allowed for {kind:?}")]
    TooLarge {
        /// Its kind.
        kind: FrameKind,
        /// The announced length.
        len: u32,
        /// The limit.
        limit: u32,
    },
    /// The stream ended where a frame, or the rest of one, should stand.
    #[error("the stream ended within or before a frame")]
    Ended,
    /// A frame or message of a kind that does not belong here.
    #[error("{found} where {expected} should stand")]
    Unexpected {
        /// What came.
        found: String,
        /// What should have come.
        expected: &'static str,
    },
    /// A payload that is not a message.
    #[error("a payload that cannot be decoded: {0}")]
    Undecodable(postcard::Error),
    /// A payload with bytes after the message.
    #[error("a message followed by {0} stray bytes")]
    Stray(usize),
}

impl FrameError {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            FrameError::WrongVersion { .. } => Code::WrongVersion,
            FrameError::WrongStudy { .. } => Code::WrongStudy,
            FrameError::TooLarge { .. } => Code::FrameTooLarge,
            FrameError::UnknownKind { .. }
            | FrameError::Ended
            | FrameError::Unexpected { .. }
            | FrameError::Undecodable(_)
            | FrameError::Stray(_) => Code::FrameMalformed,
        }
    }
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the frame carries.
    pub kind: FrameKind,
    /// The study it belongs to.
    pub study: StudyDigest,
    /// Length of the payload.
    pub len: u32,
}

impl Header {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        let fields = VERSION
            .to_le_bytes()
            .into_iter()
            .chain((self.kind as u16).to_le_bytes())
            .chain(self.study.0)
            .chain(self.len.to_le_bytes());
        for (to, from) in out.iter_mut().zip(fields) {
            *to = from;
        }
        out
    }

    /// Reads a header and checks everything that can be checked before the payload: version, kind, study, length.
    pub fn decode(bytes: &[u8; HEADER_BYTES], study: &StudyDigest) -> Result<Self, FrameError> {
        let (version, rest) = take(bytes)?;
        let (kind, rest) = take(rest)?;
        let (digest, rest) = take(rest)?;
        let (len, _) = take(rest)?;
        let (version, kind) = (u16::from_le_bytes(version), u16::from_le_bytes(kind));
        if version != VERSION {
            return Err(FrameError::WrongVersion { found: version });
        }
        let kind = FrameKind::ALL
            .into_iter()
            .find(|known| *known as u16 == kind)
            .ok_or(FrameError::UnknownKind { found: kind })?;
        let header = Self {
            kind,
            study: Digest(digest),
            len: u32::from_le_bytes(len),
        };
        if header.study != *study && kind != FrameKind::Refusal {
            return Err(FrameError::WrongStudy {
                found: header.study,
                expected: *study,
            });
        }
        if header.len > kind.limit() {
            return Err(FrameError::TooLarge {
                kind,
                len: header.len,
                limit: kind.limit(),
            });
        }
        Ok(header)
    }
}

fn take<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), FrameError> {
    let (head, rest) = bytes.split_first_chunk().ok_or(FrameError::Ended)?;
    Ok((*head, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn headers_round_trip_up_to_their_limit_and_no_further() {
        let study = Digest::of(b"study");
        for kind in FrameKind::ALL {
            let header = Header {
                kind,
                study,
                len: kind.limit(),
            };
            assert_eq!(Header::decode(&header.encode(), &study), Ok(header));
            let longer = Header {
                len: kind.limit() + 1,
                ..header
            };
            let error = Header::decode(&longer.encode(), &study).unwrap_err();
            assert_eq!(error.code(), Code::FrameTooLarge);
        }
    }

    #[test]
    fn version_kind_and_study_are_checked_in_this_order() {
        let study = Digest::of(b"study");
        let mut bytes = Header {
            kind: FrameKind::Control,
            study: Digest::of(b"other"),
            len: u32::MAX,
        }
        .encode();
        let code = |bytes: &[u8; HEADER_BYTES]| Header::decode(bytes, &study).unwrap_err().code();
        assert_eq!(code(&bytes), Code::WrongStudy);
        bytes[2] = 99;
        assert_eq!(code(&bytes), Code::FrameMalformed);
        bytes[0] ^= 2;
        assert_eq!(code(&bytes), Code::WrongVersion);
        let refusal = Header {
            kind: FrameKind::Refusal,
            study: Digest::of(b"other"),
            len: 1,
        };
        assert_eq!(Header::decode(&refusal.encode(), &study), Ok(refusal));
    }

    proptest! {
        #[test]
        fn random_headers_never_panic(bytes in any::<[u8; HEADER_BYTES]>(), known in any::<bool>()) {
            let study = Digest::of(b"study");
            let mut bytes = bytes;
            if known {
                // Get past the first checks, which random bytes hardly ever do.
                bytes[..2].copy_from_slice(&VERSION.to_le_bytes());
                bytes[2] %= 8;
                bytes[3] = 0;
                bytes[4..36].copy_from_slice(&study.0);
            }
            if let Ok(header) = Header::decode(&bytes, &study) {
                prop_assert!(header.len <= header.kind.limit());
                prop_assert_eq!(header.encode(), bytes);
            }
        }
    }
}
