//! What must hold for any bytes that anybody sends: pure functions against tables, generated and mutated input.
//! `FUZZ_SECONDS=600 cargo test --test fuzz` fuzzes for longer; `FUZZ_SEED` begins elsewhere. The surprise: this is a
//! plain test on stable Rust, and every run with the same seed walks the same way.

mod addresses;
mod failure_oracle;
mod failure_properties;
mod mutate;
mod splice_oracle;
mod splice_properties;
mod splice_torture;
mod stream_oracle;

/// Bodies from which the mutations start: one of every shape that the splice tells apart.
const SPLICE_SEEDS: &[&str] = &[
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"b":[1,-2.5e+3,true,null]}}}"#,
    r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
    r#"{"id":"\ud83d\ude00","method":"x","params":{"server\u005fid":"Y","a":"\\\"","server_id":{}}}"#,
    r#"{"id":1,"method":"x","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#,
    r#"{"id":1,"result":{"roots":[{"uri":"file:///é"}]}}"#,
    r#"[{"id":1,"method":"a"},{"method":"b","params":[]},{"id":2,"error":{"code":-1}},0]"#,
    r#" { "params" : { } , "method" : "a long enough name that words and blocks of 64 bytes are walked" } "#,
];

/// What the mutations like to insert: the words and the turns of the grammar.
const SPLICE_TOKENS: &[&str] = &[
    r#""params":{"#,
    r#""params":"#,
    r#""method":"x","#,
    r#""id":1,"#,
    r#""server_id":"Y","#,
    r#""server_id":"fuzz""#,
    r#""_meta":{"#,
    r#""result":0"#,
    r#"\u005f"#,
    r#"\ud800"#,
    r#"\u00"#,
    "\\",
    "\"",
    "{",
    "}",
    "[",
    "]",
    "[[[[",
    ",",
    ":",
    "{}",
    "0",
    "-",
    ".5",
    "1e9",
    "null",
    "tru",
    " ",
    "\n        ",
    "é",
    "\u{FEFF}",
    "\0",
    "\u{1f}",
];

#[test]
fn the_splice_survives_mutations() {
    mutate::run(SPLICE_SEEDS, SPLICE_TOKENS, splice_oracle::judge);
}

#[test]
fn forwarded_survives_mutations() {
    mutate::run(addresses::FORWARDED, addresses::FORWARDED_TOKENS, addresses::judge_forwarded);
}

#[test]
fn challenges_survive_mutations() {
    mutate::run(addresses::CHALLENGES, addresses::CHALLENGE_TOKENS, addresses::judge_challenge);
}

#[test]
fn endpoint_events_survive_mutations() {
    mutate::run(addresses::STREAMS, addresses::STREAM_TOKENS, addresses::judge_stream);
}

#[test]
fn metadata_documents_survive_mutations() {
    mutate::run(addresses::DOCUMENTS, addresses::DOCUMENT_TOKENS, addresses::judge_document);
}

/// Bodies of answers: healthy ones, and one of every failure that is told apart.
const ANSWER_SEEDS: &[&str] = &[
    r#"{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"a \\\"b\\\" é"}],"isError":false}}"#,
    r#"{"result":{"tools":[]},"jsonrpc":"2.0","id":7}"#,
    r#"{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"Session not found","data":{"a":[1]}}}"#,
    r#" { "jsonrpc" : "2.0" , "id" : 0.7e1 , "result" : { } } "#,
    r#"[{"jsonrpc":"2.0","id":1,"result":{}},{"jsonrpc":"2.0","id":"\u0062","error":{"code":1,"message":""}}]"#,
    r#" [ {"jsonrpc":"2.0","result":{"a":[1]},"id":1e0} ] "#,
    r#"{"detail":[{"loc":["body"],"msg":"Field required"}]}"#,
    "<html><head><style>p{}</style></head><body><h1>502 Bad Gateway</h1></body></html>",
];

const ANSWER_TOKENS: &[&str] = &[
    r#""jsonrpc":"2.0","#,
    r#""id":7,"#,
    r#","id":null"#,
    r#""id":"7","#,
    r#""result":{},"#,
    r#""r\u0065sult":null,"#,
    r#""result":{"a":1}"#,
    r#""error":{"code":1,"message":"m"},"#,
    r#""error":null,"#,
    r#""detail":"x""#,
    "\\u0037",
    "\\ud800",
    "7",
    "{",
    "}",
    "[",
    "]",
    ",",
    "\"",
    "\\",
    "<p>",
    "<!--",
    "</",
    "\n",
    "\0",
    "\u{FEFF}",
    "😀",
];

#[test]
fn failures_survive_mutations() {
    mutate::run(ANSWER_SEEDS, ANSWER_TOKENS, failure_oracle::judge);
}

/// Event streams: every framing, and what a POST's and an HTTP+SSE stream hold.
const STREAM_SEEDS: &[&str] = &[
    "id: 1\ndata:\n\nevent: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"content\":[]}}\n\n",
    ": hi\r\n\r\nretry: 5\r\ndata: {\"jsonrpc\":\"2.0\",\"result\":{},\"id\":2}\r\n\r\n",
    "\u{feff}event: endpoint\rdata: /message?session_id=1\r\rdata: {\"method\":\"x\",\rdata:\"params\":{\"id\":7}}\r\r",
];

const STREAM_TOKENS: &[&str] = &[
    "\n",
    "\r",
    "\r\n",
    "\n\n",
    "\r\r",
    "\r\n\r\n",
    ":",
    ": ",
    "data",
    "data:",
    "data: ",
    "id: 2\n",
    "event: x\n",
    "retry",
    "\u{feff}",
    "data: {\"id\":7,\"result\":{}}\n\n",
    "\"id\":7,",
    "\"result\":null",
    "{",
    "}",
    "[",
    "\"",
    "\\",
    "\0",
    "é",
];

#[test]
fn streams_survive_mutations() {
    mutate::run(STREAM_SEEDS, STREAM_TOKENS, stream_oracle::judge);
}
