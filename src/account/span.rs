//! A request's span, described by what the account knows of it, in the words of OpenTelemetry's conventions for HTTP and for MCP.
//! Takes the record and its end, gives attributes. Surprise: no path, no session id and no JSON-RPC id is among them, although the conventions
//! want them. A path may hold a token, and whoever reads traces must not be able to take over a session.

use super::{End, Record, RouteKind};
use crate::trace::Room;

/// Methods of MCP in all its eras. A client may write what it likes, but a span's name has to be one of few.
const METHODS: &[&str] = &[
    "completion/complete",
    "elicitation/create",
    "initialize",
    "logging/setLevel",
    "notifications/cancelled",
    "notifications/elicitation/complete",
    "notifications/initialized",
    "notifications/message",
    "notifications/progress",
    "notifications/prompts/list_changed",
    "notifications/resources/list_changed",
    "notifications/resources/updated",
    "notifications/roots/list_changed",
    "notifications/tasks/status",
    "notifications/tools/list_changed",
    "ping",
    "prompts/get",
    "prompts/list",
    "resources/list",
    "resources/read",
    "resources/subscribe",
    "resources/templates/list",
    "resources/unsubscribe",
    "roots/list",
    "sampling/createMessage",
    "server/discover",
    "subscriptions/listen",
    "tasks/cancel",
    "tasks/get",
    "tasks/list",
    "tasks/result",
    "tasks/update",
    "tools/call",
    "tools/list",
];

/// HTTP's methods, for spans of what is no message.
const VERBS: &[(&str, &str)] = &[
    ("DELETE", "DELETE"),
    ("GET", "GET"),
    ("HEAD", "HEAD"),
    ("OPTIONS", "OPTIONS"),
    ("PATCH", "PATCH"),
    ("POST", "POST"),
    ("PUT", "PUT"),
];

/// Where no convention says otherwise, failures of ours go by the words of the access line.
pub(super) fn describe(record: &Record, end: &End<'_>, room: &mut Room) {
    let method = record.rpc_method.as_deref().and_then(|own| METHODS.iter().find(|known| **known == own));
    let verb =
        VERBS.iter().find(|(verb, _)| *verb == record.method.as_str()).map_or("_OTHER", |(_, verb)| verb);
    room.rename(method.copied().unwrap_or(if verb == "_OTHER" { "HTTP" } else { verb }));
    room.set("http.request.method", verb);
    if let Some(method) = method {
        room.set("mcp.method.name", *method);
        if *method == "tools/call" {
            room.set("gen_ai.operation.name", "execute_tool");
        }
    }
    if end.status > 0 {
        room.set("http.response.status_code", i64::from(end.status));
    }
    if record.route != RouteKind::Pass {
        room.set("network.transport", "tcp");
        room.set("network.protocol.name", "http");
    }
    if let Some(client) = record.client {
        room.set("client.address", client.to_string());
    }
    room.set("outrigger.request", format!("{:016x}", record.id));
    room.set("outrigger.listener", end.listener.to_owned());
    room.set("outrigger.route", record.route.as_str());
    room.set("outrigger.attempts", i64::from(record.attempts));
    let texts = [
        ("outrigger.server_id", record.server_id.as_deref()),
        ("outrigger.session", record.session.as_deref()),
        ("outrigger.era", record.era),
        ("outrigger.upstream", end.peer.and(end.upstream)),
        ("outrigger.peer", end.peer),
        ("outrigger.member", record.member.as_deref()),
        ("outrigger.from_member", record.from_member.as_deref()),
    ];
    for (key, text) in texts.into_iter().filter_map(|(key, text)| Some((key, text?))) {
        room.set(key, text.to_owned());
    }
    if record.client_gone {
        room.set("outrigger.client_gone", true);
    }
    // A client's own mistake is no error of the server's span (semantic conventions for HTTP).
    match record.fault {
        Some(fault) if end.status >= 500 || end.status == 0 || fault == "answer_broken" => room.fail(fault),
        Some(fault) => room.set("error.type", fault),
        None if end.status >= 500 => room.fail("upstream_status"),
        None => {}
    }
}
