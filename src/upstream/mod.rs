//! Upstreams and their peers: trust (`trust`, `seal`, `handshake`), addresses, load and failed connections (`peer`), checks (`check`) and what they
//! found (`health`), and kept-alive connections (`pool`).
//! Takes the checked settings, gives connections. [`dial::Dialer`] is the only builder of Pingora peers.
//! Surprise: the pool is per thread, because every worker thread is a runtime of its own and a socket is best used where it was opened.

pub mod check;
pub mod dial;
mod handshake;
pub mod health;
pub mod peer;
pub mod pool;
pub mod seal;
pub mod trust;

use std::net::SocketAddr;
use std::sync::Arc;

use pingora_core::Error;
use pingora_core::connectors::TransportConnector;
use pingora_core::protocols::Stream;
use pingora_core::upstreams::peer::HttpPeer;

use crate::config::settings::{self, Health, Settings, UpstreamId};
use crate::error::Fault;
use crate::material::Shelf;
use crate::mcp::authority::Authority;
use crate::mcp::public_url::address::{Peers, is_name_of_peer};
use crate::routing::balance::{Candidate, choose, rendezvous};
use dial::{Dialer, Timeouts, Unreachable};
use peer::Peer;
use pool::Place;
use trust::Trust;

/// All upstreams of the configuration, by [`UpstreamId`].
pub struct Upstreams(Vec<Arc<Upstream>>);

impl Upstreams {
    /// Takes all trust material off the shelf. The error names file and reason, for the log.
    pub fn open(settings: &Settings, shelf: &mut Shelf) -> Result<Self, String> {
        let connector = Arc::new(TransportConnector::new(None));
        let upstreams = settings.upstreams.iter().enumerate().map(|(id, upstream)| {
            Upstream::open(UpstreamId(id), upstream, settings, connector.clone(), shelf).map(Arc::new)
        });
        Ok(Self(upstreams.collect::<Result<_, _>>()?))
    }

    pub fn get(&self, id: UpstreamId) -> &Upstream {
        &self.0[id.0]
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.0.iter()
    }

    /// Reads all trust material again.
    pub fn renew(&self) {
        self.0.iter().for_each(|upstream| upstream.dialer.renew());
    }
}

/// An MCP service that we front.
pub struct Upstream {
    pub id: UpstreamId,
    pub name: String,
    pub peers: Vec<Peer>,
    /// How they are checked.
    pub health: Option<Health>,
    /// What it is called by us, if not what our clients call us.
    pub host: Option<String>,
    dialer: Dialer,
}

impl Upstream {
    fn open(
        id: UpstreamId,
        upstream: &settings::Upstream,
        settings: &Settings,
        connector: Arc<TransportConnector>,
        shelf: &mut Shelf,
    ) -> Result<Self, String> {
        let owner = owner(&upstream.name);
        let trust = upstream.tls.as_ref().map(|tls| Trust::load(tls, &owner, shelf)).transpose()?;
        let timeouts = Timeouts {
            connect: settings.timeouts.connect,
            connect_total: settings.timeouts.connect * 2,
            write: settings.timeouts.write,
            idle: settings.timeouts.upstream_idle,
        };
        Ok(Self {
            id,
            name: upstream.name.clone(),
            peers: upstream.peers.iter().map(|peer| Peer::new(peer, upstream.health.as_ref())).collect(),
            health: upstream.health.clone(),
            host: upstream.host.clone(),
            dialer: Dialer { trust, timeouts, connector },
        })
    }

    /// Whose the material of its trust domain is.
    pub fn owner(&self) -> String {
        owner(&self.name)
    }

    /// Peer `index`, as the log calls it.
    pub fn who(&self, index: usize) -> String {
        format!("{}, peer {}", self.owner(), self.peers[index].name)
    }

    /// A Pingora peer for peer `index`: address, trust domain and time-outs.
    pub async fn target(&self, index: usize) -> Result<HttpPeer, Fault> {
        Ok(self.dialer.target(self.address(index).await?))
    }

    /// A kept-alive connection to peer `index`, if there is one of this thread.
    pub fn pooled(&self, index: usize) -> Option<Stream> {
        self.dialer.pooled(Place::Peer(self.id, index))
    }

    /// Gives a connection back whose answer was read to its end.
    pub fn keep(&self, index: usize, stream: Stream) {
        self.dialer.keep(Place::Peer(self.id, index), stream);
    }

    /// Opens a connection to peer `index` and records how that went.
    pub async fn connect(&self, index: usize) -> Result<Stream, Unreachable> {
        let address = self.address(index).await.map_err(|fault| Unreachable { fault, gone: false })?;
        let peer = &self.peers[index];
        self.dialer.connect(address).await.inspect(|_| peer.reached()).map_err(|error| {
            self.unreached(index, &error);
            Unreachable::from(&*error)
        })
    }

    /// A connection to peer `index` failed: sets it aside.
    pub fn unreached(&self, index: usize, error: &Error) {
        let peer = &self.peers[index];
        let (pause, who) = (peer.failed(), self.who(index));
        log::warn!(about = who; "{who}: connect failed, set aside for {pause:?}: {error}");
    }

    fn has_tls(&self) -> bool {
        self.dialer.trust.is_some()
    }

    /// What a check of peer `index` calls its host: as requests do, else by what its certificate must have, or by its address.
    fn host_of(&self, index: usize) -> String {
        let peer = &self.peers[index];
        let certified = self.dialer.trust.as_ref().map(Trust::server_name);
        match (&self.host, certified.unwrap_or(&peer.host)) {
            (Some(host), _) => host.clone(),
            (None, address) if address.contains(':') => format!("[{address}]:{}", peer.port),
            (None, name) => format!("{name}:{}", peer.port),
        }
    }

    async fn address(&self, index: usize) -> Result<SocketAddr, Fault> {
        let peer = &self.peers[index];
        peer.resolve().await.map_err(|error| {
            let who = self.who(index);
            log::warn!(about = who; "{who}: {} cannot be resolved: {error}", peer.host);
            Fault::NoPeer
        })
    }

    /// Peer for a request without a session: the less loaded of two good ones, leaving out those tried before.
    pub fn choose(&self, tried: &[usize]) -> Option<usize> {
        let untried = self.peers.iter().enumerate().filter(|(index, _)| !tried.contains(index));
        let candidates = untried.map(|(index, peer)| Candidate {
            peer: index,
            standing: peer.standing(),
            load: peer.load(),
            share: peer.health.share(),
        });
        choose(candidates.collect(), peer::random)
    }

    /// Peer for a session that nobody claimed: always the same one, so that an unknown session stays where it is.
    pub fn stable(&self, session_hash: &[u8]) -> usize {
        rendezvous(session_hash, &self.peers)
    }
}

fn owner(upstream: &str) -> String {
    format!("upstream {upstream}")
}

impl Peers for Upstream {
    fn any_is(&self, host: &str, port: u16) -> bool {
        let called = self.host.as_deref().and_then(Authority::parse);
        let https = self.dialer.trust.is_some();
        if called.is_some_and(|called| called.has_host(host) && called.port_of(https) == port) {
            return true;
        }
        let server_name = self.dialer.trust.as_ref().map(Trust::server_name);
        self.peers.iter().filter(|peer| peer.port == port).any(|peer| {
            let address = peer.known_address().map(|address| address.to_string());
            let names = [Some(peer.host.as_str()), address.as_deref(), server_name];
            names.into_iter().flatten().any(|name| is_name_of_peer(host, name))
        })
    }
}
