//! One JSON-RPC message: takes a scanner that stands before an object, gives what the object is (kind, id, method,
//! protocol version, task) and where the splice may touch it. Only the members of the message, of its `params` and of its
//! `_meta` are looked at; all below is skipped. The surprise: `method` decides alone, since a message that has it is
//! obeyed by upstreams whatever else it holds.

use std::borrow::Cow;
use std::ops::Range;

use super::json::{Key, Malformed, Scanner, Text};
use super::refusal::Reason;

/// The `_meta` member in which a request of 2026-07-28 or later names its protocol version
/// (MCP specification 2026-07-28, basic, "Per-request protocol fields").
const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";

/// One JSON-RPC message, or what stands in the place of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<'a> {
    pub kind: Kind<'a>,
    /// The method, its escapes resolved; `None` if there is none or it is no string.
    pub method: Option<Cow<'a, str>>,
    /// `params._meta["io.modelcontextprotocol/protocolVersion"]`, if it is a string. Of several the last counts, as in
    /// the parsers of Python and JavaScript.
    pub protocol_version: Option<Cow<'a, str>>,
    /// `params.taskId`, if it is a string. Of several the last counts, likewise.
    pub task_id: Option<Cow<'a, str>>,
    pub(super) params: Params,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind<'a> {
    /// It has `method` and `id`. The id is the bytes the client wrote: it may be `null`, 30 digits, or no valid id.
    Request { id: &'a [u8] },
    /// It has `method` and no `id`.
    Notification,
    /// It has `result` or `error` and no `method`: a client answers its server.
    Response { id: Option<&'a [u8]> },
    /// An object with none of these, or an element of a batch that is no object.
    Other,
}

/// Where `params.server_id` goes, as offsets into the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Params {
    /// There is no `params`; a first one goes here, behind the last member.
    Absent { at: usize },
    /// An object whose first member begins here. `own` are the client's own `server_id` members.
    Object { at: usize, empty: bool, own: Vec<Own> },
    /// An array, a scalar or null: the upstream refuses those better than we could.
    Untouchable,
}

/// A `server_id` that the client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Own {
    /// The comma before it; its own beginning if it is the first member.
    pub(super) lead: usize,
    /// The member, from the key's quote to the value's end.
    pub(super) member: Range<usize>,
    pub(super) value: Range<usize>,
    /// Whether the key is spelt with escapes.
    pub(super) escaped: bool,
}

impl Message<'_> {
    /// A request or a notification, that is, something that is to be done on a server.
    pub fn is_call(&self) -> bool {
        matches!(self.kind, Kind::Request { .. } | Kind::Notification)
    }
}

/// What has been found of one message so far.
#[derive(Default)]
pub(super) struct Found<'a> {
    id: Option<Range<usize>>,
    has_two_ids: bool,
    has_method: bool,
    method: Option<Cow<'a, str>>,
    has_answer: bool,
    params: Option<Params>,
    protocol_version: Option<Cow<'a, str>>,
    task_id: Option<Cow<'a, str>>,
    pub(super) duplicate: Option<Reason>,
    /// Where the last member ends.
    end: usize,
}

impl<'a> Found<'a> {
    pub(super) fn read(&mut self, text: &'a str, scanner: &mut Scanner<'a>) -> Result<(), Malformed> {
        scanner.object(|scanner, key| {
            match &*key.name.decode(text) {
                "id" => self.read_id(scanner)?,
                "method" => self.read_method(text, scanner)?,
                "params" => self.read_params(text, scanner)?,
                "result" | "error" => {
                    self.has_answer = true;
                    scanner.value()?;
                }
                _ => {
                    scanner.value()?;
                }
            }
            self.end = scanner.offset();
            Ok(())
        })
    }

    fn read_id(&mut self, scanner: &mut Scanner<'a>) -> Result<(), Malformed> {
        let again = self.id.replace(scanner.value()?).is_some();
        self.has_two_ids |= again;
        self.refuse_if(again, Reason::DuplicateMember("id"));
        Ok(())
    }

