//! JSON strings, for the scanner: finds where one can end, and says what one means. It takes text that the scanner
//! has checked or is checking. The surprise: eight bytes are compared in one word, and 64 in a loop that the
//! compiler turns into vector instructions, so no `unsafe` is needed to run at several gigabytes a second.

use std::borrow::Cow;
use std::ops::Range;

/// A JSON string as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::mcp) struct Text {
    /// The bytes between the quotes.
    pub(in crate::mcp) span: Range<usize>,
    /// Whether it holds a backslash, that is, whether it may mean other than it reads.
    pub(in crate::mcp) escaped: bool,
}

impl Text {
    /// What the string means, its escapes resolved. A lone surrogate becomes U+FFFD: Rust text cannot hold it,
    /// and no name or method that we look for contains one.
    pub(in crate::mcp) fn decode<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let raw = &text[self.span.clone()];
        if !self.escaped {
            return Cow::Borrowed(raw);
        }
        let mut decoded = String::with_capacity(raw.len());
        let mut rest = raw;
        while let Some(at) = rest.find('\\') {
            decoded.push_str(&rest[..at]);
            let (meaning, length) = unescape(&rest[at..]);
            decoded.push(meaning);
            rest = &rest[at + length..];
        }
        decoded.push_str(rest);
        Cow::Owned(decoded)
    }
}

/// The character that a valid escape stands for, and how many bytes it is written in.
fn unescape(escape: &str) -> (char, usize) {
    match escape.as_bytes()[1] {
        b'b' => ('\u{8}', 2),
        b'f' => ('\u{c}', 2),
        b'n' => ('\n', 2),
        b'r' => ('\r', 2),
        b't' => ('\t', 2),
        b'u' => match (unit(escape), escape.get(6..).and_then(unit_of_escape)) {
            (high @ 0xD800..0xDC00, Some(low @ 0xDC00..0xE000)) => {
                let code = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
                (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 12)
            }
            (code, _) => (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 6),
        },
        itself => (char::from(itself), 2),
    }
}

fn unit_of_escape(text: &str) -> Option<u32> {
    text.starts_with("\\u").then(|| unit(text))
}

/// The UTF-16 unit of `\uXXXX`; its digits have been checked by the scan.
fn unit(escape: &str) -> u32 {
    u32::from_str_radix(&escape[2..6], 16).unwrap_or(0)
}

/// The offset, from `offset` on, of the first byte that is not plain inside a string: a quote, a backslash or a
/// control character; the length if there is none.
#[inline]
pub(super) fn special(bytes: &[u8], mut offset: usize) -> usize {
    // Short strings (keys, names, ids) end within these; long ones have shown that they are long.
    for _ in 0..4 {
        let Some(word) = bytes[offset..].first_chunk() else { return special_in_tail(bytes, offset) };
        match marks(u64::from_le_bytes(*word)) {
            0 => offset += 8,
            found => return offset + found.trailing_zeros() as usize / 8,
        }
    }
    while let Some(block) = bytes[offset..].first_chunk::<64>()
        && !block.iter().fold(false, |found, &byte| found | is_special(byte))
    {
        offset += 64;
    }
    while let Some(word) = bytes[offset..].first_chunk() {
        match marks(u64::from_le_bytes(*word)) {
            0 => offset += 8,
            found => return offset + found.trailing_zeros() as usize / 8,
        }
    }
    special_in_tail(bytes, offset)
}

fn special_in_tail(bytes: &[u8], offset: usize) -> usize {
    let tail = &bytes[offset..];
    offset + tail.iter().position(|&byte| is_special(byte)).unwrap_or(tail.len())
}

#[inline]
fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Sets the top bit of each byte of the word that is special. Borrows can set one too many, but only above a
/// true one, so the lowest mark, the one we use, is exact.
#[inline]
fn marks(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xFF;
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
    let quotes = zeros(word ^ (ONES * b'"' as u64));
    let backslashes = zeros(word ^ (ONES * b'\\' as u64));
    let controls = word.wrapping_sub(ONES * 0x20) & !word;
    (quotes | backslashes | controls) & (ONES * 0x80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_special_byte_at_every_place_and_none_where_there_is_none() {
        for length in 0..200 {
            let mut bytes = vec![b'a'; length];
            assert_eq!(special(&bytes, 0), length);
            for place in 0..length {
                for byte in [b'"', b'\\', 0, 0x1F] {
                    bytes[place] = byte;
                    assert_eq!(special(&bytes, 0), place, "{byte:#x} of {length}");
                }
                bytes[place] = b'a';
            }
        }
    }

    #[test]
    fn judges_every_byte_alike_in_words_blocks_and_tails() {
        for byte in 0..=u8::MAX {
            for length in [1, 8, 32, 100] {
                let bytes = vec![byte; length];
                assert_eq!(special(&bytes, 0), if is_special(byte) { 0 } else { length }, "{byte:#x}");
            }
            // Between specials of every kind a borrow could mark the wrong byte.
            let word = [byte, b'"', byte, b'\\', byte, 0, byte, 0x1F];
            assert_eq!(special(&word, 0), usize::from(!is_special(byte)), "{byte:#x}");
        }
    }

    #[test]
    fn decodes_escapes() {
        for (written, meant) in [
            (r"plain", "plain"),
            (r#"\"\\\/\b\f\n\r\t"#, "\"\\/\u{8}\u{c}\n\r\t"),
            (r"server\u005fid", "server_id"),
            (r"\u00e9é\u00E9", "ééé"),
            (r"\ud83d\ude00", "😀"),
            (r"\ud800\udc00\udbff\udfff", "\u{10000}\u{10FFFF}"),
            (r"\ud7ff\ue000", "\u{D7FF}\u{E000}"),
            (r"\ud800\ue000\ud800\ud7ff", "\u{FFFD}\u{E000}\u{FFFD}\u{D7FF}"),
            (r"\ud83d", "\u{FFFD}"),
            (r"\ud83dx\ude00", "\u{FFFD}x\u{FFFD}"),
            (r"\ud83d\ud83d\ude00", "\u{FFFD}😀"),
            (r"\ude00\ud83d\n", "\u{FFFD}\u{FFFD}\n"),
            (r"\\u0041", r"\u0041"),
            (r"é\u0000é", "é\0é"),
        ] {
            let text = Text { span: 0..written.len(), escaped: written.contains('\\') };
            assert_eq!(text.decode(written), meant, "from {written}");
        }
    }
}
