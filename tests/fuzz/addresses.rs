//! What must hold for any field, stream or document in which addresses are changed or from which they are read.
//! Takes damaged input, judges it against a second reading: other splits, a second pass, another parser.
//! The surprise: what a client writes may be anything at all, and still must not change what the proxy behind it wrote.

use std::net::IpAddr;

use outrigger::mcp::authority::Authority;
use outrigger::mcp::forwarded::{self, Claims, Hop, Origin};
use outrigger::mcp::public_url::{challenge, metadata};
use outrigger::mcp::sse::{Endpoint, Event, Events, FirstEvent};
use serde_json::Value;

pub const FORWARDED: &[&str] = &[
    "for=192.0.2.60;proto=http;by=203.0.113.43",
    "for=\"[2001:db8:cafe::17]:4711\";host=\"mcp.example.com:8443\"",
    "for=unknown, for=_hidden;proto=https, for=10.0.0.1",
    "For=\"_mdn\\\"x\\\\\"; Secret=\"a,b;c\" ;host=a",
];

pub const FORWARDED_TOKENS: &[&str] = &[
    "for=", "proto=", "host=", "https", "\"", "\\\"", "\\", ",", ";", "=", " ", "\t", "10.0.0.2", "[::1]",
    ":_x", "é",
];

/// The proxy's own element counts as if it stood alone, whatever a client wrote before it.
pub fn judge_forwarded(input: &[u8]) -> bool {
    const OWN: &str = "for=\"198.51.100.7:_p\";proto=HTTPS;host=\"mcp.example.com:8443\"";
    let text = String::from_utf8_lossy(input).into_owned();
    let alone = origin_of(OWN.to_owned());
    assert_eq!(origin_of(format!("{text},{OWN}")), alone, "{text}");
    let origin = origin_of(text);
    assert!(Authority::parse(&origin.authority).is_some(), "{origin:?}");
    origin.https || origin.authority != "seen" || origin.client.is_ipv6()
}

fn origin_of(forwarded: String) -> Origin {
    let hop = Hop { address: IpAddr::from([10, 0, 0, 1]), tls: false, host: Some("seen") };
    let claims = Claims { forwarded: Some(forwarded), ..Claims::default() };
    let trusted = |address: IpAddr| address.to_string().starts_with("10.");
    forwarded::origin(hop, &claims, trusted).expect("the hop names a host")
}

pub const CHALLENGES: &[&str] = &[
    "Bearer resource_metadata=\"http://in/.well-known/oauth-protected-resource\", scope=\"a b\"",
    "Basic realm=\"a, \\\"resource_metadata=\\\\\\\"\", Negotiate YWI=, DPoP algs=\"ES256\",resource_metadata=\"x\"",
    "Bearer error=invalid_token , RESOURCE_METADATA = http://in/a, Digest qop=\"auth,auth-int\"",
];

pub const CHALLENGE_TOKENS: &[&str] =
    &["resource_metadata", "=", "\"", "\\", ",", " ", "Bearer ", "realm=", "==", "http://in", "é", "\t"];

/// Everything outside of the metadata addresses keeps its bytes, and a second pass finds nothing to do.
pub fn judge_challenge(input: &[u8]) -> bool {
    let value = String::from_utf8_lossy(input).into_owned();
    assert_eq!(challenge::rewritten(&value, |_| None), None);
    let mut found = std::cell::RefCell::new(Vec::new());
    let Some(public) = challenge::rewritten(&value, |address| {
        found.borrow_mut().push(address.to_owned());
        Some(PUBLIC.to_owned())
    }) else {
        return false;
    };
    let quoted = format!("\"{PUBLIC}\"");
    assert_eq!(
        public.matches(&quoted).count() - value.matches(&quoted).count(),
        found.get_mut().iter().filter(|address| *address != PUBLIC).count(),
        "{value}"
    );
    assert_eq!(
        challenge::rewritten(&public, |address| (address != PUBLIC).then(|| "y".to_owned())),
        None,
        "{value}"
    );
    let mut rest = value.as_str();
    for kept in public.split(&quoted) {
        let at = rest.find(kept).unwrap_or_else(|| panic!("{kept:?} of {public:?} is not in {value:?}"));
        rest = &rest[at + kept.len()..];
    }
    true
}

const PUBLIC: &str = "https://out/x";

