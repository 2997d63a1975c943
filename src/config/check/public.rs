//! The check of what a listener is called: its public URL, and the hosts and origins that it takes requests for. PURE.
//! Takes the shapes, gives rules that the rooms go by; a prefix is also held against the routes.
//! Surprise: what is left out has another meaning on loopback, where only this machine's names lead to a listener and every browser on
//! it can be led there by a foreign one.

use std::net::SocketAddr;

use super::Check;
use crate::config::field::Field;
use crate::config::file;
use crate::config::problem::Path;
use crate::config::settings::Listener;
use crate::mcp::public_url::{Base, PublicUrl};
use crate::routing::allowed::{Allowed, Host, Origin};
use crate::routing::route::Routes;

impl Check<'_> {
    pub fn public_url(&self, public_url: Field<file::PublicUrl>, path: &Path) -> Option<PublicUrl> {
        let file::PublicUrl { protocol, external_url } = public_url.good()?;
        let external = match external_url.good()? {
            None => None,
            Some(url) => Some(self.ask(Base::parse(&url), &path.key("external_url"))?),
        };
        let https = match protocol.good()? {
            file::Protocol::Auto => None,
            file::Protocol::Http => Some(false),
            file::Protocol::Https => Some(true),
        };
        if let (Some(https), Some(external)) = (https, &external)
            && https != external.https
        {
            self.report.say(&path.key("protocol"), "contradicts `external_url`, which says it already");
        }
        Some(PublicUrl { https, external })
    }

    pub fn allowed_hosts(
        &self,
        entries: Field<Option<Vec<Field<String>>>>,
        path: &Path,
    ) -> Option<Option<Vec<Host>>> {
        self.entries(entries, path, Host::parse, "HOST, HOST:PORT, HOST:* or *")
    }

    pub fn allowed_origins(
        &self,
        entries: Field<Option<Vec<Field<String>>>>,
        path: &Path,
    ) -> Option<Option<Vec<Origin>>> {
        let form = "HOST or SCHEME://HOST, each with or without :PORT or :*, or \"null\" or *";
        self.entries(entries, path, Origin::parse, form)
    }

    fn entries<T>(
        &self,
        entries: Field<Option<Vec<Field<String>>>>,
        path: &Path,
        parse: impl Fn(&str) -> Option<T>,
        form: &str,
    ) -> Option<Option<Vec<T>>> {
        let Some(entries) = entries.good()? else { return Some(None) };
        if entries.is_empty() {
            self.report.say(path, "lets nobody in; leave it out for the default, or write \"*\"");
        }
        let checked: Vec<Option<T>> = entries
            .into_iter()
            .enumerate()
            .map(|(index, text)| {
                let text = text.good()?;
                let entry = parse(&text).ok_or_else(|| format!("expected {form}, found {text:?}"));
                self.ask(entry, &path.index(index))
            })
            .collect();
        checked.into_iter().collect::<Option<Vec<T>>>().map(Some)
    }

    /// A request for a path that begins with the prefix has it taken off, so nothing behind it may begin so.
    pub fn prefixes(&self, listeners: &[Listener], routes: &Routes, path: &Path) {
        for (index, listener) in listeners.iter().enumerate() {
            let prefix = listener.public_url.external.as_ref().map_or("", |external| &external.prefix);
            if !prefix.is_empty() && routes.any_begins_with(prefix) {
                let sentence = format!("has a path with which one of `routes` begins: {prefix}");
                self.report.say(&path.index(index).key("public_url").key("external_url"), sentence);
            }
        }
    }
}

