//! One element of a `Forwarded` field (RFC 7239 §4): what one proxy says of the request as it came to it.
//! Takes the text between two commas, gives its parameters, or nothing where it breaks the grammar.
//! Surprise: one mistake costs the whole element, because what follows a broken quote may be anybody's.

use std::borrow::Cow;

use crate::mcp::fields::{is_space, is_token_char};

/// The parameters that we use, unquoted; `by` and extensions are only read over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Element<'a> {
    pub for_: Option<Cow<'a, str>>,
    pub host: Option<Cow<'a, str>>,
    pub proto: Option<Cow<'a, str>>,
}

impl<'a> Element<'a> {
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut element = Self::default();
        let mut rest = text.trim_matches(is_space);
        loop {
            // RFC 7239 §4 lets pairs be left out between semicolons.
            while let Some(behind) = rest.strip_prefix(';') {
                rest = behind.trim_start_matches(is_space);
            }
            if rest.is_empty() {
                return Some(element);
            }
            let (name, value, behind) = pair(rest)?;
            let place = match &*name.to_ascii_lowercase() {
                "for" => Some(&mut element.for_),
                "host" => Some(&mut element.host),
                "proto" => Some(&mut element.proto),
                _ => None,
            };
            // Each parameter at most once, or two readers could see two requests.
            if place.is_some_and(|place| place.replace(value).is_some()) {
                return None;
            }
            rest = behind.trim_start_matches(is_space);
            if !rest.is_empty() && !rest.starts_with(';') {
                return None;
            }
        }
    }
}

/// `name=value` at the beginning of `text`: name, value, and what stands behind.
fn pair(text: &str) -> Option<(&str, Cow<'_, str>, &str)> {
    let (name, rest) = text.split_at(text.find('=')?);
    let rest = rest.get(1..)?;
    if !is_token(name) {
        return None;
    }
    match rest.strip_prefix('"') {
        Some(quoted) => {
            let (value, behind) = unquoted(quoted)?;
            Some((name, value, behind))
        }
        None => {
            let (value, behind) = rest.split_at(rest.find(|c| c == ';' || is_space(c)).unwrap_or(rest.len()));
            // Colons and brackets ought to be quoted; proxies that write `for=[::1]:80` mean no harm.
            let is_value = |c: char| is_token_char(c) || matches!(c, ':' | '[' | ']');
            (!value.is_empty() && value.chars().all(is_value)).then_some((name, value.into(), behind))
        }
    }
}

/// The inside of a quoted string whose first quote is gone, and what stands behind its last.
fn unquoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let mut value = Cow::Borrowed("");
    let mut start = 0;
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => {
                value += &text[start..at];
                return Some((value, &text[at + 1..]));
            }
            '\\' => {
                value += &text[start..at];
                (start, _) = characters.next()?;
            }
            _ => {}
        }
    }
    None
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_token_char)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_sound_or_nothing() {
        let some = |text: &str| (!text.is_empty()).then(|| Cow::Owned(text.to_owned()));
        for (text, for_, host, proto) in [
            ("", "", "", ""),
            (" ;; for=a ;;proto=b; ", "a", "", "b"),
            ("FOR=a;Host=b;pRoTo=c;by=d;secret=e", "a", "b", "c"),
            (r#"for="_a\"b\\c;d=";host="""#, r#"_a"b\c;d="#, "", ""),
            (r#"for="[::1]:80";host="a:1""#, "[::1]:80", "a:1", ""),
            ("for=[::1]:80", "[::1]:80", "", ""),
        ] {
            let mut expected = Element { for_: some(for_), host: some(host), proto: some(proto) };
            if text.contains(r#"host="""#) {
                expected.host = Some("".into());
            }
            assert_eq!(Element::parse(text), Some(expected), "{text}");
        }
        for text in [
            "for",
            "for=",
            "=a",
            "for =a",
            "for= a",
            "for=a b",
            "for=\"a",
            "for=\"a\\",
            "for=\"a\"b",
            "for=a/b",
            "for=a;for=b",
            "for=a;FOR=a",
            "f(r=a",
            "for=a\"b\"",
            "for=a;x",
            "for=ä",
        ] {
            assert_eq!(Element::parse(text), None, "{text}");
        }
    }
}
