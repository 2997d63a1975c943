//! Generated answers: every valid one, however it is written, leaves byte for byte. The surprise: the generator writes ids that mean the
//! caller's in other digits and escapes, because a server that parses and prints an id anew is healthy.

use outrigger::mcp::failure::{Body, Caller, Extent, Statuses, Verdict};
use outrigger::mcp::id::same;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::value::RawValue;

use crate::failure_oracle::{judge, verdict_on};
use crate::splice_properties::{space, string, value};

/// An id as the client and as the server may write it.
fn id() -> impl Strategy<Value = (String, String)> {
    let number = "-?(0|[1-9][0-9]{0,30})".prop_flat_map(|digits| {
        let other = prop_oneof![
            Just(digits.clone()),
            Just(format!("{digits}.0")),
            Just(format!("{digits}.00e-0")),
            Just(format!("{digits}E+0")),
        ];
        (Just(digits), other)
    });
    let text = "[a-zA-Z0-9é😀_-]{0,20}".prop_map(|text| {
        let escaped: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        (format!("\"{text}\""), format!("\"{escaped}\""))
    });
    let odd = prop_oneof![string(), Just("null".to_owned()), Just("1E400".to_owned())]
        .prop_map(|id| (id.clone(), id));
    prop_oneof![number, text, odd]
}

/// What the method may return, and a proper error.
fn outcome() -> impl Strategy<Value = String> {
    let result = (space(), value(), space())
        .prop_map(|(before, value, behind)| format!("\"result\"{before}:{behind}{{\"a\":{value}}}"));
    let error =
        ("-?[1-9][0-9]{0,9}", string(), value(), any::<bool>()).prop_map(|(code, message, data, order)| {
            let (code, message) = (format!("\"code\":{code}"), format!("\"message\" : {message}"));
            let [one, two] = if order { [code, message] } else { [message, code] };
            format!("\"error\": {{{one},\"data\":{data},{two}}}")
        });
    prop_oneof![3 => result, 1 => error]
}

/// An answer, and the id of its request.
fn answer() -> impl Strategy<Value = (String, String)> {
    let other = (string(), value()).prop_map(|(key, value)| format!("\"x{}:{value}", &key[1..]));
    let order = Just(vec![0, 1, 2, 3]).prop_shuffle();
    (id(), outcome(), vec(other, 0..3), space(), order).prop_map(
        |((asked, written), outcome, others, space, order)| {
            let members =
                [r#""jsonrpc":"2.0""#.to_owned(), format!("\"id\":{written}"), outcome, others.join(",")];
            let members: Vec<&str> =
                order.iter().map(|at| members[*at].as_str()).filter(|text| !text.is_empty()).collect();
            (asked, format!("{space}{{{space}{}{space}}}{space}", members.join(&format!("{space},{space}"))))
        },
    )
}

/// What is asked of an error that is put behind the answers of a batch.
#[derive(serde::Deserialize)]
struct Error<'a> {
    #[serde(borrow)]
    id: &'a RawValue,
    #[serde(rename = "error")]
    _error: serde::de::IgnoredAny,
}

proptest! {
    #[test]
    fn a_valid_answer_leaves_as_it_is((id, body) in answer(), status in prop_oneof![Just(200_u16), Just(201)]) {
        let caller = Caller::Request(id.into_bytes());
        let body = Body::Read(body.as_bytes(), Extent::Whole);
        let verdict = verdict_on(&caller, status, Some("application/json; charset=utf-8"), body, Statuses::Preserve);
        prop_assert_eq!(verdict, Verdict::Pass { status });
    }

    #[test]
    fn a_batch_keeps_what_it_got_and_gets_errors_for_the_rest(
        batch in vec((answer(), any::<bool>()), 1..6),
        space in space(),
    ) {
        let given: Vec<&(String, String)> = batch.iter().filter(|(_, is_given)| *is_given).map(|(pair, _)| pair).collect();
        let bodies: Vec<&str> = given.iter().map(|(_, body)| body.as_str()).collect();
        let (text, end) = (format!("{space}[{}", bodies.join(",")), format!("]{space}"));
        let ids = batch.iter().map(|((id, _), _)| id.clone().into_bytes());
        let caller = Caller::Batch(ids.clone().collect());
        let missing: Vec<Vec<u8>> =
            ids.filter(|id| !given.iter().any(|(other, _)| same(id, other.as_bytes()))).collect();
        let body = format!("{text}{end}");
        let json = Some("application/json");
        match verdict_on(&caller, 200, json, Body::Read(body.as_bytes(), Extent::Whole), Statuses::Preserve) {
            Verdict::Pass { status: 200 } => prop_assert_eq!(missing.len(), 0),
            Verdict::Mend { status: 200, mend } => {
                let completed = mend.apply(body.as_bytes());
                let errors = completed.strip_prefix(text.as_bytes()).and_then(|rest| rest.strip_suffix(end.as_bytes()));
                let errors = [b"[", &errors.expect("what came stays as it is")[1..], b"]"].concat();
                let errors: Vec<Error<'_>> = serde_json::from_slice(&errors).expect("errors");
                let ids: Vec<&[u8]> = errors.iter().map(|error| error.id.get().as_bytes()).collect();
                prop_assert_eq!(ids, missing);
            }
            Verdict::Reply { .. } => prop_assert_eq!(given.len(), 0),
            verdict => prop_assert!(false, "{:?}", verdict),
        }
    }

    #[test]
    fn an_answer_to_7_is_judged_alike_in_pieces((_, body) in answer()) {
        judge(body.as_bytes());
        judge(body.replacen("\"id\":", "\"id\":7,\"y\":", 1).as_bytes());
    }

    #[test]
    fn any_bytes_get_a_verdict(bytes in vec(any::<u8>(), 0..60)) {
        judge(&bytes);
    }

    #[test]
    fn a_broken_off_answer_is_a_failure((id, body) in answer(), cut in any::<prop::sample::Index>()) {
        let caller = Caller::Request(id.into_bytes());
        let text = body.trim_end();
        let body = Body::Read(&text.as_bytes()[..cut.index(text.len())], Extent::Whole);
        match verdict_on(&caller, 200, Some("application/json"), body, Statuses::Preserve) {
            Verdict::Reply { status, .. } => prop_assert_eq!(status, 502),
            verdict => prop_assert!(false, "{:?}", verdict),
        }
    }
}
