//! The skeleton of a JSON text: what stands in its outermost object or array, with all that is nested deeper left out.
//! Takes the text as it passes, cut anywhere, and keeps some bytes of it; of `{"id":1,"result":{"a":[1]}}` the skeleton is
//! `{"id":1,"result":{}}`. Surprise: an answer of any size is judged by these few bytes, so that none needs to be held whole.

use super::text::special;

/// Collects the skeleton of one text.
#[derive(Debug)]
pub(in crate::mcp) struct Skeleton {
    kept: Vec<u8>,
    longest: usize,
    overgrown: bool,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Skeleton {
    /// One that outgrows `longest` bytes is given up.
    pub fn up_to(longest: usize) -> Self {
        Self { kept: Vec::new(), longest, overgrown: false, depth: 0, in_string: false, escaped: false }
    }

    /// The next bytes of the text.
    pub fn push(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while at < bytes.len() {
            let (from, depth) = (at, self.depth);
            at = self.step(bytes, at);
            if depth.min(self.depth) <= 1 {
                self.keep(&bytes[from..at]);
            }
        }
    }

    /// `None` if it was given up.
    pub fn text(&self) -> Option<&[u8]> {
        (!self.overgrown).then_some(&self.kept)
    }

    /// Whether every bracket and string is closed; known also of one that was given up.
    pub fn is_whole(&self) -> bool {
        self.depth == 0 && !self.in_string
    }

    /// Reads on to where the state changes; gives the offset.
    fn step(&mut self, bytes: &[u8], at: usize) -> usize {
        if self.escaped {
            self.escaped = false;
            return at + 1;
        }
        if self.in_string {
            let end = special(bytes, at);
            match bytes.get(end) {
                Some(b'"') => self.in_string = false,
                Some(b'\\') => self.escaped = true,
                Some(_) => {}
                None => return end,
            }
            return end + 1;
        }
        let plain = |byte: &u8| !matches!(byte, b'"' | b'{' | b'}' | b'[' | b']');
        let plain = bytes[at..].iter().take_while(|byte| plain(byte)).count();
        if plain > 0 {
            return at + plain;
        }
        match bytes[at] {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            _ => self.depth = self.depth.saturating_sub(1),
        }
        at + 1
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.overgrown |= self.kept.len() + bytes.len() > self.longest;
        if self.overgrown {
            self.kept = Vec::new();
        } else {
            self.kept.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skeleton_of(chunks: &[&[u8]]) -> Option<String> {
        let mut skeleton = Skeleton::up_to(100);
        chunks.iter().for_each(|chunk| skeleton.push(chunk));
        skeleton.text().map(|text| String::from_utf8_lossy(text).into_owned())
    }

    #[test]
    fn only_the_outermost_level_is_kept_wherever_the_text_is_cut() {
        let long = format!(r#"{{"id":1,"result":{{"text":"{}"}}}}"#, r#"\"}]"#.repeat(1000));
        let table = [
            (r#"{"id":1,"result":{"a":[1,{"b":2}],"c":"}"}}"#, r#"{"id":1,"result":{}}"#),
            (r#" {"a" : [ {"b":[]} , 2 ] , "}\"{" : "\\" } x"#, r#" {"a" : [] , "}\"{" : "\\" } x"#),
            (r#"[{"id":1},{"id":2},[3],4]"#, "[{},{},[],4]"),
            (&long, r#"{"id":1,"result":{}}"#),
            (r#"{"a":{"b":"#, r#"{"a":{"#),
            ("]}", "]}"),
            ("null", "null"),
        ];
        for (text, skeleton) in table {
            let bytes = text.as_bytes();
            for cut in 0..=bytes.len() {
                let found = skeleton_of(&[&bytes[..cut], &bytes[cut..]]);
                assert_eq!(found.as_deref(), Some(skeleton), "{text} cut at {cut}");
            }
        }
    }

    #[test]
    fn a_text_is_whole_behind_its_last_bracket_however_little_is_kept() {
        let text = br#"{"a":[1,"}\\\"{",{"b":null}],"c":"\u007b"}"#;
        for longest in [0, 100] {
            for cut in 1..=text.len() {
                let mut skeleton = Skeleton::up_to(longest);
                skeleton.push(&text[..cut / 2]);
                skeleton.push(&text[cut / 2..cut]);
                assert_eq!(skeleton.is_whole(), cut == text.len(), "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_long_skeleton_is_given_up() {
        let text = format!(r#"{{"result":"{}","id":1}}"#, "x".repeat(100));
        assert_eq!(skeleton_of(&[text.as_bytes()]), None);
        assert_eq!(skeleton_of(&[&text.as_bytes()[..50], &text.as_bytes()[50..]]), None);
    }
}
