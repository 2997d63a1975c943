//! Event streams (WHATWG HTML §9.2): the first event of an HTTP+SSE stream, which names the session.
//! Takes the bytes as they arrive, cut anywhere; gives them back unchanged, and with them the `endpoint` event's data once it is whole.
//! Surprise: only the bytes of an unfinished first event are held; comments before it, and everything after it, leave at once.

/// Longest first event that is waited for; a real one has about 100 bytes.
const LONGEST_EVENT: usize = 16 * 1024;

/// Reads an event stream up to its first event.
#[derive(Debug, Default)]
pub struct FirstEvent {
    held: Vec<u8>,
    line: Vec<u8>,
    after_cr: bool,
    name: Vec<u8>,
    data: Option<Vec<u8>>,
    done: bool,
}

/// What [`FirstEvent::push`] gives back.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Bytes that may leave now, in order.
    pub release: Vec<u8>,
    /// Data of the first event, if that was an `endpoint` event and is now whole.
    pub endpoint: Option<String>,
}

impl FirstEvent {
    /// Whether the first event has passed, so that the rest needs no reading.
    pub fn done(&self) -> bool {
        self.done
    }

    /// Feeds the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) -> Step {
        let mut endpoint = None;
        self.held.extend_from_slice(bytes);
        for byte in bytes {
            if self.done {
                break;
            }
            endpoint = self.byte(*byte);
        }
        if self.held.len() > LONGEST_EVENT {
            self.done = true;
        }
        let nothing_pending = self.line.is_empty() && self.name.is_empty() && self.data.is_none();
        let release = if self.done || nothing_pending { std::mem::take(&mut self.held) } else { Vec::new() };
        Step { release, endpoint }
    }

    /// The stream ended: whatever is still held.
    pub fn finish(&mut self) -> Vec<u8> {
        self.done = true;
        std::mem::take(&mut self.held)
    }

    fn byte(&mut self, byte: u8) -> Option<String> {
        let follows_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
        match byte {
            b'\n' if follows_cr => None,
            b'\n' | b'\r' => self.end_of_line(),
            _ => {
                self.line.push(byte);
                None
            }
        }
    }

    fn end_of_line(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.line);
        let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line);
        if line.is_empty() {
            return self.dispatch();
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

    fn dispatch(&mut self) -> Option<String> {
        let name = std::mem::take(&mut self.name);
        let data = self.data.take()?;
        self.done = true;
        (name == b"endpoint").then(|| String::from_utf8_lossy(&data).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(chunks: &[&[u8]]) -> (Vec<u8>, Option<String>) {
        let mut first = FirstEvent::default();
        let (mut released, mut endpoint) = (Vec::new(), None);
        for chunk in chunks {
            let step = first.push(chunk);
            released.extend(step.release);
            endpoint = endpoint.or(step.endpoint);
        }
        released.extend(first.finish());
        (released, endpoint)
    }

    #[test]
    fn any_framing_and_any_split_is_one_result() {
        let url = "/messages/?session_id=a1";
        let streams = [
            format!("event: endpoint\r\ndata: {url}\r\n\r\nevent: message\r\ndata: x\r\n\r\n"),
            format!("event:endpoint\ndata:{url}\n\n"),
            format!(": hello\n\nevent: endpoint\rdata: {url}\r\r"),
            format!("\u{feff}data: {url}\nid: 1\nevent: endpoint\n\n"),
        ];
        for stream in &streams {
            let bytes = stream.as_bytes();
            let whole = read(&[bytes]);
            assert_eq!(whole, (bytes.to_vec(), Some(url.to_string())), "{stream:?}");
            for cut in 0..=bytes.len() {
                assert_eq!(read(&[&bytes[..cut], &bytes[cut..]]), whole, "{stream:?} cut at {cut}");
            }
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(read(&single), whole, "{stream:?} byte by byte");
        }
    }

    #[test]
    fn only_an_unfinished_first_event_is_held() {
        let mut first = FirstEvent::default();
        assert_eq!(first.push(b": comment\n\n").release, b": comment\n\n");
        assert_eq!(first.push(b"event: endpoint\n").release, b"");
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
    fn an_endless_first_event_is_let_go() {
        let mut first = FirstEvent::default();
        let step = first.push(&vec![b'x'; LONGEST_EVENT + 1]);
        assert_eq!(step.release.len(), LONGEST_EVENT + 1);
        assert!(first.done());
    }
}
