//! The whole mapping in one table: what the upstream answers, and what becomes of it for each kind of request.
//! `as it is` = every byte and the status; `its id` = but for the id; `completed` = with errors behind it for requests of a batch that it leaves out; `watched` = an event stream; `502 empty_answer` = our reply and why;
//! `202 silent` = a status without a body. Replies are checked below to be JSON-RPC errors with the ids of the request.

use super::*;

const JSON: &str = "application/json";
const SSE: &str = "text/event-stream";
const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain";
const NONE: &str = "";

const RESULT: &str = r#"{"jsonrpc":"2.0","id":7,"result":{"tools":[]}}"#;
const ERROR: &str = r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32602,"message":"Unknown tool"}}"#;
const SERVER_ERROR: &str =
    r#"{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"Session not found"}}"#;
const DETAIL: &str = r#"{"detail":"Not authenticated"}"#;
const PAGE: &str = "<html><h1>Bad Gateway</h1></html>";

/// Columns: status, content type, body; what gets a `tools/call` with id 7, the same sent to an HTTP+SSE message URL, a notification,
/// a batch with ids 1 and 2, a GET.
type Row = (u16, &'static str, &'static str, [&'static str; 5]);

#[rustfmt::skip]
const TABLE: &[Row] = &[
    // Healthy.
    (200, JSON, RESULT,                                            ["as it is", "as it is", "202 silent", "200 no_answer_object", "as it is"]),
    (200, JSON, r#" {"result":{"a":1},"id":7e0,"jsonrpc":"2.0"}"#, ["as it is", "as it is", "202 silent", "200 no_answer_object", "as it is"]),
    (200, JSON, ERROR,                                             ["as it is", "as it is", "202 silent", "200 status", "as it is"]),
    (201, JSON, RESULT,                                            ["as it is", "as it is", "202 silent", "201 no_answer_object", "as it is"]),
    (200, JSON, r#"[{"id":1,"result":{}},{"id":2,"result":{}}]"#,  ["200 no_answer_object", "as it is", "202 silent", "as it is", "as it is"]),
    (200, JSON, r#"[{"id":2.0,"result":{}}, {"id":1,"result":0}]"#, ["200 no_answer_object", "as it is", "202 silent", "as it is", "as it is"]),
    (200, SSE,  "",                                                ["watched", "as it is", "watched", "watched", "watched"]),
    (200, "gzip", "\u{1f}\u{8b}",                                  ["as it is", "as it is", "202 silent", "as it is", "as it is"]),
    (200, "gzip, a stream", "\u{1f}\u{8b}",                        ["as it is", "as it is", "202 silent", "as it is", "as it is"]),

    // Answers under a wrong id.
    (200, JSON, r#"{"jsonrpc":"2.0","id":null,"result":{"a":1}}"#, ["its id", "as it is", "202 silent", "200 no_answer_object", "as it is"]),
    (200, JSON, r#"{"jsonrpc":"2.0","result":{"a":1}}"#,           ["its id", "as it is", "202 silent", "200 no_answer_object", "as it is"]),
    (200, JSON, r#"{"jsonrpc":"2.0","id":"7","result":{"a":1}}"#,  ["its id", "as it is", "202 silent", "200 no_answer_object", "as it is"]),
    (200, JSON, r#"{"id":7,"result":{"a":1}}"#,                    ["its id", "as it is", "202 silent", "200 no_answer_object", "as it is"]),
    (200, JSON, SERVER_ERROR,                                      ["its id", "as it is", "202 silent", "200 status", "as it is"]),

    // Answers to some of a batch, and to none of it.
    (200, JSON, r#"[{"id":2,"result":{}}] "#,                      ["200 no_answer_object", "as it is", "202 silent", "completed", "as it is"]),
    (200, JSON, r#"{"id":1,"result":{"a":1}}"#,                    ["its id", "as it is", "202 silent", "completed", "as it is"]),
    (200, JSON, r#"[{"id":3,"result":{}},{"result":{}}]"#,         ["200 no_answer_object", "as it is", "202 silent", "200 no_answer_object", "as it is"]),

    // Failures that look like a success.
    (200, JSON, r#"{"jsonrpc":"2.0","id":7,"result":{}}"#,         ["200 hollow_result", "as it is", "202 silent", "200 no_answer_object", "as it is"]),
    (200, JSON, r#"{"jsonrpc":"2.0","id":7,"result":null}"#,       ["200 hollow_result", "as it is", "202 silent", "200 no_answer_object", "as it is"]),
    (200, JSON, DETAIL,                                            ["200 no_answer_object", "as it is", "202 silent", "200 no_answer_object", "as it is"]),
    (200, JSON, "{}",                                              ["200 no_answer_object", "as it is", "202 silent", "200 no_answer_object", "as it is"]),
    (200, JSON, "null",                                            ["200 no_answer_object", "as it is", "202 silent", "200 no_answer_object", "as it is"]),
    (200, JSON, "[]",                                              ["200 no_answer_object", "as it is", "202 silent", "200 no_answer_object", "as it is"]),
    (200, JSON, "true",                                            ["200 no_answer_object", "as it is", "202 silent", "200 no_answer_object", "as it is"]),
    (200, JSON, r#"{"jsonrpc":"2.0","id":7,"error":null}"#,        ["200 no_answer_object", "as it is", "202 silent", "200 no_answer_object", "as it is"]),
    (200, JSON, r#"{"jsonrpc":"2.0","id":7,"error":"no"}"#,        ["200 no_answer_object", "as it is", "202 silent", "200 no_answer_object", "as it is"]),
    (200, JSON, r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#,     ["200 no_answer_object", "as it is", "202 silent", "200 no_answer_object", "as it is"]),
    (200, JSON, r#"{"id":7,"result":{"a":1},"error":{"code":1,"message":"m"}}"#, ["200 result_and_error", "as it is", "202 silent", "200 result_and_error", "as it is"]),
    (200, JSON, r#"{"id":7,"id":8,"result":{"a":1}}"#,             ["502 ambiguous_answer", "as it is", "202 silent", "502 ambiguous_answer", "as it is"]),
    (200, JSON, r#"{"jsonrpc":"2.0","id":7,"result":{"a":"#,       ["502 answer_truncated", "as it is", "202 silent", "502 answer_truncated", "as it is"]),
    (200, JSON, PAGE,                                              ["502 answer_not_json", "as it is", "202 silent", "502 answer_not_json", "as it is"]),
    (200, JSON, "",                                                ["502 empty_answer", "as it is", "202 silent", "502 empty_answer", "as it is"]),
    (200, NONE, "",                                                ["502 empty_answer", "as it is", "202 silent", "502 empty_answer", "as it is"]),
    (200, "gzip, a page", "\u{1f}\u{8b}",                          ["502 content_type", "as it is", "202 silent", "502 content_type", "as it is"]),
    (200, HTML, PAGE,                                              ["502 content_type", "as it is", "202 silent", "502 content_type", "as it is"]),
    (200, TEXT, RESULT,                                            ["502 content_type", "as it is", "202 silent", "502 content_type", "as it is"]),
    (200, NONE, RESULT,                                            ["502 content_type", "as it is", "202 silent", "502 content_type", "as it is"]),
    (202, NONE, "",                                                ["502 accepted_only", "as it is", "202 silent", "502 accepted_only", "as it is"]),
    (202, JSON, r#"{"status":"success"}"#,                         ["502 accepted_only", "as it is", "202 silent", "502 accepted_only", "as it is"]),
    (204, NONE, "",                                                ["502 accepted_only", "as it is", "202 silent", "502 accepted_only", "as it is"]),

    // Elsewhere.
    (307, "location", "",                                          ["as it is", "as it is", "as it is", "as it is", "as it is"]),
    (304, NONE, "",                                                ["502 status", "502 status", "304 silent", "502 status", "as it is"]),

    // JSON-RPC errors under a status of failure: the upstream's own.
    (400, JSON, ERROR,                                             ["as it is", "as it is", "400 silent", "400 status", "as it is"]),
    (400, JSON, SERVER_ERROR,                                      ["its id", "its id", "400 silent", "400 status", "as it is"]),
    (404, JSON, SERVER_ERROR,                                      ["its id", "its id", "404 silent", "404 status", "as it is"]),
    (403, JSON, r#"{"error":{"code":-32003,"message":"no"}}"#,     ["its id", "its id", "403 silent", "403 status", "as it is"]),
    (500, JSON, r#"[{"id":1,"error":{"code":1,"message":"m"}}]"#,  ["500 status", "500 status", "500 silent", "completed", "as it is"]),
    (500, JSON, r#"[{"id":3,"error":{"code":1,"message":"m"}}]"#,  ["500 status", "500 status", "500 silent", "500 status", "as it is"]),

    // Everything else under a status of failure.
    (401, JSON, DETAIL,                                            ["401 status", "401 status", "401 silent", "401 status", "as it is"]),
    (403, JSON, DETAIL,                                            ["403 status", "403 status", "403 silent", "403 status", "as it is"]),
    (404, JSON, r#"{"detail":"Server not found"}"#,                ["404 status", "404 status", "404 silent", "404 status", "as it is"]),
    (405, JSON, DETAIL,                                            ["405 status", "405 status", "405 silent", "405 status", "as it is"]),
    (429, JSON, r#"{"error":"Account locked","message":"wait"}"#,  ["429 status", "429 status", "429 silent", "429 status", "as it is"]),
    (408, TEXT, "slow",                                            ["408 status", "408 status", "408 silent", "408 status", "as it is"]),
    (413, NONE, "",                                                ["413 status", "413 status", "413 silent", "413 status", "as it is"]),
    (415, HTML, PAGE,                                              ["415 status", "415 status", "415 silent", "415 status", "as it is"]),
    (500, JSON, r#"{"error":"Internal forwarding error"}"#,        ["500 status", "500 status", "500 silent", "500 status", "as it is"]),
    (500, JSON, RESULT,                                            ["500 status", "500 status", "500 silent", "500 status", "as it is"]),
    (500, JSON, "null",                                            ["500 status", "500 status", "500 silent", "500 status", "as it is"]),
    (500, JSON, r#"{"jsonrpc":"2.0","id":7,"error":{"co"#,         ["500 status", "500 status", "500 silent", "500 status", "as it is"]),
    (502, HTML, PAGE,                                              ["502 status", "502 status", "502 silent", "502 status", "as it is"]),
    (503, "image/png", "\u{89}PNG",                                ["503 status", "503 status", "503 silent", "503 status", "as it is"]),
    (500, SSE,  "",                                                ["500 status", "500 status", "500 silent", "500 status", "watched"]),
    (500, "gzip", "\u{1f}\u{8b}",                                  ["500 status", "500 status", "500 silent", "500 status", "as it is"]),
    (999, NONE, "",                                                ["502 status", "502 status", "999 silent", "502 status", "as it is"]),
];

/// Kinds of request, in the order of the table's columns.
fn kinds() -> [(Caller, bool); 5] {
    [
        (Caller::Request(b"7".to_vec()), false),
        (Caller::Request(b"7".to_vec()), true),
        (Caller::Silent, false),
        (Caller::Batch(vec![b"1".to_vec(), b"2".to_vec()]), false),
        (Caller::Bare, false),
    ]
}

fn asked(caller: &Caller, by_stream: bool) -> Asked {
    let method = matches!(caller, Caller::Request(_)).then(|| "tools/call".to_owned());
    Asked {
        caller: caller.clone(),
        method,
        in_session: true,
        by_stream,
        can_resume: true,
        ..Asked::default()
    }
}

fn answered<'a>(status: u16, content_type: &'a str, body: Body<'a>) -> Answered<'a> {
    let (is_coded, has_location) = (content_type.starts_with("gzip"), content_type == "location");
    let content_type = ContentType::of(match content_type {
        "gzip" => Some(JSON),
        "gzip, a page" => Some(HTML),
        "gzip, a stream" => Some(SSE),
        "location" | NONE => None,
        named => Some(named),
    });
    Answered { status, content_type, is_coded, has_location, retry_after: None, body }
}

fn decide_in_the_end(
    asked: &Asked,
    status: u16,
    content_type: &str,
    body: &[u8],
    statuses: Statuses,
) -> Verdict {
    match decide(asked, &answered(status, content_type, Body::Unread), statuses) {
        Verdict::Hold => {
            decide(asked, &answered(status, content_type, Body::Read(body, Extent::Whole)), statuses)
        }
        verdict => verdict,
    }
}

fn said(verdict: &Verdict, upstream: u16) -> String {
    match verdict {
        Verdict::Hold => "held".to_owned(),
        Verdict::Pass { status } if *status == upstream => "as it is".to_owned(),
        Verdict::Pass { status } => format!("as it is, but {status}"),
        Verdict::Mend { status, mend } => {
            let done = if mend.kind == "id" { "its id" } else { "completed" };
            if *status == upstream { done.to_owned() } else { format!("{done}, {status}") }
        }
        Verdict::Watch => "watched".to_owned(),
        Verdict::Reply { status, why, .. } => format!("{status} {}", why.kind()),
        Verdict::Silence { status } => format!("{status} silent"),
    }
}

#[test]
fn every_answer_to_every_kind_of_request() {
    for &(status, content_type, body, expected) in TABLE {
        let outcomes = kinds().map(|(caller, by_stream)| {
            let asked = asked(&caller, by_stream);
            let verdict =
                decide_in_the_end(&asked, status, content_type, body.as_bytes(), Statuses::Preserve);
            assert_speaks_to(&caller, &verdict);
            said(&verdict, status)
        });
        assert_eq!(outcomes.each_ref().map(String::as_str), expected, "{status} {content_type} {body}");
    }
}

/// A reply, or what a mended answer has become, is JSON-RPC with the ids of the caller.
fn assert_speaks_to(caller: &Caller, verdict: &Verdict) {
    let Verdict::Reply { body, .. } = verdict else { return };
    let value: serde_json::Value = serde_json::from_slice(body).expect("a reply is JSON");
    let answers = value.as_array().cloned().unwrap_or_else(|| vec![value]);
    assert_eq!(answers.len(), caller.ids().len());
    for (answer, id) in answers.iter().zip(caller.ids()) {
        assert_eq!(answer["jsonrpc"], "2.0");
        assert_eq!(answer["id"].to_string().as_bytes(), id);
        let code = answer["error"]["code"].as_i64().expect("a code");
        assert!(answer["error"]["message"].is_string());
        // Codes of our own are -32603 alone; the others are the upstream's.
        assert!(code == -32603 || [-32602, -32600, -32003, 1].contains(&code));
    }
}

#[test]
fn an_event_stream_or_a_redirect_or_an_acceptance_needs_no_body() {
    let caller = Caller::Request(b"7".to_vec());
    for (status, content_type) in [(200, SSE), (307, "location"), (202, JSON), (200, "gzip"), (500, SSE)] {
        let verdict =
            decide(&asked(&caller, false), &answered(status, content_type, Body::Unread), Statuses::Preserve);
        assert_ne!(verdict, Verdict::Hold, "{status} {content_type}");
    }
}

/// `errors.status: ok`: 200 wherever a client does not act on the status.
#[test]
#[rustfmt::skip]
fn statuses_that_become_200() {
    let request = Caller::Request(b"7".to_vec());
    let of = |asked: &Asked, status, content_type: &str, body: &str| {
        said(&decide_in_the_end(asked, status, content_type, body.as_bytes(), Statuses::Ok), status)
    };
    let in_session = asked(&request, false);
    let outside = Asked { in_session: false, ..in_session.clone() };
    let by_stream = asked(&request, true);
    let trying = Asked { tries_transport: true, ..in_session.clone() };
    assert_eq!(of(&in_session, 500, JSON, ERROR),  "as it is, but 200");
    assert_eq!(of(&in_session, 400, JSON, SERVER_ERROR), "its id, 200");
    assert_eq!(of(&in_session, 502, HTML, PAGE),   "200 status");
    assert_eq!(of(&in_session, 429, JSON, DETAIL), "200 status");
    assert_eq!(of(&in_session, 202, NONE, ""),     "200 accepted_only");
    assert_eq!(of(&in_session, 200, JSON, RESULT), "as it is");
    assert_eq!(of(&in_session, 201, JSON, RESULT), "as it is");
    assert_eq!(of(&in_session, 401, JSON, DETAIL), "401 status");
    assert_eq!(of(&in_session, 403, JSON, ERROR),  "as it is");
    assert_eq!(of(&in_session, 404, JSON, SERVER_ERROR), "its id");
    assert_eq!(of(&outside,    404, JSON, DETAIL), "200 status");
    assert_eq!(of(&by_stream,  500, JSON, DETAIL), "500 status");
    assert_eq!(of(&trying,     405, JSON, DETAIL), "405 status");
    assert_eq!(of(&asked(&Caller::Silent, false), 500, JSON, DETAIL), "500 silent");
    assert_eq!(of(&asked(&Caller::Bare, false), 500, JSON, DETAIL), "as it is");
}

#[test]
#[rustfmt::skip]
fn only_methods_that_must_return_something_cannot_return_nothing() {
    let hollow = r#"{"jsonrpc":"2.0","id":7,"result":{}}"#;
    let caller = Caller::Request(b"7".to_vec());
    let of = |method: Option<&str>| {
        let asked = Asked { method: method.map(str::to_owned), ..asked(&caller, false) };
        said(&decide_in_the_end(&asked, 200, JSON, hollow.as_bytes(), Statuses::Preserve), 200)
    };
    for method in ["tools/call", "tools/list", "initialize", "resources/read", "prompts/get", "completion/complete"] {
        assert_eq!(of(Some(method)), "200 hollow_result", "{method}");
    }
    for method in ["ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe", "vendor/thing", "tasks/cancel"] {
        assert_eq!(of(Some(method)), "as it is", "{method}");
    }
    assert_eq!(of(None), "as it is");
}

#[test]
fn the_reply_says_what_the_upstream_said() {
    let caller = Caller::Request(br#""a""#.to_vec());
    let reply_to =
        |answered: Answered<'_>| match decide(&asked(&caller, false), &answered, Statuses::Preserve) {
            Verdict::Reply { body, .. } => String::from_utf8_lossy(&body).into_owned(),
            verdict => panic!("{verdict:?}"),
        };
    let whole = |status, content_type, body: &'static str| {
        answered(status, content_type, Body::Read(body.as_bytes(), Extent::Whole))
    };
    let error = |rest| format!(r#"{{"jsonrpc":"2.0","id":"a","error":{{"code":-32603,{rest}}}}}"#);
    assert_eq!(
        reply_to(whole(401, JSON, DETAIL)),
        error(
            r#""message":"The upstream answered HTTP 401 Unauthorized: Not authenticated","data":{"httpStatus":401,"detail":"Not authenticated"}"#
        )
    );
    assert_eq!(
        reply_to(Answered { retry_after: Some("30"), ..whole(429, JSON, "{}") }),
        error(
            r#""message":"The upstream answered HTTP 429 Too Many Requests","data":{"httpStatus":429,"retryAfter":30}"#
        )
    );
    assert_eq!(
        reply_to(whole(200, HTML, PAGE)),
        error(
            r#""message":"The upstream answered with text/html in place of JSON: Bad Gateway","data":{"httpStatus":200,"detail":"Bad Gateway","contentType":"text/html"}"#
        )
    );
    assert_eq!(
        reply_to(whole(200, JSON, r#"{"id":"a","result":{}}"#)),
        error(
            r#""message":"The upstream's answer to tools/call holds nothing","data":{"httpStatus":200,"method":"tools/call"}"#
        )
    );
}

/// What came stays as it is written; behind it comes an error for each request that it leaves out, under the id as the client wrote it.
#[test]
fn a_batch_gets_an_answer_for_each_of_its_ids() {
    let of = |ids: &[&str], body: &str, extent| {
        let caller = Caller::Batch(ids.iter().map(|id| id.as_bytes().to_vec()).collect());
        let answered = answered(200, JSON, Body::Read(body.as_bytes(), extent));
        match decide(&asked(&caller, false), &answered, Statuses::Preserve) {
            Verdict::Pass { status: 200 } => "as it is".to_owned(),
            Verdict::Mend { status: 200, mend } => {
                String::from_utf8_lossy(&mend.apply(body.as_bytes())).into_owned()
            }
            verdict => panic!("{verdict:?}"),
        }
    };
    let error = |id| {
        format!(
            r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32603,"message":"The upstream's answer to the batch leaves this request out","data":{{"httpStatus":200}}}}}}"#
        )
    };
    let [one, two] = [r#"{"id":1,"result":{"a":1}}"#, r#"{"error":{"code":1,"message":"m"},"id":"\u0062"}"#];
    let (both, ids) = (format!(" [{two} ,{one}]\n"), ["1.0", r#""b""#]);
    assert_eq!(of(&ids, &both, Extent::Whole), "as it is");
    assert_eq!(of(&["1", "1"], &format!("[{one}]"), Extent::Whole), "as it is");
    let left_out = format!(" [{two} ,{one},{},{}]\n", error("1e1"), error(r#""1""#));
    assert_eq!(of(&[ids[0], "1e1", ids[1], r#""1""#], &both, Extent::Whole), left_out);
    assert_eq!(of(&ids, &format!("[{two}]"), Extent::Whole), format!("[{two},{}]", error("1.0")));
    // The only answer, and no array: all of them make one.
    assert_eq!(of(&["1"], one, Extent::Whole), "as it is");
    assert_eq!(of(&ids, &format!("{one}\n"), Extent::Whole), format!("[{one},{}]\n", error(ids[1])));
    // The rest of a long one is still to come, and leaves as it comes.
    assert_eq!(of(&ids, &format!("[{one},"), Extent::Beginning), "as it is");
}

/// A long answer is judged by its beginning.
#[test]
fn what_begins_like_an_answer_leaves() {
    let caller = Caller::Request(b"7".to_vec());
    let of = |status, body: &str| {
        let answered = answered(status, JSON, Body::Read(body.as_bytes(), Extent::Beginning));
        said(&decide(&asked(&caller, false), &answered, Statuses::Preserve), status)
    };
    assert_eq!(of(200, r#"{"jsonrpc":"2.0","id":7,"result":{"content":[{"text":"a"#), "as it is");
    assert_eq!(of(200, r#"{"result":{"content":[{"text":"a"#), "as it is");
    assert_eq!(of(200, r#"{"id":null,"result":{"content":[{"text":"a"#), "its id");
    assert_eq!(of(200, r#"{"error":{"code":1,"message":"a"#), "as it is");
    assert_eq!(of(200, r#"{"detail":"a"#), "200 no_answer_object");
    assert_eq!(of(200, r#"{"id":7,"result":{"a":nonsense"#), "502 answer_not_json");
    assert_eq!(of(500, r#"{"id":7,"error":{"code":1,"message":"a"#), "as it is");
    assert_eq!(of(500, r#"{"id":7,"result":{"content":[{"text":"a"#), "500 status");
}