pub const STREAMS: &[&str] = &[
    "event: endpoint\ndata: /messages/?session_id=1\n\nevent: message\ndata: {}\n\n",
    ": hello\r\n\r\nevent:endpoint\r\ndata:http://in/m?s\r\nid: 1\r\n\r\ndata: /m\r\n\r\n",
    "\u{feff}data: a\rretry: 1\revent: endpoint\r\r",
    "event: endpoint\ndata: a\ndata: b\n\n",
    "event: x\n\nevent: endpoint\n: data: c\ndata\n\n",
];

pub const STREAM_TOKENS: &[&str] = &[
    "event: endpoint\n",
    "data: /m\n",
    "data:",
    "data\n",
    "\n",
    "\r",
    "\r\n",
    "\n\n",
    ":",
    " ",
    "id: 1\n",
    "\u{feff}",
    "\u{fffd}",
];

/// However it is cut, the stream that leaves reads like the one that came, but for the address.
pub fn judge_stream(input: &[u8]) -> bool {
    let (whole, replaced) = relayed([input]);
    let middle = input.len() / 2;
    assert_eq!(relayed([&input[..middle], &input[middle..]]), (whole.clone(), replaced));
    assert_eq!(relayed(input.chunks(1)), (whole.clone(), replaced));
    let (mut before, after) = (events(input), events(&whole));
    if replaced && let Some(first) = before.first_mut() {
        assert_eq!(first.name, b"endpoint");
        first.data = PUBLIC.as_bytes().to_vec();
    }
    assert_eq!(before, after);
    replaced
}

fn relayed<'c>(chunks: impl IntoIterator<Item = &'c [u8]>) -> (Vec<u8>, bool) {
    let mut first = FirstEvent::default();
    let (mut out, mut replaced) = (Vec::new(), false);
    for chunk in chunks {
        let mut step = first.push(chunk);
        if let Some(Endpoint { address, span: Some(span) }) = step.endpoint {
            assert_eq!(&step.release[span.clone()], address.as_bytes());
            step.release.splice(span, PUBLIC.bytes());
            replaced = true;
        }
        out.extend(step.release);
    }
    out.extend(first.finish());
    (out, replaced)
}

fn events(mut stream: &[u8]) -> Vec<Event> {
    let mut reader = Events::up_to(1 << 20);
    std::iter::from_fn(|| reader.next(&mut stream)).collect()
}

pub const DOCUMENTS: &[&str] = &[
    r#"{"resource":"http://in/mcp","authorization_servers":["http://in","https://as"],"scopes_supported":["a"]}"#,
    r#" { "authorization_servers" : [ "http:\/\/in", 1, ["http://in"] ], "x": {"resource":"http://in"}, "resource" : "\u0068" } "#,
    r#"{"resource":["http://in"],"resource":"a","authorization_servers":"b"}"#,
];

pub const DOCUMENT_TOKENS: &[&str] = &[
    r#""resource":"#,
    r#""authorization_servers":["#,
    r#""http://in""#,
    "{",
    "}",
    "[",
    "]",
    ",",
    "\"",
    "\\u0041",
    "\\",
    "null",
    "1",
    " ",
];

/// A document that another parser reads stays what it is, but for the addresses; one that it cannot read stays as it came.
pub fn judge_document(input: &[u8]) -> bool {
    let Some(public) = metadata::rewritten(input, |_| Some(PUBLIC.to_owned())) else { return false };
    let Ok(Value::Object(mut before)) = serde_json::from_slice(input) else {
        // What it refuses and we do not: lone surrogates, numbers out of its range, and depth.
        let text = String::from_utf8_lossy(input);
        assert!(
            text.contains("\\u")
                || text.contains(|c: char| c.is_ascii_digit())
                || text.matches(['[', '{']).count() > 100
        );
        return false;
    };
    let after: Value = serde_json::from_slice(&public).expect("JSON stays JSON");
    if let Some(resource @ Value::String(_)) = before.get_mut("resource") {
        *resource = PUBLIC.into();
    }
    if let Some(Value::Array(servers)) = before.get_mut("authorization_servers") {
        servers.iter_mut().filter(|server| server.is_string()).for_each(|server| *server = PUBLIC.into());
    }
    assert_eq!(after, Value::Object(before));
    true
}
