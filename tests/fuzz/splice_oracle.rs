//! The judge of scan and splice: takes any bytes, panics unless what they make of them agrees with serde_json. The
//! surprise: serde_json's `RawValue` allows numbers, surrogates and depth of any kind, as our scanner does, so the two
//! must agree on every body; its `Value` does not, so values are compared where it can read them.

use outrigger::mcp::jsonrpc::{self, Envelope, Kind};
use outrigger::mcp::splice;
use serde_json::value::RawValue;
use serde_json::{Value, json};

const SERVER_ID: &str = "fuzz";

/// Judges one body; true if it would go upstream.
pub fn judge(body: &[u8]) -> bool {
    let valid = serde_json::from_slice::<&RawValue>(body).is_ok();
    match jsonrpc::scan(body) {
        Err(refusal) => {
            assert_eq!(refusal.reason.code() != -32700, valid, "serde_json disagrees with {refusal:?}");
            let id = refusal.id.map(|id| String::from_utf8(id).expect("an id is text"));
            assert!(id.is_none_or(|id| is_string_or_number(&id)));
            false
        }
        Ok(envelope) => {
            assert!(valid, "serde_json refuses this body");
            let spliced = splice::fuzz_splice(body, SERVER_ID).expect("what was scanned can be spliced");
            let again = jsonrpc::scan(&spliced).expect("what was spliced can be scanned");
            assert_eq!(identities(&envelope), identities(&again), "the splice changed who calls what");
            assert_values(body, &spliced);
            if splice::splice(body, &envelope, SERVER_ID).replaced == 0
                && matches!(envelope, Envelope::Single(_))
            {
                assert_only_inserted(body, &spliced);
            }
            true
        }
    }
}

fn is_string_or_number(text: &str) -> bool {
    let begins_one = |first: char| first == '"' || first == '-' || first.is_ascii_digit();
    text.starts_with(begins_one) && serde_json::from_str::<&RawValue>(text).is_ok()
}

/// All of an envelope that does not depend on where things stand.
fn identities<'a>(envelope: &'a Envelope<'_>) -> Vec<(&'a Kind<'a>, Option<&'a str>, Option<&'a str>)> {
    let messages = envelope.messages().iter();
    messages
        .map(|message| (&message.kind, message.method.as_deref(), message.protocol_version.as_deref()))
        .collect()
}

/// The new body means the old one with `server_id` set.
fn assert_values(body: &[u8], spliced: &[u8]) {
    let Ok(mut expected) = serde_json::from_slice::<Value>(body) else { return };
    match &mut expected {
        Value::Array(messages) => messages.iter_mut().for_each(set_server_id),
        message => set_server_id(message),
    }
    let found: Value =
        serde_json::from_slice(spliced).expect("the splice adds nothing that serde_json cannot read");
    assert_eq!(found, expected);
}

fn set_server_id(message: &mut Value) {
    let Some(members) = message.as_object_mut().filter(|members| members.contains_key("method")) else {
        return;
    };
    if let Some(params) = members.entry("params").or_insert_with(|| json!({})).as_object_mut() {
        params.insert("server_id".to_owned(), json!(SERVER_ID));
    }
}

/// The old body's bytes are all there, with at most one insertion between them.
fn assert_only_inserted(body: &[u8], spliced: &[u8]) {
    let same =
        |pairs: &mut dyn Iterator<Item = (&u8, &u8)>| pairs.take_while(|(old, new)| old == new).count();
    let before = same(&mut body.iter().zip(spliced));
    let behind = same(&mut body.iter().rev().zip(spliced.iter().rev()));
    assert!(before + behind >= body.len(), "bytes outside the splice were changed");
}
