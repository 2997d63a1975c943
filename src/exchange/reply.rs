//! A reply: a response that Outrigger authors itself, as a JSON-RPC error with the caller's id where one is due (`mcp::failure` words it).
//! Takes a [`Fault`] and what was asked, writes head and body downstream. Surprise: after a refused body a bounded rest of it is
//! read and thrown away, because closing on unread bytes can destroy the reply on its way to the client.

use std::time::Duration;

use bytes::Bytes;
use http::header;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use crate::account::Record;
use crate::app::App;
use crate::error::Fault;
use crate::mcp::failure::{self, Asked};
use crate::routing::hop::HOP_FAULT;

/// How much a refused client may still send before the connection closes, bytes, and for how long.
pub const REST: (usize, Duration) = (256 * 1024, Duration::from_secs(1));

/// Answers with `fault` where nobody's id is known yet.
pub async fn refuse(
    session: &mut Session,
    app: &App,
    fault: &Fault,
    record: &mut Record,
) -> pingora_core::Result<()> {
    self::fault(session, app, &Asked::default(), fault, record).await
}

/// Tells another member what failed here; it words the reply, because it knows the caller.
pub(crate) async fn to_member(
    session: &mut Session,
    app: &App,
    fault: &Fault,
    record: &mut Record,
) -> pingora_core::Result<()> {
    record.fault = Some(fault.kind());
    app.counters.fault(fault.kind());
    let mut head = ResponseHeader::build(fault.status(), Some(2))?;
    head.insert_header(header::CONTENT_LENGTH, 0)?;
    head.insert_header(HOP_FAULT, fault.kind())?;
    send(session, app, head, Bytes::new(), closes(fault), record).await
}

/// Answers with `fault`.
pub(crate) async fn fault(
    session: &mut Session,
    app: &App,
    asked: &Asked,
    fault: &Fault,
    record: &mut Record,
) -> pingora_core::Result<()> {
    record.fault = Some(fault.kind());
    app.counters.fault(fault.kind());
    if *fault == Fault::SessionLost {
        app.counters.sessions_lost.inc();
    }
    let (content_type, body) = failure::reply(&asked.caller, &fault.failure());
    let status = failure::status_outward(asked, fault.status(), app.settings.statuses);
    let mut head = ResponseHeader::build(status, Some(4))?;
    head.insert_header(header::CONTENT_LENGTH, body.len())?;
    if !body.is_empty() {
        head.insert_header(header::CONTENT_TYPE, content_type)?;
    }
    if let Some(seconds) = fault.retry_after() {
        head.insert_header(header::RETRY_AFTER, seconds)?;
    }
    if *fault == Fault::UnsupportedEncoding {
        // RFC 9110 §15.5.16: says what would have been accepted.
        head.insert_header(header::ACCEPT_ENCODING, "gzip, deflate, identity")?;
    }
    send(session, app, head, body, closes(fault), record).await
}

/// Writes an answer of ours. `close`: the connection is over in any case.
pub(crate) async fn send(
    session: &mut Session,
    app: &App,
    head: ResponseHeader,
    body: Bytes,
    close: bool,
    record: &mut Record,
) -> pingora_core::Result<()> {
    let unread = !session.as_downstream_mut().is_body_done();
    if unread || app.draining() || close {
        session.as_downstream_mut().set_keepalive(None);
    }
    let downstream = session.as_downstream_mut();
    let written = async {
        downstream.write_response_header(Box::new(head)).await?;
        downstream.write_response_body(body, true).await
    };
    if written.await.is_err() {
        record.client_gone = true;
        return Ok(());
    }
    if unread {
        drain(session).await;
    }
    Ok(())
}

/// A client that is too slow, or whose next request could not be found, is not kept.
fn closes(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::BodyTooSlow
            | Fault::BrokenFraming
            | Fault::TooManyFields
            | Fault::AmbiguousPath
            | Fault::NoHost
    )
}

/// Reads a bounded rest of the request.
async fn drain(session: &mut Session) {
    let reading = async {
        let mut left = REST.0;
        while let Ok(Some(chunk)) = session.as_downstream_mut().read_request_body().await {
            left = left.saturating_sub(chunk.len());
            if left == 0 {
                return;
            }
        }
    };
    // Whether the rest came or not, the connection closes now.
    let _ = tokio::time::timeout(REST.1, reading).await;
}
