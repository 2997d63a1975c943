//! The judge of the failure mapping: takes any bytes as the body of an answer, panics unless what leaves is an answer to the caller by
//! serde_json's reading. The surprise: a body is judged whole, by its beginnings and as it passes, and all three must agree.

use bytes::Bytes;
use outrigger::mcp::failure::{
    Answered, Asked, Body, Caller, ContentType, Extent, Held, Mend, Statuses, Tail, Verdict, decide,
};
use serde_json::Value;
use serde_json::value::RawValue;

/// Judges one body; true if it is an answer, or nearly one.
pub fn judge(body: &[u8]) -> bool {
    let callers = [
        Caller::Request(b"7".to_vec()),
        Caller::Batch(vec![b"1".to_vec(), br#""b""#.to_vec()]),
        Caller::Silent,
        Caller::Bare,
    ];
    let (json, page) = (Some("application/json"), Some("text/html"));
    let heads = [(200, json), (202, json), (404, json), (500, json), (200, page), (500, None)];
    let mut kept = false;
    for caller in &callers {
        for (status, content_type) in heads {
            let statuses = if status == 500 { Statuses::Ok } else { Statuses::Preserve };
            let verdict = verdict_on(caller, status, content_type, Body::Read(body, Extent::Whole), statuses);
            assert_verdict(caller, body, &verdict);
            let leaves = matches!(verdict, Verdict::Pass { .. } | Verdict::Mend { .. });
            kept |= leaves && matches!(caller, Caller::Request(_));
        }
    }
    kept
}

pub fn verdict_on(
    caller: &Caller,
    status: u16,
    content_type: Option<&str>,
    body: Body<'_>,
    statuses: Statuses,
) -> Verdict {
    let method = matches!(caller, Caller::Request(_)).then(|| "tools/call".to_owned());
    let asked =
        Asked { caller: caller.clone(), method, in_session: true, can_resume: true, ..Asked::default() };
    let content_type = ContentType::of(content_type);
    let answered =
        Answered { status, content_type, is_coded: false, has_location: false, retry_after: None, body };
    decide(&asked, &answered, statuses)
}

fn assert_verdict(caller: &Caller, body: &[u8], verdict: &Verdict) {
    match (verdict, caller) {
        (Verdict::Hold | Verdict::Watch, _) => panic!("{verdict:?} of a body that was read"),
        (Verdict::Pass { .. }, Caller::Request(_)) => {
            assert_answers_7(body);
            assert_passes_in_pieces(caller, body);
        }
        (Verdict::Pass { .. }, Caller::Batch(_)) => assert_answers_batch(body),
        (Verdict::Mend { mend, .. }, Caller::Batch(_)) => {
            let completed = mend.apply(body);
            let given = body.trim_ascii();
            let given = given.strip_suffix(b"]").unwrap_or(given);
            assert!(completed.windows(given.len()).any(|part| part == given), "what came stays as it is");
            assert_answers_batch(&completed);
        }
        (Verdict::Mend { mend, .. }, _) => assert_mends(caller, body, mend),
        (Verdict::Reply { body, .. }, _) => assert_reply(caller, body),
        (Verdict::Silence { .. }, _) => assert_eq!(caller, &Caller::Silent),
        (Verdict::Pass { .. }, _) => assert_eq!(caller, &Caller::Bare),
    }
}

/// One answer to request 7, by a JSON library that knows nothing of the rule.
pub fn assert_answers_7(body: &[u8]) {
    serde_json::from_slice::<&RawValue>(body).expect("what passes is JSON");
    // Numbers of any size and lone surrogates are JSON, but no `Value`.
    let Ok(answer) = serde_json::from_slice::<Value>(body) else { return };
    assert_eq!(answer["jsonrpc"], "2.0");
    assert_eq!(answer["id"].as_f64(), Some(7.0), "the id is the caller's");
    let has = |name: &str| answer.get(name).is_some_and(|value| !value.is_null());
    assert!(has("result") != has("error"), "a result or an error");
    assert_ne!(answer["result"], serde_json::json!({}), "tools/call returns something");
    if has("error") {
        assert!(answer["error"]["code"].is_number() && answer["error"]["message"].is_string());
    }
}

/// Answers to the requests 1 and "b", both of them.
fn assert_answers_batch(body: &[u8]) {
    serde_json::from_slice::<&RawValue>(body).expect("what passes is JSON");
    let Ok(answers) = serde_json::from_slice::<Vec<Value>>(body) else { return };
    assert!(answers.iter().any(|answer| answer["id"].as_f64() == Some(1.0)), "1 is answered");
    assert!(answers.iter().any(|answer| answer["id"] == "b"), "b is answered");
}

/// What passes whole passes also where it is longer than what is held, unless nothing of the answer has begun there; and cut short
/// it never does.
fn assert_passes_in_pieces(caller: &Caller, body: &[u8]) {
    for cut in (0..body.len()).step_by(1 + body.len() / 16) {
        let (beginning, rest) = body.split_at(cut);
        let json = Some("application/json");
        match verdict_on(caller, 200, json, Body::Read(beginning, Extent::Beginning), Statuses::Preserve) {
            Verdict::Pass { .. } => {}
            Verdict::Reply { why, .. } => assert!(["no_answer_object", "empty_answer"].contains(&why.kind())),
            verdict => panic!("{verdict:?} of {cut} bytes"),
        }
        let mut tail = Tail::of_answer(caller);
        tail.push(beginning);
        let has_ended = rest.iter().all(u8::is_ascii_whitespace);
        assert_eq!(tail.may_end(), has_ended, "after {cut} bytes");
        tail.push(rest);
        assert!(tail.may_end());
        let mut held = Held::default();
        held.push(Bytes::copy_from_slice(beginning));
        held.push(Bytes::copy_from_slice(rest));
        assert_eq!(held.release(), body);
    }
}

fn assert_mends(caller: &Caller, body: &[u8], mend: &Mend) {
    let mended = mend.apply(body);
    let again = verdict_on(
        caller,
        200,
        Some("application/json"),
        Body::Read(&mended, Extent::Whole),
        Statuses::Preserve,
    );
    assert!(matches!(again, Verdict::Pass { .. }), "{again:?} of {}", mended.escape_ascii());
    assert_answers_7(&mended);
}

fn assert_reply(caller: &Caller, body: &[u8]) {
    serde_json::from_slice::<&RawValue>(body).expect("a reply is JSON");
    // The upstream's own error data may be no `Value`.
    let Ok(reply) = serde_json::from_slice::<Value>(body) else { return };
    let answers = reply.as_array().cloned().unwrap_or_else(|| vec![reply]);
    let ids: Vec<Vec<u8>> = answers.iter().map(|answer| answer["id"].to_string().into_bytes()).collect();
    assert_eq!(ids, caller.ids());
    for answer in answers {
        assert_eq!(answer["jsonrpc"], "2.0");
        assert!(answer["error"]["code"].is_number() && answer["error"]["message"].is_string());
        let message = answer["error"]["message"].as_str().expect("a string");
        let ours = answer["error"]["code"] == -32603 && message.starts_with("The upstream");
        assert!(!ours || !message.chars().any(char::is_control), "{message:?}");
    }
}
