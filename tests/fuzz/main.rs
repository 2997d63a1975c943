//! What must hold for any bytes that anybody sends: pure functions against tables, generated and mutated input.
//! `FUZZ_SECONDS=600 cargo test --test fuzz` fuzzes for longer; `FUZZ_SEED` begins elsewhere. The surprise: this is a
//! plain test on stable Rust, and every run with the same seed walks the same way.

mod addresses;
mod mutate;
mod splice_oracle;
mod splice_properties;
mod splice_torture;

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
