//! The check of `listeners` and of whatever else we listen on. PURE.
//! Takes the listeners' shapes and the names of the upstreams, gives listeners whose upstream, addresses and keys are right.
//! Surprise: names and addresses are compared over all listeners, also over those that are wrong in other ways.

use std::net::SocketAddr;

use super::{Check, address, public};
use crate::config::field::{Field, OneOrMany};
use crate::config::file;
use crate::config::problem::Path;
use crate::config::settings::{Listener, UpstreamId};
use crate::config::sockets::collide;
use crate::mcp::public_url::{self, PLAIN};
use crate::routing::destination::Destination;

/// What must be unique, with the place where it was seen first.
#[derive(Default)]
pub struct Taken {
    addresses: Vec<(SocketAddr, Path)>,
    /// Names that the user gave; a default name is as unique as its address.
    names: Vec<(String, Path)>,
}

impl Check<'_> {
    /// All listeners, and the addresses they take. `upstreams`: names by position, `None` if they cannot be known.
    pub fn listeners(
        &self,
        listeners: Option<Vec<Field<file::Listener>>>,
        path: &Path,
        upstreams: Option<&[String]>,
    ) -> (Option<Vec<Listener>>, Taken) {
        let mut taken = Taken::default();
        let Some(listeners) = listeners else { return (None, taken) };
        if listeners.is_empty() {
            self.report.say(path, "needs at least one listener");
        }
        // Every listener is looked at before one that is wrong makes the whole list wrong.
        let checked: Vec<Option<Listener>> = listeners
            .into_iter()
            .enumerate()
            .map(|(index, listener)| {
                self.listener(listener.good()?, &path.index(index), upstreams, &mut taken)
            })
            .collect();
        (checked.into_iter().collect(), taken)
    }

    /// `Some(None)`: there is to be no admin listener.
    pub fn admin(
        &self,
        admin: Field<Option<file::Admin>>,
        path: &Path,
        taken: &mut Taken,
    ) -> Option<Option<SocketAddr>> {
        match admin.good()? {
            None => Some(None),
            Some(file::Admin { address, public }) => {
                let path = path.key("address");
                let address = self.address(&address.good()?, &path, taken)?;
                if !public.good()? && !address.ip().to_canonical().is_loopback() {
                    let sentence = "is not on loopback; whoever reaches it would read probes and metrics (and nothing \
                                    else): say `public: true` beside it if that is meant";
                    self.report.say(&path, sentence);
                    return None;
                }
                Some(Some(address))
            }
        }
    }

    fn listener(
        &self,
        listener: file::Listener,
        path: &Path,
        upstreams: Option<&[String]>,
        taken: &mut Taken,
    ) -> Option<Listener> {
        let file::Listener {
            name,
            address,
            tls,
            upstream,
            paths,
            scope,
            trusted_proxies,
            public_url,
            allowed_hosts,
            allowed_origins,
        } = listener;
        let name = name.good();
        if let Some(Some(name)) = &name {
            self.listener_name(name, &path.key("name"), taken);
        }
        let addresses = self.addresses(address, &path.key("address"), taken);
        let tls = tls.good().and_then(|tls| match tls {
            None => Some(None),
            Some(tls) => self.listener_tls(tls, &path.key("tls")).map(Some),
        });
        let destination = self.destination(upstream, paths, path, upstreams);
        let trusted_proxies = self.networks(trusted_proxies, &path.key("trusted_proxies"));
        let public_url = self.public_url(public_url, &path.key("public_url"));
        let hosts = self.allowed_hosts(allowed_hosts, &path.key("allowed_hosts"));
        let origins = self.allowed_origins(allowed_origins, &path.key("allowed_origins"));
        let (addresses, public_url) = (addresses?, public_url?);
        Some(Listener {
            name: name?.or_else(|| addresses.first().map(SocketAddr::to_string))?,
            allowed: public::allowed(hosts?, origins?, &addresses, &public_url),
            public_url,
            addresses,
            tls: tls?,
            destination: destination?,
            scope: scope.good()?,
            trusted_proxies: trusted_proxies?,
        })
    }

    fn listener_name(&self, name: &str, path: &Path, taken: &mut Taken) {
        if let Some((_, first)) = taken.names.iter().find(|(other, _)| other == name) {
            self.report.say(path, format!("is the same as {first}"));
        } else if name.parse::<SocketAddr>().is_ok() {
            self.report.say(path, "must not be an address, which is the name of a listener without one");
        } else {
            self.name(name, path);
            taken.names.push((name.to_owned(), path.clone()));
        }
    }

    /// The value of an `address` key: where to listen.
    pub fn addresses(
        &self,
        addresses: Field<OneOrMany<String>>,
        path: &Path,
        taken: &mut Taken,
    ) -> Option<Vec<SocketAddr>> {
        match addresses.required(path, self.report)? {
            OneOrMany::Scalar(text) => Some(vec![self.address(&text, path, taken)?]),
            OneOrMany::List(list) => {
                if list.is_empty() {
                    self.report.say(path, "needs at least one address");
                }
                let places = list.into_iter().enumerate();
                let checked: Vec<Option<SocketAddr>> = places
                    .map(|(index, text)| self.address(&text.good()?, &path.index(index), taken))
                    .collect();
                checked.into_iter().collect()
            }
        }
    }

    fn address(&self, text: &str, path: &Path, taken: &mut Taken) -> Option<SocketAddr> {
        let address = self.ask(address::listen(text), path)?;
        match taken.addresses.iter().find(|(other, _)| collide(*other, address)) {
            None => taken.addresses.push((address, path.clone())),
            Some((other, first)) if *other == address => {
                self.report.say(path, format!("is the same as {first}"));
            }
            Some((_, first)) => {
                let sentence =
                    format!("cannot be listened on beside {first}: one of the two is all of that port");
                self.report.say(path, sentence);
            }
        }
        Some(address)
    }

    fn destination(
        &self,
        upstream: Field<Option<String>>,
        paths: Field<Vec<Field<file::PathTo>>>,
        path: &Path,
        upstreams: Option<&[String]>,
    ) -> Option<Destination> {
        let (paths_at, upstream_at) = (path.key("paths"), path.key("upstream"));
        let mut taken: Vec<(String, Path)> = Vec::new();
        let paths = paths.good().map(|paths| {
            let places = paths.into_iter().enumerate();
            let checked = places.map(|(index, entry)| {
                self.path_to(entry.good()?, &paths_at.index(index), &mut taken, upstreams)
            });
            checked.collect::<Vec<Option<(String, UpstreamId)>>>()
        });
        let rest = match (upstream.good()?, upstreams?) {
            (_, []) => None,
            (Some(name), upstreams) => Some(self.upstream_named(&name, &upstream_at, upstreams)?),
            (None, _) if paths.as_ref().is_none_or(|paths| !paths.is_empty()) => None,
            (None, [_]) => Some(UpstreamId(0)),
            (None, upstreams) => {
                let known = upstreams.join(", ");
                self.report
                    .say(&upstream_at, format!("is required, because there are several upstreams: {known}"));
                return None;
            }
        };
        Some(Destination::new(paths?.into_iter().collect::<Option<_>>()?, rest))
    }

    fn path_to(
        &self,
        entry: file::PathTo,
        path: &Path,
        taken: &mut Vec<(String, Path)>,
        upstreams: Option<&[String]>,
    ) -> Option<(String, UpstreamId)> {
        let file::PathTo { path: prefix, upstream } = entry;
        let (prefix_at, upstream_at) = (path.key("path"), path.key("upstream"));
        let prefix = prefix.required(&prefix_at, self.report).and_then(|text| {
            let prefix = public_url::prefix(&text).filter(|prefix| !prefix.is_empty());
            let sentence = || format!("expected a path such as /payments; it {PLAIN}, found {text:?}");
            self.ask(prefix.map(str::to_owned).ok_or_else(sentence), &prefix_at)
        });
        if let Some(prefix) = &prefix {
            match taken.iter().find(|(other, _)| other == prefix) {
                Some((_, first)) => self.report.say(&prefix_at, format!("is the same as {first}")),
                None => taken.push((prefix.clone(), prefix_at)),
            }
        }
        let upstream = upstream.required(&upstream_at, self.report);
        let upstream = upstream.and_then(|name| self.upstream_named(&name, &upstream_at, upstreams?));
        Some((prefix?, upstream?))
    }

    fn upstream_named(&self, name: &str, path: &Path, upstreams: &[String]) -> Option<UpstreamId> {
        let position = upstreams.iter().position(|other| other == name);
        if position.is_none() && !upstreams.is_empty() {
            self.report.say(path, format!("unknown upstream {name:?}; known: {}", upstreams.join(", ")));
        }
        position.map(UpstreamId)
    }

    fn networks(&self, networks: Field<Vec<Field<String>>>, path: &Path) -> Option<Vec<ipnet::IpNet>> {
        let checked: Vec<Option<ipnet::IpNet>> = networks
            .good()?
            .into_iter()
            .enumerate()
            .map(|(index, text)| self.ask(address::network(&text.good()?), &path.index(index)))
            .collect();
        checked.into_iter().collect()
    }
}
