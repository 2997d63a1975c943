//! The hop: what one member tells another about a request that it forwards, in one header field.
//! PURE: takes what rooms 2 to 5 decided, gives the field's value (RFC 3986 query syntax, ASCII) and reads it back.
//! Surprise: the field is believed on the member listener only; anywhere else it is dropped, and a request that still carries
//! it would go round in circles if it were forwarded again.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::registry::SessionKey;

/// Carries a [`Hop`] to the owner's member.
pub const HOP: &str = "x-outrigger-hop";
/// Carries the kind of a failure back from there; the member that the client spoke to words the reply.
pub const HOP_FAULT: &str = "x-outrigger-fault";
/// Carries the name of the peer that answered.
pub const HOP_PEER: &str = "x-outrigger-peer";

/// A forwarded request, as its first member saw it. Client address and public origin stand in the fields that the peer gets anyway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop<'h> {
    /// Member that it is meant for; an address may have changed hands.
    pub to: Cow<'h, str>,
    /// Member that the client spoke to.
    pub from: Cow<'h, str>,
    /// Number of the request in the other member's access log, 16 hex digits.
    pub request: Cow<'h, str>,
    pub upstream: Cow<'h, str>,
    /// `None`: only the member is known; always the same of its peers is asked.
    pub peer: Option<Cow<'h, str>>,
    pub session: SessionKey,
    /// Name of the route in logs.
    pub route: Cow<'h, str>,
    pub server_id: Option<Cow<'h, str>>,
    pub era: Cow<'h, str>,
    /// JSON-RPC method.
    pub method: Option<Cow<'h, str>>,
}

/// A text as a field value or as part of one.
pub fn escape(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

/// Reads what [`escape`] wrote.
pub fn unescape(value: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(value).decode_utf8().ok()
}

/// All that RFC 3986 calls unreserved stays readable.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

impl<'h> Hop<'h> {
    /// The field's value.
    pub fn encode(&self) -> String {
        let session = self.session.hex();
        let pairs = [
            ("to", Some(&*self.to)),
            ("from", Some(&*self.from)),
            ("request", Some(&*self.request)),
            ("upstream", Some(&*self.upstream)),
            ("peer", self.peer.as_deref()),
            ("session", Some(&*session)),
            ("route", Some(&*self.route)),
            ("server_id", self.server_id.as_deref()),
            ("era", Some(&*self.era)),
            ("method", self.method.as_deref()),
        ];
        let mut value = String::with_capacity(256);
        for (name, text) in pairs.into_iter().filter_map(|(name, text)| Some((name, text?))) {
            let separator = if value.is_empty() { "" } else { "&" };
            value.extend([separator, name, "="]);
            value.extend(utf8_percent_encode(text, ESCAPED));
        }
        value
    }

    /// `None` if anything that must be there is not. Unknown names are ignored: a newer member may say more.
    pub fn parse(value: &'h str) -> Option<Self> {
        let read = |wanted: &str| {
            let mut pairs = value.split('&').filter_map(|pair| pair.split_once('='));
            let (_, text) = pairs.find(|(name, _)| *name == wanted)?;
            unescape(text)
        };
        Some(Self {
            to: read("to")?,
            from: read("from")?,
            request: read("request")?,
            upstream: read("upstream")?,
            peer: read("peer"),
            session: SessionKey::from_hex(&read("session")?)?,
            route: read("route")?,
            server_id: read("server_id"),
            era: read("era")?,
            method: read("method"),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hop() -> Hop<'static> {
        Hop {
            to: "pod-2".into(),
            from: "pod-1".into(),
            request: "00000000000000ff".into(),
            upstream: "gateway".into(),
            peer: Some("127.0.0.1:4444".into()),
            session: SessionKey::new("gateway", "abc"),
            route: "mcp".into(),
            server_id: Some("a/b c".into()),
            era: "legacy".into(),
            method: Some("tools/call".into()),
        }
    }

    #[test]
    fn the_value_is_the_contract_between_versions() {
        let session = SessionKey::new("gateway", "abc").hex();
        assert_eq!(
            hop().encode(),
            format!(
                "to=pod-2&from=pod-1&request=00000000000000ff&upstream=gateway&peer=127.0.0.1%3A4444&session={session}\
                 &route=mcp&server_id=a/b%20c&era=legacy&method=tools/call"
            )
        );
        assert_eq!(Hop::parse(&format!("new=1&{}", hop().encode())), Some(hop()));
    }

    #[test]
    fn what_lacks_something_is_no_hop() {
        let value = hop().encode();
        for name in ["to", "from", "request", "upstream", "session", "route", "era"] {
            let without: Vec<_> =
                value.split('&').filter(|pair| !pair.starts_with(&format!("{name}="))).collect();
            assert_eq!(Hop::parse(&without.join("&")), None, "{name}");
        }
        for value in ["", "1", "to=a", "to=%ff"] {
            assert_eq!(Hop::parse(value), None, "{value}");
        }
    }

    proptest! {
        #[test]
        fn every_text_survives_and_the_value_is_a_field_value(
            text in "\\PC{0,20}",
            peer in proptest::option::of("\\PC{0,20}"),
        ) {
            let hop = Hop {
                to: text.as_str().into(),
                server_id: Some(text.as_str().into()),
                method: Some(text.as_str().into()),
                peer: peer.map(Into::into),
                ..hop()
            };
            let value = hop.encode();
            prop_assert!(value.bytes().all(|byte| byte.is_ascii_graphic()), "{value}");
            prop_assert_eq!(Hop::parse(&value), Some(hop.clone()));
        }
    }
}
