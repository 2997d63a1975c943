//! Upstreams and their peers: trust (`trust`), addresses, load and passive health (`peer`), and kept-alive connections (`pool`).
//! Takes the checked settings, gives connections. [`Upstream::target`] is the only function that builds a Pingora peer.
//! Surprise: the pool is per thread, because every worker thread is a runtime of its own and a socket is best used where it was opened.

pub mod peer;
pub mod pool;
pub mod trust;

use std::sync::Arc;
use std::time::Duration;

use pingora_core::connectors::TransportConnector;
use pingora_core::protocols::Stream;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType};

use crate::config::settings::{self, Settings, UpstreamId};
use crate::error::Fault;
use crate::routing::balance::{least_loaded_of_two, rendezvous};
use peer::Peer;
use trust::Trust;

/// All upstreams of the configuration, by [`UpstreamId`].
pub struct Upstreams(Vec<Upstream>);

impl Upstreams {
    /// Reads all trust material. The error names file and reason, for the log.
    pub fn open(settings: &Settings) -> Result<Self, String> {
        let connector = Arc::new(TransportConnector::new(None));
        let upstreams = settings
            .upstreams
            .iter()
            .enumerate()
            .map(|(id, upstream)| Upstream::open(UpstreamId(id), upstream, settings, connector.clone()));
        Ok(Self(upstreams.collect::<Result<_, _>>()?))
    }

    pub fn get(&self, id: UpstreamId) -> &Upstream {
        &self.0[id.0]
    }

    pub fn iter(&self) -> impl Iterator<Item = &Upstream> {
        self.0.iter()
    }
}

/// An MCP service that we front.
pub struct Upstream {
    pub id: UpstreamId,
    pub name: String,
    pub peers: Vec<Peer>,
    trust: Option<Trust>,
    connect_timeout: Duration,
    write_timeout: Duration,
    pool_idle: Duration,
    connector: Arc<TransportConnector>,
}

impl Upstream {
    fn open(
        id: UpstreamId,
        upstream: &settings::Upstream,
        settings: &Settings,
        connector: Arc<TransportConnector>,
    ) -> Result<Self, String> {
        let trust = upstream.tls.as_ref().map(Trust::load).transpose()?;
        Ok(Self {
            id,
            name: upstream.name.clone(),
            peers: upstream.peers.iter().map(Peer::new).collect(),
            trust,
            connect_timeout: settings.timeouts.connect,
            write_timeout: settings.timeouts.write,
            pool_idle: settings.timeouts.upstream_idle,
            connector,
        })
    }

    /// The only builder of peers: address, trust domain and time-outs of peer `index`.
    pub async fn target(&self, index: usize) -> Result<HttpPeer, Fault> {
        let peer = &self.peers[index];
        let address = peer.resolve().await.map_err(|error| {
            log::warn!(
                "upstream {}, peer {}: {} cannot be resolved: {error}",
                self.name,
                peer.name,
                peer.host
            );
            Fault::NoPeer
        })?;
        let mut target = match &self.trust {
            Some(trust) => trust.target(address),
            None => HttpPeer::new(address, false, String::new()),
        };
        target.options.connection_timeout = Some(self.connect_timeout);
        target.options.total_connection_timeout = Some(self.connect_timeout * 2);
        target.options.write_timeout = Some(self.write_timeout);
        target.options.idle_timeout = Some(self.pool_idle);
        Ok(target)
    }

    /// A kept-alive connection to peer `index`, if there is one of this thread.
    pub fn pooled(&self, index: usize) -> Option<Stream> {
        pool::take((self.id, index), self.pool_idle)
    }

    /// Gives a connection back whose answer was read to its end.
    pub fn keep(&self, index: usize, stream: Stream) {
        pool::put((self.id, index), stream, self.pool_idle);
    }

    /// Opens a connection to peer `index` and records how that went.
    pub async fn connect(&self, index: usize) -> Result<Stream, Unreachable> {
        let peer = &self.peers[index];
        let target = self.target(index).await.map_err(|fault| Unreachable { fault, gone: false })?;
        match self.connector.new_stream(&target).await {
            Ok(stream) => {
                peer.reached();
                Ok(stream)
            }
            Err(error) => {
                let ejected = peer.failed();
                log::warn!(
                    "upstream {}, peer {}: connect failed, set aside for {ejected:?}: {error}",
                    self.name,
                    peer.name
                );
                Err(Unreachable::from_pingora(&error))
            }
        }
    }

    /// Peer for a request without a session: the less loaded of two healthy ones, leaving out those tried before.
    pub fn choose(&self, tried: &[usize]) -> Option<usize> {
        let untried = |index: &usize| !tried.contains(index);
        let mut open: Vec<usize> =
            (0..self.peers.len()).filter(untried).filter(|index| self.peers[*index].healthy()).collect();
        if open.is_empty() {
            // All set aside: trying one beats failing at once.
            open = (0..self.peers.len()).filter(untried).collect();
        }
        let loads: Vec<usize> = open.iter().map(|index| self.peers[*index].load()).collect();
        least_loaded_of_two(&loads, peer::random()).map(|position| open[position])
    }

    /// Peer for a session that nobody claimed: always the same one, so that an unknown session stays where it is.
    pub fn stable(&self, session_hash: &[u8]) -> usize {
        rendezvous(session_hash, &self.peers)
    }
}

/// Why no connection came about. Nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreachable {
    pub fault: Fault,
    /// The address answered that nobody is there: whatever lived behind it is gone.
    pub gone: bool,
}

impl Unreachable {
    fn from_pingora(error: &Error) -> Self {
        match error.etype() {
            ErrorType::ConnectRefused => Self { fault: Fault::NoPeer, gone: true },
            ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => {
                Self { fault: Fault::ConnectTimeout, gone: false }
            }
            ErrorType::TLSHandshakeFailure | ErrorType::InvalidCert | ErrorType::HandshakeError => {
                Self { fault: Fault::TlsHandshake, gone: false }
            }
            ErrorType::TLSWantX509Lookup => Self { fault: Fault::TlsHandshake, gone: false },
            _ => Self { fault: Fault::NoPeer, gone: false },
        }
    }
}
