//! Tasks of the extension `io.modelcontextprotocol/tasks` (SEP-2663): which one a modern request is about, and which one an
//! answer created. Takes what the scan found of a request, or an answer's bytes as they pass; gives a task id.
//! Surprise: no byte is held back. A client cannot read a JSON text before its last bracket, nor an event before its blank
//! line, so it is early enough to know the task when that byte is about to leave.

use super::json::{Malformed, Scanner, Skeleton};
use super::message::{Message, string_or_none};
use super::sse::Events;

/// Longest task id that we route by; the specification sets none, servers mint UUIDs.
const LONGEST_ID: usize = 1024;

/// Longest answer (or event) that is searched for a task. A real one has about 300 bytes; what is longer holds content.
const LONGEST_ANSWER: usize = 64 * 1024;

/// The task that a request of the modern era is about.
///
/// By `params.taskId` alone. The `Mcp-Name` field mirrors it for those who cannot read the body; where the two differ a server
/// has to refuse the request, and one that does not look goes by the body.
pub fn asked_for<'m>(message: &'m Message<'_>) -> Option<&'m str> {
    let about_one = matches!(message.method.as_deref()?, "tasks/get" | "tasks/update" | "tasks/cancel");
    message.task_id.as_deref().filter(|id| about_one && is_usable(id))
}

/// Whether the answer to a modern request with this method may create a task. Only that to `tools/call` does so far, and more
/// are expected; an answer about tasks, or an endless one, never does.
pub fn may_come_of(method: &str) -> bool {
    !(method.starts_with("tasks/") || method.starts_with("subscriptions/"))
}

/// Looks through one answer as it passes, cut anywhere.
#[derive(Debug)]
pub struct Watch {
    form: Form,
}

#[derive(Debug)]
enum Form {
    Json {
        text: Vec<u8>,
        /// Only whether all of it is closed.
        brackets: Skeleton,
    },
    EventStream(Events),
    /// The task was found, or there will be none.
    Over,
}

impl Watch {
    /// An answer of `application/json`.
    pub fn json() -> Self {
        Self { form: Form::Json { text: Vec::new(), brackets: Skeleton::up_to(0) } }
    }

    /// An answer of `text/event-stream`.
    pub fn event_stream() -> Self {
        Self { form: Form::EventStream(Events::up_to(LONGEST_ANSWER)) }
    }

    /// The next bytes of the answer, before they leave: the id of the task that the client could know once it has them.
    pub fn push(&mut self, mut bytes: &[u8]) -> Option<String> {
        let id = match &mut self.form {
            Form::Over => return None,
            Form::Json { text, .. } if text.len() + bytes.len() > LONGEST_ANSWER => None,
            Form::Json { text, brackets } => {
                text.extend_from_slice(bytes);
                brackets.push(bytes);
                if text.trim_ascii().is_empty() || !brackets.is_whole() {
                    return None;
                }
                created_by(text)
            }
            Form::EventStream(events) => {
                let found =
                    std::iter::from_fn(|| events.next(&mut bytes)).find_map(|event| created_by(&event.data));
                Some(found?)
            }
        };
        self.form = Form::Over;
        id
    }
}

/// The task that a JSON-RPC answer created: `result.taskId`, if `result.resultType` is `task`.
fn created_by(answer: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(answer).ok()?;
    let mut scanner = Scanner::new(text);
    let mut found = Found::default();
    found.read_answer(text, &mut scanner).and_then(|()| scanner.end()).ok()?;
    found.id.filter(|id| found.is_task && is_usable(id))
}

/// Of a member that stands there several times the last counts, as in the parsers of Python and JavaScript.
#[derive(Default)]
struct Found {
    is_task: bool,
    id: Option<String>,
}

impl Found {
    fn read_answer<'a>(&mut self, text: &'a str, scanner: &mut Scanner<'a>) -> Result<(), Malformed> {
        scanner.object(|scanner, key| {
            if key.name.decode(text) != "result" {
                return scanner.value().map(drop);
            }
            *self = Self::default();
            if scanner.peek() == Some(b'{') {
                self.read_result(text, scanner)
            } else {
                scanner.value().map(drop)
            }
        })
    }

    fn read_result<'a>(&mut self, text: &'a str, scanner: &mut Scanner<'a>) -> Result<(), Malformed> {
        scanner.object(|scanner, key| {
            match &*key.name.decode(text) {
                "resultType" => {
                    self.is_task = string_or_none(text, scanner)?.is_some_and(|kind| kind == "task")
                }
                "taskId" => self.id = string_or_none(text, scanner)?.map(|id| id.into_owned()),
                _ => {
                    scanner.value()?;
                }
            }
            Ok(())
        })
    }
}

