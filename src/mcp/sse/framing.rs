//! How event streams are framed (WHATWG HTML §9.2.6): takes the bytes as they arrive, cut anywhere, gives values, fields and blank lines.
//! Nothing is kept but the beginning of a field's name. Surprise: a field's value comes in as many parts as the stream is cut into, so
//! that an event of megabytes costs no memory.

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// What is read next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Token<'b> {
    /// A part of a field's value, never empty.
    Value(Field, &'b [u8]),
    /// The end of a field's line.
    Field(Field),
    /// A blank line: the end of an event, if any was begun.
    Blank,
    /// The byte order mark at the beginning of the stream, which is part of no line.
    Mark,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Comment,
    Data,
    Id,
    Other,
}

/// A walk over one stream.
#[derive(Debug)]
pub(super) struct Framing {
    line: Line,
    after_cr: bool,
    /// How much of a byte order mark has been read; `None` once none can come.
    mark: Option<usize>,
}

#[derive(Debug)]
enum Line {
    /// The name so far, and how many bytes it has; longer ones mean nothing here.
    Name([u8; 4], usize),
    /// `fresh`: the blank that may follow the colon has not been read.
    Value { field: Field, fresh: bool },
}

const NEW_LINE: Line = Line::Name([0; 4], 0);

impl Framing {
    pub fn new() -> Self {
        Self { line: NEW_LINE, after_cr: false, mark: Some(0) }
    }

    /// Nothing of a line has been read.
    pub fn is_at_line_start(&self) -> bool {
        matches!(self.line, Line::Name(_, 0)) && self.mark.unwrap_or(0) == 0
    }

    /// Reads the next token and leaves `bytes` behind it; `None` once all are read.
    pub fn next<'b>(&mut self, bytes: &mut &'b [u8]) -> Option<Token<'b>> {
        while let Some((&first, rest)) = bytes.split_first() {
            if matches!(first, b'\r' | b'\n') {
                *bytes = rest;
                let half_of_crlf = first == b'\n' && self.after_cr;
                self.after_cr = first == b'\r';
                if half_of_crlf {
                    continue;
                }
                return Some(self.end_of_line());
            }
            self.after_cr = false;
            match &mut self.line {
                Line::Value { field, fresh } => {
                    let field = *field;
                    if std::mem::take(fresh) && first == b' ' {
                        *bytes = rest;
                        continue;
                    }
                    let end = memchr::memchr2(b'\r', b'\n', bytes).unwrap_or(bytes.len());
                    let (value, rest) = bytes.split_at(end);
                    *bytes = rest;
                    return Some(Token::Value(field, value));
                }
                Line::Name(..) => {
                    *bytes = rest;
                    if self.mark(first) {
                        if self.mark.is_none() {
                            return Some(Token::Mark);
                        }
                    } else {
                        self.name(first);
                    }
                }
            }
        }
        None
    }

    /// Whether the byte belongs to the mark.
    fn mark(&mut self, byte: u8) -> bool {
        let Some(read) = self.mark else { return false };
        let belongs = byte == BYTE_ORDER_MARK[read];
        self.mark = Some(read + 1).filter(|read| belongs && *read < BYTE_ORDER_MARK.len());
        if !belongs {
            // What began like a mark is a name that nobody knows.
            self.line = Line::Name([0; 4], read);
        }
        belongs
    }

    fn name(&mut self, byte: u8) {
        let Line::Name(name, length) = &mut self.line else { return };
        if byte == b':' {
            self.line = Line::Value { field: field(&name[..], *length), fresh: true };
        } else {
            if let Some(place) = name.get_mut(*length) {
                *place = byte;
            }
            *length += 1;
        }
    }

    fn end_of_line(&mut self) -> Token<'static> {
        let read = self.mark.take().unwrap_or(0);
        match std::mem::replace(&mut self.line, NEW_LINE) {
            Line::Name(_, 0) if read == 0 => Token::Blank,
            Line::Name(name, length) => Token::Field(field(&name, length + read)),
            Line::Value { field, .. } => Token::Field(field),
        }
    }
}

fn field(name: &[u8], length: usize) -> Field {
    match name.get(..length) {
        Some(b"") => Field::Comment,
        Some(b"data") => Field::Data,
        Some(b"id") => Field::Id,
        Some(_) | None => Field::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tokens of a stream that came in these chunks; parts of one value are joined.
    fn tokens(chunks: &[&[u8]]) -> String {
        let mut framing = Framing::new();
        let mut said = String::new();
        let mut in_value = false;
        for chunk in chunks {
            let mut bytes = *chunk;
            while let Some(token) = framing.next(&mut bytes) {
                match token {
                    Token::Value(field, part) => {
                        if !std::mem::replace(&mut in_value, true) {
                            said += &format!("{field:?}=");
                        }
                        assert!(!part.is_empty());
                        said += &String::from_utf8_lossy(part);
                    }
                    Token::Field(field) => {
                        said += &if in_value { " ".to_owned() } else { format!("{field:?} ") };
                        in_value = false;
                    }
                    Token::Blank => said += "| ",
                    Token::Mark => said += "Mark ",
                }
            }
        }
        said + if framing.is_at_line_start() { "." } else { "…" }
    }

    #[test]
    #[rustfmt::skip]
    fn any_split_gives_the_same_tokens() {
        let table = [
            ("data: a\n\n", "Data=a | ."),
            ("data:a\r\ndata:  b\r\n\r\n", "Data=a Data= b | ."),
            ("data: a\r\rid: 7\r\r", "Data=a | Id=7 | ."),
            ("\u{feff}data: a\n\n\u{feff}data: b\n\n", "Mark Data=a | Other=b | ."),
            ("\u{feff}\n", "Mark | ."), ("\u{feff}", "Mark ."),
            (": hi\n:\n\n", "Comment=hi Comment | ."),
            ("data\nid\nid:\nretry: 5\nevent: x\ndatab: y\n da: z\n\n", "Data Id Id Other=5 Other=x Other=y Other=z | ."),
            ("data: a\r\n\r\n\r\n\n\r", "Data=a | | | | ."),
            ("data: half", "Data=half…"),
            ("dat", "…"), ("data:", "…"), ("", "."),
        ];
        for (stream, expected) in table {
            let bytes = stream.as_bytes();
            for cut in 0..=bytes.len() {
                assert_eq!(tokens(&[&bytes[..cut], &bytes[cut..]]), expected, "{stream:?} cut at {cut}");
            }
            assert_eq!(tokens(&bytes.chunks(1).collect::<Vec<_>>()), expected, "{stream:?} byte by byte");
        }
        assert_eq!(tokens(&[b"\xEF\xBBid: 1\n\xEF\n\n"]), "Other=1 Other | .");
        assert_eq!(tokens(&[b"\xEF\xBB\n\n"]), "Other | .");
        assert_eq!(tokens(&[b"\xEF\xBB"]), "…");
    }
}