    fn read_method(&mut self, text: &'a str, scanner: &mut Scanner<'a>) -> Result<(), Malformed> {
        self.refuse_if(self.has_method, Reason::DuplicateMember("method"));
        self.has_method = true;
        self.method = string_or_none(text, scanner)?;
        Ok(())
    }

    fn read_params(&mut self, text: &'a str, scanner: &mut Scanner<'a>) -> Result<(), Malformed> {
        let params = if scanner.peek() == Some(b'{') {
            let at = scanner.offset() + 1;
            let (mut empty, mut own) = (true, Vec::new());
            scanner.object(|scanner, key| {
                empty = false;
                match &*key.name.decode(text) {
                    "_meta" => self.read_meta(text, scanner)?,
                    "server_id" => own.push(Own::read(key, scanner)?),
                    "taskId" => self.task_id = string_or_none(text, scanner)?,
                    _ => {
                        scanner.value()?;
                    }
                }
                Ok(())
            })?;
            Params::Object { at, empty, own }
        } else {
            scanner.value()?;
            Params::Untouchable
        };
        let again = self.params.replace(params).is_some();
        self.refuse_if(again, Reason::DuplicateParams);
        Ok(())
    }

    fn read_meta(&mut self, text: &'a str, scanner: &mut Scanner<'a>) -> Result<(), Malformed> {
        self.protocol_version = None;
        if scanner.peek() != Some(b'{') {
            return scanner.value().map(drop);
        }
        scanner.object(|scanner, key| {
            if key.name.decode(text) == PROTOCOL_VERSION {
                self.protocol_version = string_or_none(text, scanner)?;
            } else {
                scanner.value()?;
            }
            Ok(())
        })
    }

    pub(super) fn message(self, text: &'a str) -> Message<'a> {
        let id = self.id.map(|span| &text.as_bytes()[span]);
        let kind = match (self.has_method, id) {
            (true, Some(id)) => Kind::Request { id },
            (true, None) => Kind::Notification,
            (false, id) if self.has_answer => Kind::Response { id },
            (false, _) => Kind::Other,
        };
        let params = self.params.unwrap_or(Params::Absent { at: self.end });
        let Self { method, protocol_version, task_id, .. } = self;
        Message { kind, method, protocol_version, task_id, params }
    }

    /// The id for a refusal. A comma or brace must stand behind it: where a body ends, digits may lack their rest.
    pub(super) fn certain_id(&self, text: &str) -> Option<Vec<u8>> {
        let span = self.id.clone()?;
        let behind = text[span.end..].trim_start_matches([' ', '\n', '\r', '\t']);
        let id = &text.as_bytes()[span];
        let valid = matches!(id.first(), Some(b'"' | b'-' | b'0'..=b'9'));
        (valid && behind.starts_with([',', '}']) && !self.has_two_ids).then(|| id.to_vec())
    }

    /// Notes why the message will be refused; what makes it no JSON at all may still follow, and weighs more.
    fn refuse_if(&mut self, found_again: bool, reason: Reason) {
        if found_again {
            self.duplicate.get_or_insert(reason);
        }
    }
}

impl Own {
    fn read(key: Key, scanner: &mut Scanner<'_>) -> Result<Self, Malformed> {
        let value = scanner.value()?;
        let Text { span, escaped } = key.name;
        Ok(Self { lead: key.lead, member: span.start - 1..value.end, value, escaped })
    }
}

pub(super) fn string_or_none<'a>(
    text: &'a str,
    scanner: &mut Scanner<'a>,
) -> Result<Option<Cow<'a, str>>, Malformed> {
    if scanner.peek() == Some(b'"') {
        scanner.string().map(|string| Some(string.decode(text)))
    } else {
        scanner.value().map(|_| None)
    }
}
