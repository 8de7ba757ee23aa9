//! What comes over the network before any signature is looked at.

use crate::HINTED;
use crate::memory::bounded;
use galen_core::Digest;
use galen_net::frame::{FrameKind, HEADER_BYTES, Header};
use galen_net::{Message, Request, Response};

/// A frame: its header ([`Header::decode`]), and then its payload as a request and as a response ([`Message::decode`]).
pub fn frame(data: &[u8]) {
    let Some((bytes, payload)) = data.split_first_chunk::<HEADER_BYTES>() else {
        return;
    };
    let study = Digest::of(b"study");
    let Ok(header) = bounded(data, 1 << 10, 0, || Header::decode(bytes, &study)) else {
        return;
    };
    assert_eq!(header.encode(), *bytes);
    assert!(header.len <= header.kind.limit());
    assert!(header.study == study || header.kind == FrameKind::Refusal);
    // The length in the header is how much is read from the stream; here the payload has the length that it has.
    if let Ok(request) = bounded(payload, HINTED, 64, || Request::decode(header.kind, payload)) {
        again(header.kind, &request);
    }
    if let Ok(response) = bounded(payload, HINTED, 64, || Response::decode(header.kind, payload)) {
        again(header.kind, &response);
    }
}

/// A message that was read can be sent, in the same kind of frame, and is the same message to its reader.
fn again<M: Message + PartialEq + std::fmt::Debug>(kind: FrameKind, message: &M) {
    assert!(message.frame_kind() == kind && M::KINDS.contains(&kind));
    let Ok(payload) = message.encode() else { return };
    assert_eq!(M::decode(kind, &payload).as_ref(), Ok(message));
}
