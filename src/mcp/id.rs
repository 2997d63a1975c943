//! Ids of JSON-RPC messages: takes two as they are written, says whether they mean the same.
//! `"a"` and `"\u0061"`, `100` and `1E2` are one id each, since a server that parses and writes an id anew may change its form. Surprise:
//! numbers are compared by their decimal digits, because two long ids that differ may well be the same floating-point number.

use std::borrow::Cow;
use std::fmt;

use super::json::Text;

/// Whether two ids, each a valid JSON value, mean the same.
pub fn same(one: &[u8], other: &[u8]) -> bool {
    one == other || Id::of(one) == Id::of(other)
}

/// An id in the one form that all its spellings share.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Id(Form);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Form {
    Text(String),
    /// Digits without zeros at either end, times a power of ten.
    Number {
        negative: bool,
        digits: String,
        exponent: i64,
    },
    /// Null and what no id may be: equal only if written alike.
    Raw(Vec<u8>),
}

impl Id {
    /// `written`: a valid JSON value.
    pub fn of(written: &[u8]) -> Self {
        let form = std::str::from_utf8(written).ok().and_then(|text| match text.as_bytes().first()? {
            b'"' => text_form(text),
            b'-' | b'0'..=b'9' => number_form(text),
            _ => None,
        });
        Self(form.unwrap_or_else(|| Form::Raw(written.to_vec())))
    }
}

/// One text for each id.
impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Text(text) => write!(f, "\"{text}"),
            Form::Number { negative, digits, exponent } => {
                write!(f, "{}{digits}e{exponent}", if *negative { "-" } else { "" })
            }
            Form::Raw(written) => write!(f, "{}", written.escape_ascii()),
        }
    }
}

fn text_form(written: &str) -> Option<Form> {
    let escaped = written.contains('\\');
    let text = Text { span: 1..written.len().checked_sub(1)?, escaped };
    match text.decode(written) {
        // It stands for every lone surrogate: two ids that differ would look alike.
        Cow::Owned(meaning) if meaning.contains(char::REPLACEMENT_CHARACTER) => None,
        meaning => Some(Form::Text(meaning.into_owned())),
    }
}

fn number_form(written: &str) -> Option<Form> {
    let (mantissa, exponent) = written.split_once(['e', 'E']).unwrap_or((written, "0"));
    let (negative, mantissa) = mantissa.strip_prefix('-').map_or((false, mantissa), |rest| (true, rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    let significant = digits.trim_end_matches('0');
    let shift = i64::try_from(digits.len() - significant.len()).ok()? - i64::try_from(fraction.len()).ok()?;
    let digits = significant.trim_start_matches('0').to_owned();
    if digits.is_empty() {
        return Some(Form::Number { negative: false, digits, exponent: 0 });
    }
    let exponent = exponent.parse::<i64>().ok()?.checked_add(shift)?;
    Some(Form::Number { negative, digits, exponent })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_the_same_by_what_they_mean() {
        let same_ones = [
            ["7", "7"],
            ["100", "1E2"],
            ["100", "100.0"],
            ["-1.50", "-0.15e1"],
            ["0", "-0.0e5"],
            ["1e99999999999999999999", "1e99999999999999999999"],
            [r#""a""#, r#""\u0061""#],
            [r#""é""#, r#""\u00e9""#],
            [r#""""#, r#""""#],
            [r#""\ud800""#, r#""\ud800""#],
            ["null", "null"],
        ];
        for [one, other] in same_ones {
            assert!(same(one.as_bytes(), other.as_bytes()), "{one} {other}");
            assert_eq!(Id::of(one.as_bytes()).to_string(), Id::of(other.as_bytes()).to_string());
        }
        let different = [
            ["7", r#""7""#],
            ["7", "70"],
            ["7", "-7"],
            ["0.7", "7"],
            ["123456789012345678901234567890", "1.2345678901234568e29"],
            ["9007199254740993", "9007199254740992"],
            [r#""a""#, r#""A""#],
            [r#""\ud800""#, r#""\ud801""#],
            ["null", "0"],
            ["null", r#""server-error""#],
            ["1e99999999999999999999", "10e99999999999999999998"],
        ];
        for [one, other] in different {
            assert!(!same(one.as_bytes(), other.as_bytes()), "{one} {other}");
            assert_ne!(Id::of(one.as_bytes()).to_string(), Id::of(other.as_bytes()).to_string());
        }
    }
}