/// What a listener lets in, where the file says nothing of it.
pub fn allowed(
    hosts: Option<Vec<Host>>,
    origins: Option<Vec<Origin>>,
    addresses: &[SocketAddr],
    public_url: &PublicUrl,
) -> Allowed {
    let on_loopback = addresses.iter().all(|address| address.ip().is_loopback());
    let external = public_url.external.as_ref().and_then(|external| Host::parse(&external.authority));
    let own_names = || [Host::Loopback].into_iter().chain(external).collect();
    let host = if on_loopback { Host::Loopback } else { Host::Any };
    Allowed {
        hosts: hosts.unwrap_or_else(|| if on_loopback { own_names() } else { vec![Host::Any] }),
        origins: origins.unwrap_or_else(|| vec![Origin::Of { scheme: None, host }]),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::routing::allowed::Port;

    /// `address`: YAML.
    fn listener(address: &str, keys: &str) -> Result<Listener, String> {
        let text = format!(
            "{{listeners: [{{address: {address}, {keys}}}], upstreams: {{a: {{peers: [\"b:1\"]}}}}, \
             sessions: {{registry: redis, redis: {{url: \"redis://a\"}}}}}}"
        );
        let settings = crate::config::load_text("o.yaml", &text, &|_| None);
        settings.map(|mut settings| settings.listeners.remove(0)).map_err(|problems| problems.to_string())
    }

    fn allowed(address: &str, keys: &str) -> Allowed {
        listener(address, keys).unwrap().allowed
    }

    fn named(host: &str, port: Port) -> Host {
        Host::Named { host: host.to_owned(), port }
    }

    fn with_any_scheme(host: Host) -> Vec<Origin> {
        vec![Origin::Of { scheme: None, host }]
    }

    #[test]
    fn on_loopback_alone_names_and_pages_are_this_machines() {
        for address in ["'127.0.0.1:1'", "'127.9.9.9:1'", "'[::1]:1'", "['127.0.0.1:1', '[::1]:1']"] {
            let allowed = allowed(address, "");
            assert_eq!(allowed.hosts, [Host::Loopback], "{address}");
            assert_eq!(allowed.origins, with_any_scheme(Host::Loopback), "{address}");
        }
        for address in ["'0.0.0.0:1'", "'[::]:1'", "'10.0.0.1:1'", "['127.0.0.1:1', '0.0.0.0:2']"] {
            let allowed = allowed(address, "allowed_hosts: null");
            assert_eq!(allowed.hosts, [Host::Any], "{address}");
            assert_eq!(allowed.origins, with_any_scheme(Host::Any), "{address}");
        }
        for (url, host) in
            [("https://a/b", named("a", Port::Default)), ("https://a:8443", named("a", Port::Is(8443)))]
        {
            let allowed = allowed("'127.0.0.1:1'", &format!("public_url: {{external_url: '{url}'}}"));
            assert_eq!(allowed.hosts, [Host::Loopback, host]);
        }
    }

    #[test]
    fn what_the_file_says_counts_as_it_stands() {
        let both = "allowed_hosts: [a, \"b:*\"], allowed_origins: [\"https://c:8443\", \"null\"]";
        for address in ["'127.0.0.1:1'", "'0.0.0.0:1'"] {
            let allowed = allowed(address, both);
            assert_eq!(allowed.hosts, [named("a", Port::Default), named("b", Port::Any)]);
            let origin = Origin::Of { scheme: Some("https".into()), host: named("c", Port::Is(8443)) };
            assert_eq!(allowed.origins, [origin, Origin::Null]);
        }
    }

    #[test]
    fn a_public_url_is_said_once() {
        let public_url =
            |keys: &str| listener("'127.0.0.1:1'", &format!("public_url: {{{keys}}}")).map(|l| l.public_url);
        let external = Some(Base::parse("https://a/b").unwrap());
        for (keys, https, external) in [
            ("", None, None),
            ("protocol: https", Some(true), None),
            ("protocol: http, external_url: null", Some(false), None),
            ("external_url: 'https://a/b'", None, external.clone()),
            ("protocol: https, external_url: 'https://a/b'", Some(true), external.clone()),
        ] {
            assert_eq!(public_url(keys), Ok(PublicUrl { https, external }), "{keys}");
        }
        assert_eq!(
            public_url("protocol: http, external_url: 'https://a/b'").unwrap_err(),
            "o.yaml:1: listeners[0].public_url.protocol: contradicts `external_url`, which says it already"
        );
    }
}
