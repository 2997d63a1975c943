//! Event streams (WHATWG HTML §9.2): their events, and the first one of an HTTP+SSE stream, which names the session.
//! Takes the bytes as they arrive, cut anywhere; gives each event once it is whole, the first event's bytes unchanged.
//! Surprise: only the bytes of an unfinished first event are ever held; comments before it, and everything after it, leave at once.

mod framing;
mod masked;
mod watch;

use std::ops::Range;

pub use masked::{Hollow, Masked, Piece};
pub use watch::{End, KEEPALIVE, Watch};

/// Longest first event that is waited for; a real one has about 100 bytes.
const LONGEST_FIRST_EVENT: usize = 16 * 1024;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// One event, whole.
#[derive(Debug, PartialEq, Eq)]
pub struct Event {
    /// Empty where the stream names none, which means `message`.
    pub name: Vec<u8>,
    pub data: Vec<u8>,
}

/// Reads the events of a stream.
#[derive(Debug)]
pub struct Events {
    longest: usize,
    /// The line that is being read.
    line: Vec<u8>,
    after_cr: bool,
    /// Whether the first line, which may have a byte order mark, is over.
    begun: bool,
    name: Vec<u8>,
    data: Option<Vec<u8>>,
    /// The event that is being read has outgrown `longest`: it will not be given.
    too_long: bool,
    /// Bytes since no event was begun.
    unfinished: usize,
}

impl Events {
    /// Events whose lines take more than `longest` bytes are skipped, so that no stream can make us remember more.
    pub fn up_to(longest: usize) -> Self {
        Self {
            longest,
            line: Vec::new(),
            after_cr: false,
            begun: false,
            name: Vec::new(),
            data: None,
            too_long: false,
            unfinished: 0,
        }
    }

    /// Reads until an event is whole, and leaves `bytes` behind it; `None` once all are read.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Option<Event> {
        while !bytes.is_empty() {
            let end = memchr::memchr2(b'\r', b'\n', bytes);
            let (content, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            self.extend_line(content);
            self.unfinished += content.len();
            let Some((ending, rest)) = rest.split_first() else {
                *bytes = rest;
                return None;
            };
            *bytes = rest;
            self.unfinished += 1;
            let half_of_crlf = *ending == b'\n' && self.after_cr;
            self.after_cr = *ending == b'\r';
            let event = if half_of_crlf { None } else { self.end_of_line() };
            if self.is_between() {
                self.unfinished = 0;
            }
            if event.is_some() {
                return event;
            }
        }
        None
    }

    /// No event is begun: what follows is a new one.
    fn is_between(&self) -> bool {
        self.line.is_empty() && self.name.is_empty() && self.data.is_none() && !self.too_long
    }

    fn extend_line(&mut self, content: &[u8]) {
        let Some(first) = content.first() else { return };
        self.after_cr = false;
        let kept = self.line.len() + self.name.len() + self.data.as_ref().map_or(0, Vec::len);
        self.too_long |= kept + content.len() > self.longest;
        if self.too_long {
            // Of what will not be given it must only be known that its line is not blank.
            self.data = None;
            self.line = vec![*first];
        } else {
            self.line.extend_from_slice(content);
        }
    }

    fn end_of_line(&mut self) -> Option<Event> {
        let line = std::mem::take(&mut self.line);
        let mut line = &line[..];
        if !std::mem::replace(&mut self.begun, true) {
            line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        }
        if line.is_empty() {
            return self.dispatch();
        }
        if self.too_long {
            return None;
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or(b"");
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match &line[..colon] {
            b"event" => self.name = value.to_vec(),
            b"data" => match &mut self.data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
                None => self.data = Some(value.to_vec()),
            },
            _ => {}
        }
        None
    }

    /// A blank line: what has no data is no event.
    fn dispatch(&mut self) -> Option<Event> {
        let name = std::mem::take(&mut self.name);
        let data = self.data.take();
        let too_long = std::mem::take(&mut self.too_long);
        data.filter(|_| !too_long).map(|data| Event { name, data })
    }
}

/// Reads an event stream up to its first event.
#[derive(Debug)]
pub struct FirstEvent {
    held: Vec<u8>,
    /// Some of the stream is out already.
    released: bool,
    events: Events,
    done: bool,
}

