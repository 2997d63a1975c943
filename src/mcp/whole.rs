//! Whether a JSON text that ends where its connection ends is whole.
//! Takes the bytes as they pass, remembers three numbers, says at the end whether every bracket and string was closed.
//! Surprise: it does not check the JSON; it only tells an answer that was cut from one that was not (P3).

/// Nesting and string state of a JSON text seen so far.
#[derive(Debug, Default)]
pub struct Whole {
    depth: u64,
    in_string: bool,
    escaped: bool,
    began: bool,
}

impl Whole {
    pub fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => {
                    self.in_string = !self.in_string;
                    self.began = true;
                }
                _ if self.in_string => {}
                b'{' | b'[' => {
                    self.depth += 1;
                    self.began = true;
                }
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => self.began |= !byte.is_ascii_whitespace(),
            }
        }
    }

    /// Whether the text could end here.
    pub fn is_whole(&self) -> bool {
        self.began && self.depth == 0 && !self.in_string
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_whole_only_at_its_end() {
        let text = br#" {"a":[1,"}\\\"{",{"b":null}],"c":"\u007b"} "#;
        let end = text.len() - 1;
        for cut in 0..=text.len() {
            let mut whole = Whole::default();
            whole.push(&text[..cut / 2]);
            whole.push(&text[cut / 2..cut]);
            assert_eq!(whole.is_whole(), cut >= end, "cut at {cut}");
        }
        for scalar in ["null", "7", "\"x\""] {
            let mut whole = Whole::default();
            whole.push(scalar.as_bytes());
            assert!(whole.is_whole(), "{scalar}");
        }
    }
}
