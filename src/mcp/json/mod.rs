//! The JSON scanner below the splice: takes text, walks it once, says where things stand, and refuses what
//! RFC 8259 refuses. It builds no tree, copies nothing and never recurses, so nesting costs one bit a level
//! and no depth can exhaust the stack. The surprise: it looks at strings eight bytes (or 64) at a time,
//! because nearly all of an MCP body is the inside of a string.

mod skeleton;
mod text;

use std::ops::Range;

pub(super) use skeleton::Skeleton;
pub(super) use text::Text;
use text::special;

/// The text is not JSON: the byte at this offset cannot stand there (the text's length, if it ends too early).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed {
    pub(super) offset: usize,
}

/// A member of an object whose key has been read and whose value comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    /// Where the member begins: at the comma before it, or at its own quote if it is the first.
    pub(super) lead: usize,
    pub(super) name: Text,
}

/// A walk over one JSON text. Every method starts at the current offset and leaves it behind what it read.
pub(super) struct Scanner<'a> {
    text: &'a str,
    offset: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, offset: 0 }
    }

    /// The offset just behind what was read last.
    pub(super) fn offset(&self) -> usize {
        self.offset
    }

    /// The next byte that is not white space, without reading it; `None` at the end.
    #[inline]
    pub(super) fn peek(&mut self) -> Option<u8> {
        match self.bytes().get(self.offset) {
            Some(&byte) if byte > b' ' => Some(byte),
            _ => self.peek_behind_space(),
        }
    }

    /// Nothing but white space is left.
    pub(super) fn end(&mut self) -> Result<(), Malformed> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.malformed()),
        }
    }

    /// One object; `each` is called behind every colon and must read the member's value.
    pub(super) fn object(
        &mut self,
        mut each: impl FnMut(&mut Self, Key) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        self.expect(b'{')?;
        if self.take(b'}') {
            return Ok(());
        }
        let mut lead = self.offset;
        loop {
            let name = self.key()?;
            each(self, Key { lead, name })?;
            self.peek();
            lead = self.offset;
            if !self.take(b',') {
                return self.expect(b'}');
            }
        }
    }

    /// One array; `each` is called before every element and must read it.
    pub(super) fn array(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        self.expect(b'[')?;
        if self.take(b']') {
            return Ok(());
        }
        loop {
            each(self)?;
            if !self.take(b',') {
                return self.expect(b']');
            }
        }
    }

    /// One value of any kind and depth; gives the span it fills.
    pub(super) fn value(&mut self) -> Result<Range<usize>, Malformed> {
        self.peek();
        let start = self.offset;
        let mut open = Brackets::default();
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.offset += 1;
                    self.rest_of_string()?;
                }
                Some(b'{') => {
                    self.offset += 1;
                    if !self.take(b'}') {
                        open.push(Bracket::Object);
                        self.key()?;
                        continue;
                    }
                }
                Some(b'[') => {
                    self.offset += 1;
                    if !self.take(b']') {
                        open.push(Bracket::Array);
                        continue;
                    }
                }
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.literal(b"true")?,
                Some(b'f') => self.literal(b"false")?,
                Some(b'n') => self.literal(b"null")?,
                _ => return Err(self.malformed()),
            }
            if !self.close(&mut open)? {
                return Ok(start..self.offset);
            }
        }
    }

    /// One string.
    #[inline]
    pub(super) fn string(&mut self) -> Result<Text, Malformed> {
        self.expect(b'"')?;
        let start = self.offset;
        let escaped = self.rest_of_string()?;
        Ok(Text { span: start..self.offset - 1, escaped })
    }

    /// The rest of a string whose opening quote has been read; tells whether there was an escape.
    #[inline]
    fn rest_of_string(&mut self) -> Result<bool, Malformed> {
        let mut escaped = false;
        loop {
            self.offset = special(self.bytes(), self.offset);
            match self.bytes().get(self.offset) {
                Some(b'"') => {
                    self.offset += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return Err(self.malformed()),
            }
        }
    }

    /// Behind a value: closes what ends here. True if another value follows, false if the outermost is complete.
    #[inline]
    fn close(&mut self, open: &mut Brackets) -> Result<bool, Malformed> {
        while let Some(bracket) = open.top() {
            match (self.peek(), bracket) {
                (Some(b','), Bracket::Array) => {
                    self.offset += 1;
                    return Ok(true);
                }
                (Some(b','), Bracket::Object) => {
                    self.offset += 1;
                    self.key()?;
                    return Ok(true);
                }
                (Some(b']'), Bracket::Array) | (Some(b'}'), Bracket::Object) => {
                    self.offset += 1;
                    open.pop();
                }
                _ => return Err(self.malformed()),
            }
        }
        Ok(false)
    }

    fn peek_behind_space(&mut self) -> Option<u8> {
        let bytes = self.bytes();
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(self.offset) {
            self.offset += 1;
            // Pretty-printed bodies are indented with long runs of spaces.
            while bytes[self.offset..].starts_with(b"        ") {
                self.offset += 8;
            }
        }
        bytes.get(self.offset).copied()
    }

    /// A key and its colon.
    #[inline]
    fn key(&mut self) -> Result<Text, Malformed> {
        let name = self.string()?;
        self.expect(b':')?;
        Ok(name)
    }

    fn escape(&mut self) -> Result<(), Malformed> {
        self.offset += 1;
        match self.bytes().get(self.offset) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.offset += 1,
            Some(b'u') => {
                self.offset += 1;
                for _ in 0..4 {
                    if !self.bytes().get(self.offset).is_some_and(u8::is_ascii_hexdigit) {
                        return Err(self.malformed());
                    }
                    self.offset += 1;
                }
            }
            _ => return Err(self.malformed()),
        }
        Ok(())
    }

    #[inline]
    fn number(&mut self) -> Result<(), Malformed> {
        self.step(b'-');
        // A number that begins with zero ends there: 01 is two tokens, hence refused.
        if !self.step(b'0') {
            self.digits()?;
        }
        if self.step(b'.') {
            self.digits()?;
        }
        if self.step(b'e') || self.step(b'E') {
            let _ = self.step(b'+') || self.step(b'-');
            self.digits()?;
        }
        Ok(())
    }

    #[inline]
    fn digits(&mut self) -> Result<(), Malformed> {
        let start = self.offset;
        while self.bytes().get(self.offset).is_some_and(u8::is_ascii_digit) {
            self.offset += 1;
        }
        if self.offset == start { Err(self.malformed()) } else { Ok(()) }
    }

    #[inline]
    fn literal(&mut self, word: &[u8]) -> Result<(), Malformed> {
        let rest = &self.bytes()[self.offset..];
        let matching = word.iter().zip(rest).take_while(|(expected, found)| expected == found).count();
        self.offset += matching;
        if matching == word.len() { Ok(()) } else { Err(self.malformed()) }
    }

    /// Reads this byte, behind white space, or refuses.
    #[inline]
    fn expect(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.take(byte) { Ok(()) } else { Err(self.malformed()) }
    }

    /// Reads this byte, behind white space, if it is the next.
    #[inline]
    fn take(&mut self, byte: u8) -> bool {
        let next = self.peek() == Some(byte);
        self.offset += usize::from(next);
        next
    }

    /// Reads this byte if it is the very next.
    #[inline]
    fn step(&mut self, byte: u8) -> bool {
        let next = self.bytes().get(self.offset) == Some(&byte);
        self.offset += usize::from(next);
        next
    }

    #[inline]
    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    fn malformed(&self) -> Malformed {
        Malformed { offset: self.offset }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bracket {
    Array,
    Object,
}

/// The brackets that are open, one bit each: the innermost 64 in a word, the others in a heap that a message
/// of ordinary depth never touches.
#[derive(Default)]
struct Brackets {
    depth: usize,
    inner: u64,
    outer: Vec<u64>,
}

impl Brackets {
    #[inline]
    fn top(&self) -> Option<Bracket> {
        match (self.depth, self.inner & 1) {
            (0, _) => None,
            (_, 0) => Some(Bracket::Array),
            _ => Some(Bracket::Object),
        }
    }

    #[inline]
    fn push(&mut self, bracket: Bracket) {
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.outer.push(self.inner);
        }
        self.inner = self.inner << 1 | u64::from(bracket == Bracket::Object);
        self.depth += 1;
    }

    #[inline]
    fn pop(&mut self) {
        self.depth -= 1;
        self.inner >>= 1;
        if self.depth.is_multiple_of(64) {
            self.inner = self.outer.pop().unwrap_or(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the one value of this text ends, or where it breaks.
    fn end_of(text: &str) -> Result<usize, usize> {
        let mut scanner = Scanner::new(text);
        let read = scanner.value().and_then(|span| scanner.end().map(|()| span.end));
        read.map_err(|malformed| malformed.offset)
    }

    #[test]
    fn says_where_a_value_ends_or_breaks() {
        for (text, end) in [
            (r#" {"a":[1,{"b":"}"}],"c":null} "#, Ok(29)),
            ("-0.5e+7\n", Ok(7)),
            (r#""a\"b""#, Ok(6)),
            ("[1,]", Err(3)),
            ("{\"a\" 1}", Err(5)),
            ("01", Err(1)),
            ("1.e5", Err(2)),
            ("nulL", Err(3)),
            (r#""\u00g0""#, Err(5)),
            ("\"a\nb\"", Err(2)),
            ("[[1]", Err(4)),
        ] {
            assert_eq!(end_of(text), end, "of {text}");
        }
    }

    #[test]
    fn tells_arrays_from_objects_at_every_depth() {
        // Brackets are kept in words of 64: the first wrong one must be seen within a word and between two.
        for depth in (1..=200).chain([100_000]) {
            let open = r#"[{"a":"#.repeat(depth);
            let close = "}]".repeat(depth);
            assert_eq!(end_of(&format!("{open}0{close}")), Ok(open.len() + 1 + close.len()));
            assert_eq!(
                end_of(&format!("{open}0{}]]", &close[..close.len() - 2])),
                Err(open.len() + close.len() - 1)
            );
        }
    }

    #[test]
    fn gives_members_with_the_comma_before_them() {
        let text = r#"{"a":1 , "b" :[] }"#;
        let mut scanner = Scanner::new(text);
        let mut members = Vec::new();
        let read = scanner.object(|scanner, key| {
            members.push((key.lead, text[key.name.span].to_owned(), scanner.value()?));
            Ok(())
        });
        assert_eq!(read, Ok(()));
        assert_eq!(members, [(1, "a".to_owned(), 5..6), (7, "b".to_owned(), 14..16)]);
    }
}
