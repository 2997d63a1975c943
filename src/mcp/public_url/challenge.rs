//! `WWW-Authenticate` (RFC 9110 §11.6.1): the address of the protected resource's metadata inside it (RFC 9728 §5.1).
//! Takes the value of one field line and what to do with an address, gives the new value, or nothing where there is nothing to change.
//! Surprise: challenges are not told apart. A parameter is known by its `=` outside of quotes, so that any number of schemes, commas in
//! realms and the padding of `Negotiate YWI=` are read over alike, and every other byte stays where it is.

use crate::mcp::fields::{is_space, is_token_char};

/// The value with every `resource_metadata` made public. A value whose quotes do not close stays as it is.
pub fn rewritten(value: &str, public: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut walk = Walk { text: value, offset: 0 };
    let mut rewritten = String::new();
    let mut copied = 0;
    while let Some(parameter) = walk.next_parameter().ok()? {
        let names_metadata = parameter.name.eq_ignore_ascii_case("resource_metadata");
        if let Some(address) = names_metadata.then(|| public(&parameter.value)).flatten() {
            rewritten.push_str(&value[copied..parameter.start]);
            rewritten.push_str(&quoted(&address));
            copied = walk.offset;
        }
    }
    if copied == 0 {
        return None;
    }
    rewritten.push_str(&value[copied..]);
    Some(rewritten)
}

/// A read of one field value; `offset` stands behind what was read last.
struct Walk<'v> {
    text: &'v str,
    offset: usize,
}

struct Parameter<'v> {
    name: &'v str,
    /// Without quotes and escapes.
    value: String,
    /// Where the value begins, quotes included.
    start: usize,
}

/// A quoted string has no end.
struct Unclosed;

impl<'v> Walk<'v> {
    /// The next `name=value`.
    fn next_parameter(&mut self) -> Result<Option<Parameter<'v>>, Unclosed> {
        loop {
            self.skip(|c| !is_token_char(c) && c != '"');
            if self.rest().is_empty() {
                return Ok(None);
            }
            let name = self.skip(is_token_char);
            if name.is_empty() {
                // A quoted string that is no parameter's value.
                self.quoted()?;
                continue;
            }
            // RFC 9110 §11.2 allows white space around the sign.
            self.skip(is_space);
            if self.rest().starts_with('=') {
                self.offset += 1;
                self.skip(is_space);
                return self.value().map(|(start, value)| Some(Parameter { name, value, start }));
            }
        }
    }

    fn value(&mut self) -> Result<(usize, String), Unclosed> {
        let start = self.offset;
        let value = match self.rest().starts_with('"') {
            true => self.quoted()?,
            // Addresses ought to be quoted; some servers write them bare.
            false => self.skip(|c| c != ',' && !is_space(c)).to_owned(),
        };
        Ok((start, value))
    }

    fn rest(&self) -> &'v str {
        &self.text[self.offset..]
    }

    fn skip(&mut self, goes_on: impl Fn(char) -> bool) -> &'v str {
        let rest = self.rest();
        let skipped = &rest[..rest.find(|c| !goes_on(c)).unwrap_or(rest.len())];
        self.offset += skipped.len();
        skipped
    }

    /// The quoted string that begins here.
    fn quoted(&mut self) -> Result<String, Unclosed> {
        let mut value = String::new();
        let mut characters = self.rest().char_indices().skip(1);
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    self.offset += at + 1;
                    return Ok(value);
                }
                '\\' => value.push(characters.next().ok_or(Unclosed)?.1),
                _ => value.push(character),
            }
        }
        Err(Unclosed)
    }
}

fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outside(value: &str) -> Option<String> {
        rewritten(value, |address| Some(format!("https://out{}", address.strip_prefix("http://in")?)))
    }

    #[test]
    fn the_metadata_address_and_nothing_else_becomes_public() {
        for (value, expected) in [
            (
                r#"Bearer resource_metadata="http://in/.well-known/x""#,
                r#"Bearer resource_metadata="https://out/.well-known/x""#,
            ),
            (
                r#"Bearer realm="a, \"b\", resource_metadata=\"http://in/no\"", RESOURCE_METADATA = "http://in/x",scope="y z""#,
                r#"Bearer realm="a, \"b\", resource_metadata=\"http://in/no\"", RESOURCE_METADATA = "https://out/x",scope="y z""#,
            ),
            (
                r#"Negotiate YWI=, Basic realm="http://in", DPoP algs="ES256", resource_metadata="http://in/1", Bearer resource_metadata="http://in/2""#,
                r#"Negotiate YWI=, Basic realm="http://in", DPoP algs="ES256", resource_metadata="https://out/1", Bearer resource_metadata="https://out/2""#,
            ),
            (
                r"Bearer resource_metadata=http://in/x, error=y",
                r#"Bearer resource_metadata="https://out/x", error=y"#,
            ),
            (r#"Bearer resource_metadata="http:\/\/in/x""#, r#"Bearer resource_metadata="https://out/x""#),
            (
                r#"Bearer resource_metadata="http://in/\"\\""#,
                r#"Bearer resource_metadata="https://out/\"\\""#,
            ),
            (
                r#"Negotiate a/b+c==,Bearer resource_metadata="http://in/x""#,
                r#"Negotiate a/b+c==,Bearer resource_metadata="https://out/x""#,
            ),
        ] {
            assert_eq!(outside(value).as_deref(), Some(expected), "{value}");
        }
        for value in [
            "",
            "Basic",
            "Negotiate YWI=",
            r#"Bearer realm="http://in", error_uri="http://in/e""#,
            r#"Bearer resource_metadata="https://elsewhere/x""#,
            r#"Bearer xresource_metadata="http://in/x""#,
            r#"Bearer "resource_metadata=http://in/x""#,
            r#"Bearer resource_metadata="http://in/x"#,
            r#"Bearer resource_metadata="http://in/x", realm="a\"#,
            "Bearer resource_metadata=",
            "Bearer resource_metadata",
        ] {
            assert_eq!(outside(value), None, "{value}");
        }
    }
}
