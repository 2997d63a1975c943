//! What an answer's `Content-Type` says: takes the field's value, gives the kinds that rules tell apart.
//! Surprise: `application/problem+json` and `text/json` are read for their words, but are no answer: no client takes them for one.

use super::detail::Markup;

/// A content type without its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentType<'a> {
    pub kind: Kind,
    /// As the upstream wrote it; empty if it wrote none.
    essence: &'a str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `application/json`
    Json,
    /// `text/event-stream`
    EventStream,
    /// Something in which a failure may be put into words.
    Words(Markup),
    /// A picture says nothing in one line.
    Opaque,
    Unsaid,
}

impl<'a> ContentType<'a> {
    /// `value`: of the header field.
    pub fn of(value: Option<&'a str>) -> Self {
        let essence = value.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
        let is = |name: &str| essence.eq_ignore_ascii_case(name);
        let begins =
            |name: &str| essence.get(..name.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(name));
        let ends = |name: &str| {
            let at = essence.len().saturating_sub(name.len());
            essence.get(at..).is_some_and(|end| end.eq_ignore_ascii_case(name))
        };
        let kind = if is("application/json") {
            Kind::Json
        } else if is("text/event-stream") {
            Kind::EventStream
        } else if is("text/html") || is("application/xhtml+xml") {
            Kind::Words(Markup::Html)
        } else if is("text/json") || ends("+json") {
            Kind::Words(Markup::Json)
        } else if begins("text/") {
            Kind::Words(Markup::Text)
        } else if essence.is_empty() {
            Kind::Unsaid
        } else {
            Kind::Opaque
        };
        Self { kind, essence }
    }

    /// For a client that wants to know what came in place of JSON; bounded.
    pub(super) fn foreign(&self) -> Option<String> {
        match self.kind {
            Kind::Json | Kind::Unsaid => None,
            Kind::EventStream | Kind::Words(_) | Kind::Opaque => {
                Some(self.essence.chars().take(80).collect::<String>().to_ascii_lowercase())
            }
        }
    }

    /// How to find words in a body of this type.
    pub(super) fn markup(&self, body: &[u8]) -> Option<Markup> {
        match self.kind {
            Kind::Json => Some(Markup::Json),
            Kind::Words(markup) => Some(markup),
            Kind::EventStream | Kind::Opaque => None,
            Kind::Unsaid => Some(match body.trim_ascii_start().first() {
                Some(b'{' | b'[' | b'"') => Markup::Json,
                Some(_) | None => Markup::Text,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_without_parameters_and_case() {
        let table = [
            (Some("application/json"), Kind::Json),
            (Some(" Application/JSON ; charset=utf-8"), Kind::Json),
            (Some("text/event-stream;charset=utf-8"), Kind::EventStream),
            (Some("text/HTML"), Kind::Words(Markup::Html)),
            (Some("application/problem+json"), Kind::Words(Markup::Json)),
            (Some("text/json"), Kind::Words(Markup::Json)),
            (Some("text/plain"), Kind::Words(Markup::Text)),
            (Some("application/jsonp"), Kind::Opaque),
            (Some("image/png"), Kind::Opaque),
            (Some("é"), Kind::Opaque),
            (Some(" ; x"), Kind::Unsaid),
            (None, Kind::Unsaid),
        ];
        for (value, kind) in table {
            assert_eq!(ContentType::of(value).kind, kind, "{value:?}");
        }
        let foreign = |value| ContentType::of(Some(value)).foreign();
        assert_eq!(foreign("Text/HTML; charset=x").as_deref(), Some("text/html"));
        assert_eq!(foreign("application/json"), None);
    }
}
