//! Generated messages whose splice is known beforehand, byte for byte: a draft is written twice at once, as the client
//! sends it and as the upstream must receive it. The surprise: the generator calls neither the code that it tests nor
//! any JSON library, so odd white space, escapes and numbers are judged as strictly as plain ones.

use outrigger::mcp::{jsonrpc, splice};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::splice_oracle::judge;

/// A body before and behind the splice of server id `X`.
#[derive(Debug, Clone, Default)]
struct Draft {
    before: String,
    after: String,
    replaced: u32,
}

/// One member of `params`, with the white space around it.
#[derive(Debug, Clone)]
enum Member {
    Other(String),
    Own { space: String, key: String, value: String, behind: String },
}

#[derive(Debug, Clone)]
enum Params {
    Absent,
    Other(String),
    Object { space: String, members: Vec<Member> },
}

proptest! {
    #[test]
    fn a_message_is_spliced_as_drafted(draft in message()) {
        assert_spliced(&draft);
        judge(draft.before.as_bytes());
    }

    #[test]
    fn a_batch_is_spliced_as_drafted(drafts in vec(prop_oneof![message(), untouched(value())], 1..6)) {
        let mut batch = Draft::default();
        batch.same("[");
        for (index, draft) in drafts.iter().enumerate() {
            batch.same(if index == 0 { "" } else { "," });
            batch.before += &draft.before;
            batch.after += &draft.after;
            batch.replaced += draft.replaced;
        }
        batch.same("]");
        assert_spliced(&batch);
    }

    #[test]
    fn any_json_is_judged_like_serde_json(text in value()) {
        judge(text.as_bytes());
    }

    #[test]
    fn any_bytes_are_judged_like_serde_json(bytes in vec(any::<u8>(), 0..40)) {
        judge(&bytes);
    }

    #[test]
    fn a_changed_byte_is_judged_like_serde_json(
        draft in message(), place in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut body = draft.before.into_bytes();
        let place = place.index(body.len());
        body[place] = byte;
        judge(&body);
    }

    #[test]
    fn every_truncation_is_refused(draft in message()) {
        let body = draft.before.trim_end().as_bytes();
        for length in 0..body.len() {
            let refusal = jsonrpc::scan(&body[..length]).expect_err("half a message is none");
            prop_assert_eq!(refusal.reason.code(), -32700);
        }
    }
}

fn assert_spliced(draft: &Draft) {
    let body = draft.before.as_bytes();
    let spliced = splice::splice(body, &jsonrpc::scan(body).expect("a draft is valid"), "X");
    let after = String::from_utf8(spliced.body.unwrap_or_else(|| body.to_vec())).expect("a body is text");
    assert_eq!((after, spliced.replaced), (draft.after.clone(), draft.replaced), "from {}", draft.before);
}

impl Draft {
    fn same(&mut self, text: &str) {
        self.before += text;
        self.after += text;
    }

    fn cut(&mut self, text: &str) {
        self.before += text;
    }

    fn inserted(&mut self, text: &str) {
        self.after += text;
    }

