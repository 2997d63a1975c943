//! A reply: a response that Outrigger authors itself, as a JSON-RPC error with the caller's id where one is due.
//! Takes a [`Fault`] and who is calling, writes head and body downstream. Surprise: after a refused body a bounded rest of it is
//! read and thrown away, because closing on unread bytes can destroy the reply on its way to the client.

use std::time::Duration;

use bytes::Bytes;
use http::header;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use serde_json::json;

use crate::account::Record;
use crate::app::App;
use crate::error::Fault;
use crate::routing::hop::HOP_FAULT;

use super::request::Caller;

/// How much a refused client may still send before the connection closes, bytes, and for how long.
pub const REST: (usize, Duration) = (256 * 1024, Duration::from_secs(1));

/// Answers with `fault` where nobody's id is known yet.
pub async fn refuse(
    session: &mut Session,
    app: &App,
    fault: &Fault,
    record: &mut Record,
) -> pingora_core::Result<()> {
    self::fault(session, app, &Caller::Bare, fault, record).await
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
    caller: &Caller,
    fault: &Fault,
    record: &mut Record,
) -> pingora_core::Result<()> {
    record.fault = Some(fault.kind());
    app.counters.fault(fault.kind());
    if *fault == Fault::SessionLost {
        app.counters.sessions_lost.inc();
    }
    let (content_type, body) = body(caller, fault);
    let mut head = ResponseHeader::build(fault.status(), Some(4))?;
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

/// `close`: the connection is over in any case.
async fn send(
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

/// A client that is too slow, one of too many, or one whose next request could not be found is not kept.
fn closes(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::BodyTooSlow
            | Fault::BrokenFraming
            | Fault::TooManyConnections
            | Fault::TooManyFields
            | Fault::AmbiguousPath
            | Fault::NoHost
    )
}

/// Content type and body. No JSON-RPC error is sent to what is no request (JSON-RPC 2.0 §4.1).
fn body(caller: &Caller, fault: &Fault) -> (&'static str, Bytes) {
    const JSON: &str = "application/json";
    match caller {
        Caller::Request(id) => (JSON, error(id, fault).into()),
        Caller::Unreadable(id) => (JSON, error(id.as_deref().unwrap_or(b"null"), fault).into()),
        Caller::Batch(ids) if ids.is_empty() => (JSON, Bytes::new()),
        Caller::Batch(ids) => {
            let errors: Vec<Vec<u8>> = ids.iter().map(|id| error(id, fault)).collect();
            (JSON, [&b"["[..], &errors.join(&b","[..]), b"]"].concat().into())
        }
        Caller::Silent => (JSON, Bytes::new()),
        Caller::Bare => ("text/plain; charset=utf-8", format!("{}\n", fault.sentence()).into()),
    }
}

/// A JSON-RPC 2.0 error object; the id is the caller's, byte for byte.
fn error(id: &[u8], fault: &Fault) -> Vec<u8> {
    let error = json!({
        "code": fault.code(),
        "message": fault.sentence(),
        "data": { "httpStatus": fault.status() },
    });
    [br#"{"jsonrpc":"2.0","id":"#, id, br#","error":"#, error.to_string().as_bytes(), b"}"].concat()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn text(caller: &Caller) -> String {
        String::from_utf8_lossy(&body(caller, &Fault::SessionLost).1).into_owned()
    }

    #[test]
    fn the_reply_fits_the_caller() {
        let error = |id: &str| {
            format!(
                r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32600,"data":{{"httpStatus":404}},"message":"Session not found; initialize again"}}}}"#
            )
        };
        let big = "123456789012345678901234567890";
        assert_eq!(text(&Caller::Request(big.into())), error(big));
        assert_eq!(text(&Caller::Request(br#""a\u0001""#.to_vec())), error(r#""a\u0001""#));
        assert_eq!(text(&Caller::Unreadable(None)), error("null"));
        assert_eq!(
            text(&Caller::Batch(vec![b"1".to_vec(), b"2".to_vec()])),
            format!("[{},{}]", error("1"), error("2"))
        );
        assert_eq!(text(&Caller::Batch(vec![])), "");
        assert_eq!(text(&Caller::Silent), "");
        assert_eq!(text(&Caller::Bare), "Session not found; initialize again\n");
    }
}