/// U+FFFD stands for every lone surrogate, so that two tasks could have it in their ids and be told apart by nobody.
fn is_usable(id: &str) -> bool {
    !id.is_empty() && id.len() <= LONGEST_ID && !id.contains(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::mcp::jsonrpc::{self, Envelope};
    use proptest::prelude::*;

    fn asked_by(body: &str) -> Option<String> {
        match jsonrpc::scan(body.as_bytes()).unwrap() {
            Envelope::Single(message) => asked_for(&message).map(Into::into),
            Envelope::Batch(_) => None,
        }
    }

    #[test]
    #[rustfmt::skip]
    fn a_request_is_about_the_task_of_its_body() {
        let long = "x".repeat(LONGEST_ID + 1);
        let table = [
            ("tasks/get",     r#"{"taskId":"t1"}"#,                          Some("t1")),
            ("tasks/update",  r#"{"inputResponses":{"taskId":"t2"},"taskId":"t1"}"#, Some("t1")),
            ("tasks/cancel",  r#"{"_meta":{},"taskId":"t1","server_id":"a"}"#, Some("t1")),
            ("tasks/get",     r#"{"t\u0061skId":"t\u0031"}"#,                Some("t1")),
            ("tasks/get",     r#"{"taskId":"t1","taskId":"t2"}"#,            Some("t2")),
            ("tasks/get",     r#"{"taskId":"t1","taskId":7}"#,               None),
            ("tasks/get",     r#"{"taskId":""}"#,                            None),
            ("tasks/get",     r#"{"taskId":"\ud800"}"#,                      None),
            ("tasks/get",     r#"{"taskid":"t1"}"#,                          None),
            ("tasks/get",     r#"["taskId","t1"]"#,                          None),
            ("tasks/get",     &format!(r#"{{"taskId":"{long}"}}"#),          None),
            ("tasks/list",    r#"{"taskId":"t1"}"#,                          None),
            ("tasks/get/",    r#"{"taskId":"t1"}"#,                          None),
            ("tools/call",    r#"{"taskId":"t1","name":"tasks/get"}"#,       None),
        ];
        for (method, params, task) in table {
            let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
            assert_eq!(asked_by(&body).as_deref(), task, "{body}");
        }
        assert_eq!(asked_by(r#"{"id":1,"method":"tasks/get","taskId":"t1"}"#), None);
        assert_eq!(asked_by(r#"{"id":1,"result":{"taskId":"t1"}}"#), None);
    }

    #[test]
    fn answers_that_may_create_tasks() {
        for method in ["tools/call", "prompts/get", "resources/read", "something/new"] {
            assert!(may_come_of(method), "{method}");
        }
        for method in ["tasks/get", "tasks/update", "tasks/cancel", "subscriptions/listen"] {
            assert!(!may_come_of(method), "{method}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn an_answer_creates_the_task_that_its_result_names() {
        let table: [(&str, Option<&str>); 20] = [
            (r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"task","taskId":"t1","status":"working","ttlMs":null}}"#, Some("t1")),
            (r#"{"result":{"taskId":"t1","_meta":{"resultType":"complete"},"resultType":"task"},"id":1}"#, Some("t1")),
            (r#" {"result" : {"task\u0049d" : "\u00741", "resultType" : "t\u0061sk"} } "#, Some("t1")),
            (r#"{"result":{"resultType":"complete","resultType":"task","taskId":"t0","taskId":"t1"}}"#, Some("t1")),
            (r#"{"result":{"resultType":"task","taskId":"t0"},"result":{"resultType":"task","taskId":"t1"}}"#, Some("t1")),
            (r#"{"result":{"resultType":"task","taskId":"t1"},"result":{}}"#, None),
            (r#"{"result":{"resultType":"task","taskId":"t1"},"result":null}"#, None),
            (r#"{"result":{"resultType":"task"},"result":{"taskId":"t1"}}"#, None),
            (r#"{"result":{"resultType":"complete","taskId":"t1"}}"#, None),
            (r#"{"result":{"resultType":["task"],"taskId":"t1"}}"#, None),
            (r#"{"result":{"resultType":"task","taskId":1}}"#, None),
            (r#"{"result":{"resultType":"task","taskId":""}}"#, None),
            (r#"{"result":{"resultType":"task"}}"#, None),
            (r#"{"result":{"task":{"taskId":"t1"},"resultType":"task"}}"#, None),
            (r#"{"result":[{"resultType":"task","taskId":"t1"}]}"#, None),
            (r#"{"error":{"resultType":"task","taskId":"t1"}}"#, None),
            (r#"{"params":{"result":{"resultType":"task","taskId":"t1"}}}"#, None),
            (r#"[{"result":{"resultType":"task","taskId":"t1"}}]"#, None),
            (r#"{"result":{"resultType":"task","taskId":"t1"}}}"#, None),
            (r#""task""#, None),
        ];
        for (answer, task) in table {
            assert_eq!(created_by(answer.as_bytes()).as_deref(), task, "{answer}");
        }
        assert_eq!(created_by(b"{\"result\":{\"resultType\":\"task\",\"taskId\":\"\xFF\"}}"), None);
    }

    const TASK: &str = r#"{"id":1,"result":{"resultType":"task","content":"}\"\\","taskId":"t1"}}"#;

    /// In which chunk the task became known.
    fn known_at(mut watch: Watch, chunks: &[&[u8]]) -> Option<(usize, String)> {
        let mut known = None;
        for (at, chunk) in chunks.iter().enumerate() {
            if let Some(id) = watch.push(chunk) {
                assert_eq!(known.replace((at, id)), None, "known twice");
            }
        }
        known
    }

    #[test]
    fn the_task_is_known_before_the_byte_that_makes_it_readable_leaves() {
        let text = TASK.as_bytes();
        for cut in 0..=text.len() {
            let chunk = usize::from(cut < text.len());
            assert_eq!(
                known_at(Watch::json(), &[&text[..cut], &text[cut..]]),
                Some((chunk, "t1".into())),
                "at {cut}"
            );
        }
        for end in ["\n", "\r", "\r\n"] {
            let progress = format!(r#"data: {{"method":"notifications/progress","params":{{}}}}{end}{end}"#);
            let stream = format!(": hi{end}{end}{progress}event: message{end}data: {TASK}{end}{end}");
            let (text, readable) = (stream.as_bytes(), stream.len() - end.len() + 1);
            for cut in 0..=text.len() {
                let chunk = usize::from(cut < readable);
                let known = known_at(Watch::event_stream(), &[&text[..cut], &text[cut..]]);
                assert_eq!(known, Some((chunk, "t1".into())), "{stream:?} at {cut}");
            }
        }
    }

    #[test]
    fn an_answer_that_is_too_long_is_forgotten_and_an_event_is_skipped() {
        let padding = "x".repeat(LONGEST_ANSWER);
        let long = TASK.replace("content", &padding);
        for chunk in [100, 10_000, long.len()] {
            let mut watch = Watch::json();
            assert!(long.as_bytes().chunks(chunk).all(|chunk| watch.push(chunk).is_none()));
            assert!(matches!(watch.form, Form::Over));
        }
        let stream = format!("data: {long}\n\ndata: {TASK}\n\n");
        for chunk in [100, 10_000, stream.len()] {
            let chunks: Vec<_> = stream.as_bytes().chunks(chunk).collect();
            assert_eq!(known_at(Watch::event_stream(), &chunks).map(|(_, id)| id).as_deref(), Some("t1"));
        }
    }

    /// JSON of any shape that is fond of the words that matter.
    fn json() -> impl Strategy<Value = String> {
        let word = prop::sample::select(vec![
            "result",
            "resultType",
            "taskId",
            "task",
            "complete",
            "t1",
            "",
            "é\\n",
        ]);
        let leaf = prop_oneof![
            word.prop_map(|word| format!("\"{word}\"")),
            Just("null".into()),
            Just("-1.5e3".into())
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let key = prop::sample::select(vec!["result", "resultType", "taskId", "x"]);
            let member = (key, inner.clone()).prop_map(|(key, value)| format!("\"{key}\": {value}"));
            prop_oneof![
                prop::collection::vec(member, 0..5).prop_map(|members| format!("{{{}}}", members.join(","))),
                prop::collection::vec(inner, 0..3).prop_map(|elements| format!("[{}]", elements.join(" , "))),
            ]
        })
    }

    fn id_in(watch: Watch, chunks: &[&[u8]]) -> Option<String> {
        known_at(watch, chunks).map(|(_, id)| id)
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_a_parser_finds(answer in json(), cut in 0.0..1.0) {
            let value: serde_json::Value = serde_json::from_str(&answer).unwrap();
            let result = value.get("result").filter(|result| result["resultType"] == "task");
            let id = result.and_then(|result| result["taskId"].as_str()).filter(|id| !id.is_empty());
            let expected = id.map(String::from);
            prop_assert_eq!(&created_by(answer.as_bytes()), &expected);
            let (begin, end) = answer.as_bytes().split_at((cut * answer.len() as f64) as usize);
            prop_assert_eq!(id_in(Watch::json(), &[begin, end]), expected);
        }

        #[test]
        fn chunks_make_no_difference_whatever_the_bytes(
            pieces in prop::collection::vec(
                prop_oneof![
                    prop::sample::select(vec!["data:", "event: x", "\r", "\n", "\n\n", "{", "}", "\"", "\u{feff}", TASK])
                        .prop_map(|piece| piece.as_bytes().to_vec()),
                    prop::collection::vec(any::<u8>(), 0..4),
                ],
                0..24,
            ),
        ) {
            let chunks: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let whole = pieces.concat();
            let bytes: Vec<&[u8]> = whole.chunks(1).collect();
            let expected = id_in(Watch::event_stream(), &[&whole]);
            prop_assert_eq!(&id_in(Watch::event_stream(), &chunks), &expected);
            prop_assert_eq!(&id_in(Watch::event_stream(), &bytes), &expected);
        }
    }
}
