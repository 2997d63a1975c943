//! The check of `upstreams`: peers that can be connected to, and what TLS to them rests on. PURE.
//! Takes the table of the file, gives upstreams in its order, so that a listener may name one by position.
//! Surprise: a TLS upstream never goes without a server name, because Pingora does not verify a peer that has none.

use super::{Check, address};
use crate::config::field::{Field, ShortOrLong, Table};
use crate::config::file;
use crate::config::problem::Path;
use crate::config::settings::{PeerAddress, Upstream, UpstreamTls, Verify};

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
        let file::Upstream { peers, tls, health } = upstream;
        let peers = self.peers(peers, &path.key("peers"));
        let tls = tls.good().and_then(|tls| match tls {
            None => Some(None),
            Some(tls) => self.upstream_tls(tls, &path.key("tls"), peers.as_deref()).map(Some),
        });
        let health = health.good().and_then(|health| match health {
            None => Some(None),
            Some(health) => self.health(health, &path.key("health")).map(Some),
        });
        Some(Upstream { name, peers: peers?, tls: tls?, health: health? })
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
        let file::UpstreamTls { ca, cert, key, key_passphrase_file, server_name, verify } = tls;
        let ca = self.authorities(ca, &path.key("ca"));
        let identity = self.identity(cert, key, key_passphrase_file, path);
        let server_name =
            server_name.good().and_then(|name| self.server_name(name, &path.key("server_name"), peers));
        let verify = match verify.good()? {
            file::Verify::Full => Verify::Full,
            file::Verify::CaOnly => Verify::CaOnly,
        };
        Some(UpstreamTls { ca: ca?, identity: identity?, server_name: server_name?, verify })
    }

    fn server_name(
        &self,
        name: Option<String>,
        path: &Path,
        peers: Option<&[PeerAddress]>,
    ) -> Option<String> {
        if let Some(name) = name {
            self.dns_name(&name, path);
            return Some(name);
        }
        let (first, others) = peers?.split_first()?;
        let shared = others.iter().all(|peer| peer.host.eq_ignore_ascii_case(&first.host));
        if shared && address::is_dns_name(&first.host) {
            return Some(first.host.trim_end_matches('.').to_owned());
        }
        self.report.say(path, "is required, because the peers do not share one DNS name");
        None
    }
}