/// What [`FirstEvent::push`] gives back.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Bytes that may leave now, in order.
    pub release: Vec<u8>,
    /// The first event, if that was an `endpoint` event and is now whole.
    pub endpoint: Option<Endpoint>,
}

/// An `endpoint` event: where the client is to send its messages.
#[derive(Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub address: String,
    /// Where the address stands in the bytes that are released with it; `None` where it is no text, or stands in several lines.
    pub span: Option<Range<usize>>,
}

impl Default for FirstEvent {
    fn default() -> Self {
        Self { held: Vec::new(), released: false, events: Events::up_to(LONGEST_FIRST_EVENT), done: false }
    }
}

impl FirstEvent {
    /// Whether the first event has passed, so that the rest needs no reading.
    pub fn done(&self) -> bool {
        self.done
    }

    /// Feeds the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) -> Step {
        self.held.extend_from_slice(bytes);
        let mut unread = bytes;
        let first = if self.done { None } else { self.events.next(&mut unread) };
        self.done |= first.is_some() || self.events.unfinished > LONGEST_FIRST_EVENT;
        let endpoint = first.filter(|event| event.name == b"endpoint");
        let endpoint = endpoint.map(|event| self.endpoint(&event.data, self.held.len() - unread.len()));
        let unfinished = if self.done { 0 } else { self.events.unfinished };
        let unfinished = self.held.split_off(self.held.len() - unfinished);
        let release = std::mem::replace(&mut self.held, unfinished);
        self.released |= !release.is_empty();
        Step { release, endpoint }
    }

    /// `end`: of the event among the held bytes.
    fn endpoint(&self, data: &[u8], end: usize) -> Endpoint {
        let begin =
            if !self.released && self.held.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        let span = std::str::from_utf8(data).ok().and_then(|_| span_of_data(&self.held, begin..end));
        Endpoint { address: String::from_utf8_lossy(data).into_owned(), span }
    }

    /// The stream ended: whatever is still held.
    pub fn finish(&mut self) -> Vec<u8> {
        self.done = true;
        std::mem::take(&mut self.held)
    }
}