    /// The inside of a call's `params`.
    fn params(&mut self, members: &[Member]) {
        let has_own = members.iter().any(|member| matches!(member, Member::Own { .. }));
        if !has_own {
            self.inserted(if members.is_empty() { r#""server_id":"X""# } else { r#""server_id":"X","# });
        }
        let mut first_own = true;
        for (index, member) in members.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match member {
                Member::Other(text) => self.same(&format!("{comma}{text}")),
                Member::Own { space, key, value, behind } if first_own => {
                    first_own = false;
                    self.same(&format!("{comma}{space}"));
                    self.overrule(key, value);
                    self.same(behind);
                }
                Member::Own { space, key, value, behind } => {
                    self.cut(&format!("{comma}{space}{key}{value}"));
                    self.replaced += 1;
                    self.same(behind);
                }
            }
        }
    }

    fn overrule(&mut self, key: &str, value: &str) {
        if value == r#""X""# && !key.contains('\\') {
            return self.same(&format!("{key}{value}"));
        }
        self.cut(&format!("{key}{value}"));
        self.inserted(r#""server_id":"X""#);
        self.replaced += 1;
    }
}

/// A message with or without a method, its members in any order.
fn message() -> impl Strategy<Value = Draft> {
    let order = Just(vec!["params", "method", "id", "other"]).prop_shuffle();
    (order, prop::bool::weighted(0.8), params(), (space(), space()), value()).prop_map(
        |(order, is_call, params, (space, behind), other)| {
            let mut draft = Draft::default();
            let mut separator = "{";
            for name in order {
                if name == "params" && matches!(params, Params::Absent) {
                    continue;
                }
                draft.same(&format!("{separator}{space}"));
                separator = ",";
                match (name, &params) {
                    ("params", params) => draft.params_member(params, &space, is_call),
                    ("method", _) => {
                        draft.same(if is_call { r#""method":"tools/call""# } else { r#""result":{}"# })
                    }
                    ("id", _) => draft.same(&format!(r#""id"{space}:{behind}12345678901234567890123"#)),
                    _ => draft.same(&format!(r#""server_id":{other}"#)),
                }
            }
            if is_call && matches!(params, Params::Absent) {
                draft.inserted(r#","params":{"server_id":"X"}"#);
            }
            draft.same(&format!("{behind}}}{space}"));
            draft
        },
    )
}

impl Draft {
    fn params_member(&mut self, params: &Params, space: &str, is_call: bool) {
        self.same(&format!(r#""params"{space}:{space}"#));
        match params {
            Params::Absent => {}
            Params::Other(text) => self.same(text),
            Params::Object { space, members } => {
                self.same("{");
                if is_call {
                    self.params(members);
                } else {
                    self.same(&members.iter().map(Member::text).collect::<Vec<_>>().join(","));
                }
                self.same(&format!("{space}}}"));
            }
        }
    }
}

impl Member {
    fn text(&self) -> String {
        match self {
            Self::Other(text) => text.clone(),
            Self::Own { space, key, value, behind } => format!("{space}{key}{value}{behind}"),
        }
    }
}

fn params() -> impl Strategy<Value = Params> {
    let other = (space(), key(), space(), value(), space())
        .prop_map(|(before, key, middle, value, behind)| format!("{before}{key}{middle}:{value}{behind}"));
    let own = (space(), own_key(), space(), prop_oneof![Just(r#""X""#.to_owned()), value()], space())
        .prop_map(|(space, key, middle, value, behind)| Member::Own {
            space,
            key: format!("{key}{middle}:"),
            value,
            behind,
        });
    let unspliceable =
        prop_oneof![number(), string(), Just("null".to_owned()), Just(r#"[{"server_id":1}]"#.to_owned())];
    let members = vec(prop_oneof![3 => other.prop_map(Member::Other), 1 => own], 0..5);
    prop_oneof![
        1 => Just(Params::Absent),
        1 => unspliceable.prop_map(Params::Other),
        4 => (space(), members).prop_map(|(space, members)| Params::Object { space, members }),
    ]
}

fn untouched(text: impl Strategy<Value = String>) -> impl Strategy<Value = Draft> {
    text.prop_map(|text| {
        // An object could be a call by chance; inside an array it is none.
        let text = format!("[{text}]");
        Draft { before: text.clone(), after: text, replaced: 0 }
    })
}

pub fn space() -> impl Strategy<Value = String> {
    prop_oneof![3 => Just(String::new()), 1 => "[ \t\r\n]{1,3}", 1 => "\n {6,20}"]
}

fn own_key() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => Just(r#""server_id""#.to_owned()),
        1 => Just(r#""server\u005fid""#.to_owned()),
        1 => Just(r#""\u0073erver\u005Fi\u0064""#.to_owned()),
    ]
}

/// A key that is none of those that the splice looks for.
fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(r#""arguments""#.to_owned()),
        Just(r#""_meta""#.to_owned()),
        string().prop_map(|text| format!(r#""k{}"#, &text[1..]))
    ]
}

pub fn string() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        3 => "[a-zA-Z0-9 {}\\[\\]:,/]{0,12}",
        1 => "[a-z]{60,140}",
        1 => "(\\\\[\"\\\\/bfnrt]){1,3}",
        1 => "\\\\u[0-9a-fA-F]{4}",
        1 => "[é€😀\u{7f}\u{80}\u{2028}]{1,4}",
    ];
    vec(part, 0..4).prop_map(|parts| format!("\"{}\"", parts.concat()))
}

pub fn number() -> impl Strategy<Value = String> {
    "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,4})?"
}

/// Any JSON value, often nested.
pub fn value() -> impl Strategy<Value = String> {
    let word = prop_oneof![Just("true".to_owned()), Just("false".to_owned()), Just("null".to_owned())];
    prop_oneof![string(), number(), word].prop_recursive(6, 40, 4, |inner| {
        let member = (space(), string(), space(), inner.clone())
            .prop_map(|(before, key, middle, value)| format!("{before}{key}{middle}:{value}"));
        prop_oneof![
            (vec(inner, 0..4), space())
                .prop_map(|(values, space)| format!("[{space}{}{space}]", values.join(","))),
            (vec(member, 0..4), space())
                .prop_map(|(members, space)| format!("{{{space}{}{space}}}", members.join(","))),
        ]
    })
}
