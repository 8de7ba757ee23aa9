//! Requests and responses as payloads of frames.

use crate::frame::{FrameError, FrameKind};
use crate::protocol::{Request, Response};
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

/// Something that fills the payload of one frame, encoded by postcard.
pub trait Message: Serialize + DeserializeOwned {
    /// The kinds of frame that its variants travel in. A frame of another kind is refused before its payload is read.
    const KINDS: &'static [FrameKind];

    /// The kind of frame it travels in, which limits its size.
    fn frame_kind(&self) -> FrameKind;

    /// The payload.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`] if it is longer than its frame may be.
    fn encode(&self) -> Result<Vec<u8>, FrameError> {
        let payload = postcard::to_stdvec(self).map_err(FrameError::Undecodable)?;
        let (kind, len) = (
            self.frame_kind(),
            u32::try_from(payload.len()).unwrap_or(u32::MAX),
        );
        if len > kind.limit() {
            return Err(FrameError::TooLarge {
                kind,
                len,
                limit: kind.limit(),
            });
        }
        Ok(payload)
    }

    /// Reads a payload that came in a frame of `kind`. Nothing may follow the message, and it must belong into such a frame, so that no
    /// message can use the limit of another.
    fn decode(kind: FrameKind, payload: &[u8]) -> Result<Self, FrameError> {
        let (message, rest) = postcard::take_from_bytes::<Self>(payload).map_err(FrameError::Undecodable)?;
        if !rest.is_empty() {
            return Err(FrameError::Stray(rest.len()));
        }
        if message.frame_kind() != kind {
            return Err(FrameError::Unexpected {
                found: format!("a frame of kind {kind:?}"),
                expected: "the kind of its message",
            });
        }
        Ok(message)
    }
}

/// A response that is encoded once and sent to many, who share its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    pub(crate) kind: FrameKind,
    pub(crate) payload: Bytes,
}

impl Encoded {
    /// Encodes a response.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`] if it is longer than its frame may be.
    pub fn new(response: &Response) -> Result<Self, FrameError> {
        Ok(Self {
            kind: response.frame_kind(),
            payload: response.encode()?.into(),
        })
    }
}

impl Message for Request {
    const KINDS: &'static [FrameKind] = &[FrameKind::Control, FrameKind::Statement];

    fn frame_kind(&self) -> FrameKind {
        match self {
            Request::Post(_) => FrameKind::Statement,
            _ => FrameKind::Control,
        }
    }
}

impl Message for Response {
    const KINDS: &'static [FrameKind] = &[
        FrameKind::Control,
        FrameKind::Statement,
        FrameKind::Collection,
        FrameKind::Refusal,
    ];

    fn frame_kind(&self) -> FrameKind {
        match self {
            Response::View(_) => FrameKind::Statement,
            Response::Statements { .. } | Response::Sealed(_) | Response::Audit(_) => FrameKind::Collection,
            Response::Refused(_) => FrameKind::Refusal,
            _ => FrameKind::Control,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use galen_core::{Code, Refusal};
    use proptest::prelude::*;

    #[test]
    fn messages_round_trip_in_their_own_kind_of_frame_only() {
        let request = Request::Poll { seen: 7, from: 2 };
        let payload = request.encode().unwrap();
        assert_eq!(Request::decode(FrameKind::Control, &payload).unwrap(), request);
        assert!(Request::decode(FrameKind::Statement, &payload).is_err());
        let response = Response::Refused(Refusal::new(Code::Busy, "later"));
        let mut payload = response.encode().unwrap();
        assert_eq!(Response::decode(FrameKind::Refusal, &payload).unwrap(), response);
        payload.push(0);
        assert_eq!(
            Response::decode(FrameKind::Refusal, &payload),
            Err(FrameError::Stray(1))
        );
        let long = Response::Refused(Refusal::new(Code::Busy, "x".repeat(1 << 20)));
        assert_eq!(long.encode().unwrap_err().code(), Code::FrameTooLarge);
    }

    proptest! {
        #[test]
        fn random_payloads_never_panic(first in 0u8..16, bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            // The first byte selects the variant; most values of a random one select none.
            let payload = [&[first], bytes.as_slice()].concat();
            for kind in FrameKind::ALL {
                if let Ok(request) = Request::decode(kind, &payload) {
                    prop_assert!(request.frame_kind() == kind && Request::KINDS.contains(&kind));
                }
                if let Ok(response) = Response::decode(kind, &payload) {
                    prop_assert!(response.frame_kind() == kind && Response::KINDS.contains(&kind));
                }
            }
        }
    }
}
