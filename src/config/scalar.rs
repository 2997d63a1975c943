//! One scalar of the YAML file: its text, how it was written, and what type it may therefore stand for. PURE.
//! YAML 1.2.2 §10.3 (core schema) decides: `5` is a number and no string, `"5"` a string and no number.
//! Surprise: what held a `${...}` may be both, because a variable is text whatever it is used for.

/// A scalar after `${...}` has been replaced.
#[derive(Debug, Clone)]
pub struct Scalar {
    pub text: String,
    pub style: Style,
    /// What of the text must not be printed: what came from the environment, and who logs in by a URL.
    pub secrets: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Bare words.
    Plain,
    /// Quoted or a block.
    Quoted,
    /// Held a `${...}`, quoted or not.
    Expanded,
}

impl Scalar {
    pub fn is_null(&self) -> bool {
        self.style != Style::Quoted && is_null(&self.text)
    }

    /// The value where a string is wanted.
    pub fn as_text(&self) -> Option<&str> {
        (self.style != Style::Plain || is_text(&self.text)).then_some(&self.text)
    }

    /// The value where a number, true or false is wanted.
    pub fn as_bare(&self) -> Option<&str> {
        (self.style != Style::Quoted).then_some(&self.text)
    }

    /// Hides in a sentence about this value its secrets, quoted or not.
    /// Parts of one or two letters stay: they are no secrets, and hiding them would eat the sentence's own words.
    pub fn mask(&self, sentence: String) -> String {
        if self.secrets.is_empty() {
            return sentence;
        }
        let sentence = sentence.replace(&format!("{:?}", self.text), "\"***\"");
        let parts = std::iter::once(&self.text).chain(&self.secrets).filter(|part| part.len() > 2);
        parts.fold(sentence, |sentence, part| {
            sentence.replace(part.as_str(), "***").replace(&part.escape_debug().to_string(), "***")
        })
    }
}

/// User and password of a URL with the `@` behind them; the last one, because a slip may leave another in the password.
pub fn credentials(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("://")?;
    rest.rfind('@').map(|at| &rest[..=at])
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

fn is_text(text: &str) -> bool {
    let boolean = matches!(text, "true" | "True" | "TRUE" | "false" | "False" | "FALSE");
    !is_null(text) && !boolean && !is_number(text)
}

fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let based = |prefix: &str, radix: u32| {
        let digits = text.strip_prefix(prefix);
        digits.is_some_and(|digits| !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix)))
    };
    // Rust also reads `inf` and `nan` as numbers, which are words in YAML.
    let decimal = unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.')
        && unsigned.parse::<f64>().is_ok();
    let special = matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN");
    decimal || special || based("0x", 16) || based("0o", 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_words_are_text_unless_the_core_schema_says_otherwise() {
        for text in
            ["off", "yes", "127.0.0.1", "10.0.0.0/8", "4MiB", "inf", "nan", "-", "0x", "1:20", "0o9", "+a"]
        {
            assert!(is_text(text), "{text}");
        }
        for text in [
            "", "~", "null", "true", "FALSE", "5", "-5", "+5", "1e3", "1.5", ".5", ".inf", "-.INF", ".nan",
            "0x1F", "0o17",
        ] {
            assert!(!is_text(text), "{text}");
        }
    }

    #[test]
    fn quotes_make_text_and_a_variable_makes_anything() {
        let scalar = |text: &str, style| Scalar { text: text.to_owned(), style, secrets: Vec::new() };
        for (style, text, bare) in
            [(Style::Plain, false, true), (Style::Quoted, true, false), (Style::Expanded, true, true)]
        {
            let five = scalar("5", style);
            assert_eq!((five.as_text().is_some(), five.as_bare().is_some()), (text, bare), "{style:?}");
        }
        assert!(scalar("null", Style::Expanded).is_null() && !scalar("null", Style::Quoted).is_null());
    }

    #[test]
    fn a_url_may_hold_credentials() {
        for (text, hidden) in [
            ("redis://user:pw@host:1/0", Some("user:pw@")),
            ("redis://:p@ss/word@host", Some(":p@ss/word@")),
            ("redis://host/0", None),
            ("redis://@host", Some("@")),
            ("a@b", None),
        ] {
            assert_eq!(credentials(text), hidden, "{text}");
        }
    }

    #[test]
    fn the_whole_and_each_part_are_masked() {
        let scalar = |text: &str, secret: &str| Scalar {
            text: text.to_owned(),
            style: Style::Expanded,
            secrets: vec![secret.to_owned()],
        };
        let password = scalar("user:s3cret@host", "s3cret");
        assert_eq!(password.mask("found \"user:s3cret@host\"".to_owned()), "found \"***\"");
        assert_eq!(password.mask("no host \"s3cret@host\"".to_owned()), "no host \"***@host\"");
        let quoted = scalar("say \"hi\"", "\"hi\"");
        assert_eq!(quoted.mask(format!("found {:?}", "not \"hi\"")), "found \"not ***\"");
        let short = scalar("a", "a");
        assert_eq!(
            short.mask("expected a number, found \"a\"".to_owned()),
            "expected a number, found \"***\""
        );
    }
}
