//! The check of `upstreams`: peers that can be connected to, and what TLS to them rests on. PURE.
//! Takes the table of the file, gives upstreams in its order, so that a listener may name one by position.
//! Surprise: a TLS upstream never goes without a server name, because Pingora does not verify a peer that has none.

use std::net::IpAddr;

use openssl::base64;

use super::{Check, address};
use crate::config::field::{Field, ShortOrLong, Table};
use crate::config::file;
use crate::config::problem::Path;
use crate::config::settings::{PeerAddress, Upstream, UpstreamTls, Verify};
use crate::mcp::forwarded::is_authority;

impl Check<'_> {
    pub fn upstreams(&self, table: Table<file::Upstream>, path: &Path) -> Option<Vec<Upstream>> {
        if table.0.is_empty() {
            self.report.say(path, "needs at least one upstream");
        }
        let checked: Vec<Option<Upstream>> = table
            .0
            .into_iter()
            .map(|(name, upstream)| {
                let path = path.key(&name);
                self.name(&name, &path);
                self.upstream(name, upstream.good()?, &path)
            })
            .collect();
        checked.into_iter().collect()
    }

    /// Names stand in logs, metrics and registry entries.
    pub fn name(&self, name: &str, path: &Path) {
        if name.is_empty() {
            self.report.say(path, "must not be empty");
        } else if name.chars().any(|char| char.is_whitespace() || char.is_control()) {
            self.report.say(path, "must not contain white space");
        }
    }

    fn upstream(&self, name: String, upstream: file::Upstream, path: &Path) -> Option<Upstream> {
        let file::Upstream { peers, tls, health, host } = upstream;
        let peers = self.peers(peers, &path.key("peers"));
        let tls = tls.good().and_then(|tls| match tls {
            None => Some(None),
            Some(tls) => self.upstream_tls(tls, &path.key("tls"), peers.as_deref()).map(Some),
        });
        let health = health.good().and_then(|health| match health {
            None => Some(None),
            Some(health) => self.health(health, &path.key("health")).map(Some),
        });
        let host = host.good();
        if let Some(Some(host)) = &host
            && !is_authority(host)
        {
            self.report.say(&path.key("host"), format!("expected HOST or HOST:PORT, found {host:?}"));
        }
        Some(Upstream { name, peers: peers?, tls: tls?, health: health?, host: host? })
    }

    fn peers(
        &self,
        peers: Field<Vec<Field<ShortOrLong<file::Peer>>>>,
        path: &Path,
    ) -> Option<Vec<PeerAddress>> {
        let peers = peers.required(path, self.report)?;
        if peers.is_empty() {
            self.report.say(path, "needs at least one peer");
        }
        let mut names: Vec<(String, Path)> = Vec::new();
        let checked: Vec<Option<PeerAddress>> = peers
            .into_iter()
            .enumerate()
            .map(|(index, peer)| self.peer(peer.good()?, &path.index(index), &mut names))
            .collect();
        checked.into_iter().collect()
    }

    fn peer(
        &self,
        peer: ShortOrLong<file::Peer>,
        path: &Path,
        names: &mut Vec<(String, Path)>,
    ) -> Option<PeerAddress> {
        let (name, name_path, address, address_path) = match peer {
            ShortOrLong::Scalar(address) => (Some(None), path.clone(), Some(address), path.clone()),
            ShortOrLong::Mapping(file::Peer { name, address }) => {
                let address_path = path.key("address");
                (name.good(), path.key("name"), address.required(&address_path, self.report), address_path)
            }
        };
        let place = address.as_deref().map(|text| self.ask(address::peer(text), &address_path));
        let name_path = if matches!(name, Some(None)) { address_path } else { name_path };
        let name = name?.or(address);
        if let Some(name) = &name {
            if let Some((_, first)) = names.iter().find(|(other, _)| other == name) {
                self.report.say(&name_path, format!("is the same as {first}"));
            } else {
                self.name(name, &name_path);
                names.push((name.clone(), name_path));
            }
        }
        let (host, port) = place??;
        Some(PeerAddress { name: name?, host, port })
    }

    fn upstream_tls(
        &self,
        tls: file::UpstreamTls,
        path: &Path,
        peers: Option<&[PeerAddress]>,
    ) -> Option<UpstreamTls> {
        let file::UpstreamTls { ca, cert, key, key_passphrase_file, server_name, verify, pins } = tls;
        let ca = self.authorities(ca, &path.key("ca"));
        let identity = self.identity(cert, key, key_passphrase_file, path);
        let server_name =
            server_name.good().and_then(|name| self.server_name(name, &path.key("server_name"), peers));
        let verify = match verify.good()? {
            file::Verify::Full => Verify::Full,
            file::Verify::CaOnly => Verify::CaOnly,
        };
        let pins = self.pins(pins, &path.key("pins"));
        Some(UpstreamTls { ca: ca?, identity: identity?, server_name: server_name?, verify, pins: pins? })
    }

    fn pins(&self, pins: Field<Vec<Field<String>>>, path: &Path) -> Option<Vec<[u8; 32]>> {
        let checked = pins.good()?.into_iter().enumerate().map(|(index, text)| {
            let text = text.good()?;
            let pin = base64::decode_block(&text).ok().and_then(|bytes| bytes.try_into().ok());
            let pin = pin.ok_or_else(|| format!("expected a SHA-256 in base64, found {text:?}"));
            self.ask(pin, &path.index(index))
        });
        // Every one is looked at before one that is wrong makes the list wrong.
        checked.collect::<Vec<_>>().into_iter().collect()
    }

    fn server_name(
        &self,
        name: Option<String>,
        path: &Path,
        peers: Option<&[PeerAddress]>,
    ) -> Option<String> {
        if let Some(name) = name {
            if !address::is_dns_name(&name) && name.parse::<IpAddr>().is_err() {
                self.report.say(path, format!("expected a DNS name or an IP address, found {name:?}"));
            }
            return Some(name.trim_end_matches('.').to_owned());
        }
        let (first, others) = peers?.split_first()?;
        if others.iter().all(|peer| peer.host.eq_ignore_ascii_case(&first.host)) {
            return Some(first.host.trim_end_matches('.').to_owned());
        }
        self.report.say(path, "is required, because the peers do not share one host");
        None
    }
}