/// The value of the only `data` line among the lines that stand in this part of `held`.
fn span_of_data(held: &[u8], lines: Range<usize>) -> Option<Range<usize>> {
    let mut start = lines.start;
    let mut spans = held[lines].split(|byte| matches!(byte, b'\r' | b'\n')).filter_map(|line| {
        let end = start + line.len();
        start = end + 1;
        match line.strip_prefix(b"data:") {
            Some(value) => Some(Some(end - value.strip_prefix(b" ").unwrap_or(value).len()..end)),
            // Without a colon it is a line of data that has no value.
            None => (line == b"data").then_some(None),
        }
    });
    let span = spans.next()?;
    span.filter(|_| spans.next().is_none())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    /// The stream with its endpoint in capitals, and the endpoint as it came.
    fn read(chunks: &[&[u8]]) -> (Vec<u8>, Option<String>) {
        let mut first = FirstEvent::default();
        let (mut released, mut found) = (Vec::new(), None);
        for chunk in chunks {
            let Step { mut release, endpoint } = first.push(chunk);
            if let Some(Endpoint { address, span }) = endpoint {
                if let Some(span) = span {
                    assert_eq!(release[span.clone()], *address.as_bytes());
                    release[span].make_ascii_uppercase();
                }
                found = found.or(Some(address));
            }
            released.extend(release);
        }
        released.extend(first.finish());
        (released, found)
    }

    fn events(longest: usize, chunks: &[&[u8]]) -> Vec<(String, String)> {
        let mut reader = Events::up_to(longest);
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let mut found = Vec::new();
        for chunk in chunks {
            let mut bytes = *chunk;
            while let Some(event) = reader.next(&mut bytes) {
                found.push((text(event.name), text(event.data)));
            }
            assert!(bytes.is_empty(), "all is read");
        }
        found
    }

    #[test]
    fn events_are_whole_at_their_blank_line_wherever_the_stream_is_cut() {
        let table: [(&str, &[(&str, &str)]); 9] = [
            ("data: a\n\n", &[("", "a")]),
            ("data: a\n", &[]),
            ("event: x\n\ndata: a\n\n", &[("", "a")]),
            ("event: x\r\ndata:a\r\ndata: b\r\n\r\ndata: c\r\n\r\n", &[("x", "a\nb"), ("", "c")]),
            ("event: x\rdata:  a\r\rdata\r\r", &[("x", " a"), ("", "")]),
            ("\u{feff}data: a\n\n\u{feff}data: b\n\n", &[("", "a")]),
            (": data: a\n\nid: 1\nretry: 2\ndata: b\n\n", &[("", "b")]),
            ("data: 0123456789012345678901234567890\n\ndata: a\n\n", &[("", "a")]),
            ("data: 0123456789\ndata: 0123456789\ndata: 0123\n: \n\ndata: a\n\n", &[("", "a")]),
        ];
        for (stream, expected) in table {
            let bytes = stream.as_bytes();
            for cut in 0..=bytes.len() {
                let found = events(30, &[&bytes[..cut], &bytes[cut..]]);
                let found: Vec<_> = found.iter().map(|(name, data)| (&**name, &**data)).collect();
                assert_eq!(found, expected, "{stream:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn any_framing_and_any_split_is_one_result() {
        let url = "/messages/?session_id=a1";
        let streams = [
            format!("event: endpoint\r\ndata: {url}\r\n\r\nevent: message\r\ndata: x\r\n\r\n"),
            format!("event:endpoint\ndata:{url}\n\n"),
            format!(": hello\n\nevent: endpoint\rdata: {url}\r\r"),
            format!("\u{feff}data: {url}\nid: 1\nevent: endpoint\n\n"),
            format!(":\n\nevent: x\n\n: data: a\nretry: 1\ndata:{url}\nevent: endpoint\n\ndata: y\n\n"),
        ];
        for stream in &streams {
            let bytes = stream.as_bytes();
            let whole = read(&[bytes]);
            let expected = stream.replace(url, &url.to_ascii_uppercase()).into_bytes();
            assert_eq!(whole, (expected, Some(url.to_string())), "{stream:?}");
            for cut in 0..=bytes.len() {
                assert_eq!(read(&[&bytes[..cut], &bytes[cut..]]), whole, "{stream:?} cut at {cut}");
            }
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(read(&single), whole, "{stream:?} byte by byte");
        }
    }

    #[test]
    fn an_address_that_is_not_one_line_of_text_has_no_place() {
        for stream in [
            &b"event: endpoint\ndata: /a\ndata: b\n\n"[..],
            b"event: endpoint\ndata: /a\xff\n\n",
            b"event: endpoint\ndata\n\n",
            b"event: endpoint\ndata\ndata: /a\n\n",
        ] {
            let (released, endpoint) = read(&[stream]);
            assert_eq!(released, stream);
            assert!(endpoint.is_some());
        }
        let marked = "event: endpoint\n\u{feff}data: /a\ndata: /b\n\n".as_bytes();
        let expected = "event: endpoint\n\u{feff}data: /a\ndata: /B\n\n".as_bytes();
        assert_eq!(read(&[marked]), (expected.to_vec(), Some("/b".into())));
    }

    #[test]
    fn only_an_unfinished_first_event_is_held() {
        let mut first = FirstEvent::default();
        assert_eq!(first.push(b": comment\n\n").release, b": comment\n\n");
        assert_eq!(first.push(b": and\n\nevent: endpoint\n").release, b": and\n\n");
        assert_eq!(
            first.push(b"data: /m?session_id=1\n\nevent: me").release,
            b"event: endpoint\ndata: /m?session_id=1\n\nevent: me"
        );
        assert!(first.done());
    }

    #[test]
    fn another_first_event_is_no_endpoint() {
        assert_eq!(read(&[b"event: message\ndata: {}\n\nevent: endpoint\ndata: /x\n\n"]).1, None);
        assert_eq!(read(&[b"data: /x\n\n"]).1, None);
    }

    #[test]
    fn an_endless_first_event_is_let_go_and_no_other_padding() {
        let padding = ": padding\n\n".repeat(LONGEST_FIRST_EVENT / 10);
        let (event, url) = ("event: endpoint\ndata: /m\n\n".as_bytes(), Some("/m".into()));
        assert_eq!(read(&[padding.as_bytes(), event]).1, url);
        assert_eq!(read(&[&[padding.as_bytes(), &event[..9]].concat(), &event[9..]]).1, url);
        let mut first = FirstEvent::default();
        let step = first.push(&vec![b'x'; LONGEST_FIRST_EVENT + 1]);
        assert_eq!(step.release.len(), LONGEST_FIRST_EVENT + 1);
        assert!(first.done());
    }
}
