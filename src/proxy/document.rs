//! Documents of protected resources on their way out (RFC 9728): the only bodies beside an `endpoint` event in which addresses are changed.
//! Takes heads and the pieces of a body, holds a document until it is whole, gives it with public addresses.
//! Surprise: a document that is longer than any real one leaves as it is, in the order that it came.

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode, Version, header};
use pingora_core::Result;
use pingora_http::{RequestHeader, ResponseHeader};

use crate::exchange::normalise::content_type;
use crate::exchange::outbound::origin_form;
use crate::mcp::failure::Kind;
use crate::mcp::public_url::address::Ours;
use crate::mcp::public_url::metadata;

/// A document that is held.
#[derive(Debug)]
pub(super) enum Document {
    Coming(BytesMut),
    TooLong,
}

/// Whether a request asks for such a document.
pub(super) fn is_wanted(request: &RequestHeader) -> bool {
    let target = origin_form(request);
    request.method == Method::GET
        && metadata::is_metadata(target.split(|byte| *byte == b'?').next().unwrap_or(target))
}

impl Document {
    /// `Some` where this answer has one; its head then promises no length any more.
    pub fn announced_by(request: &RequestHeader, head: &mut ResponseHeader) -> Result<Option<Self>> {
        let json = content_type(head).kind == Kind::Json;
        let encoded = head.headers.contains_key(header::CONTENT_ENCODING);
        if !is_wanted(request) || head.status != StatusCode::OK || !json || encoded {
            return Ok(None);
        }
        for name in ["content-length", "content-digest", "repr-digest", "digest", "content-md5"] {
            head.remove_header(name);
        }
        if request.version == Version::HTTP_11 {
            head.insert_header(header::TRANSFER_ENCODING, "chunked")?;
        }
        Ok(Some(Self::Coming(BytesMut::new())))
    }

    /// The next piece of the body; gives what may leave now.
    pub fn pass(&mut self, piece: Option<Bytes>, end: bool, ours: Ours<'_>) -> Option<Bytes> {
        let Self::Coming(held) = self else { return piece };
        held.extend_from_slice(&piece.unwrap_or_default());
        if held.len() > metadata::LONGEST {
            let held = held.split().freeze();
            *self = Self::TooLong;
            return Some(held);
        }
        end.then(|| {
            let document = held.split().freeze();
            metadata::rewritten(&document, |address| ours.public(address)).map_or(document, Bytes::from)
        })
    }
}
