//! The only builder of Pingora peers, for upstreams and for other members alike, and the connections made through it.
//! Takes addresses, gives streams, new or kept alive. Surprise: a name is never given to Pingora, which would look it up
//! on the worker thread; what comes in here is an address.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pingora_core::connectors::TransportConnector;
use pingora_core::protocols::Stream;
use pingora_core::protocols::l4::ext::TcpKeepalive;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{BError, Error, ErrorType};

use super::pool::{self, Key, Place};
use super::seal;
use super::trust::Trust;
use crate::error::Fault;

/// Nothing waits for a machine that is gone. An event stream may be silent for as long as it likes, and our comments keep its client
/// patient; so only this can tell that nobody is left to end it.
const KEEPALIVE: TcpKeepalive = TcpKeepalive {
    idle: Duration::from_secs(10),
    interval: Duration::from_secs(5),
    count: 3,
    #[cfg(target_os = "linux")]
    user_timeout: Duration::ZERO,
};

/// Connects to one trust domain.
pub struct Dialer {
    pub trust: Option<Trust>,
    pub timeouts: Timeouts,
    pub connector: Arc<TransportConnector>,
}

#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    pub connect: Duration,
    /// Connect and TLS handshake together.
    pub connect_total: Duration,
    pub write: Duration,
    /// Kept-alive connection.
    pub idle: Duration,
}

impl Dialer {
    /// A Pingora peer of this trust domain at `address`.
    pub fn target(&self, address: SocketAddr) -> HttpPeer {
        let mut target = match &self.trust {
            Some(trust) => trust.target(address),
            None => HttpPeer::new(address, false, String::new()),
        };
        target.options.connection_timeout = Some(self.timeouts.connect);
        target.options.total_connection_timeout = Some(self.timeouts.connect_total);
        target.options.write_timeout = Some(self.timeouts.write);
        target.options.idle_timeout = Some(self.timeouts.idle);
        target.options.tcp_keepalive = Some(KEEPALIVE);
        target
    }

    /// In a box, because every request could need one and few do: what connects is larger than all else that a request is.
    pub async fn connect(&self, address: SocketAddr) -> Result<Stream, BError> {
        Box::pin(self.open(address)).await
    }

    async fn open(&self, address: SocketAddr) -> Result<Stream, BError> {
        let target = self.target(address);
        let stream = self.connector.new_stream(&target).await?;
        seal::check(&target, stream.get_ssl_digest().as_deref())?;
        Ok(stream)
    }

    /// A kept-alive connection, if there is one of this thread, and of the trust domain as it is now.
    pub fn pooled(&self, place: Place) -> Option<Stream> {
        pool::take(&Key { place, domain: self.trust.as_ref().map(Trust::fingerprint) })
    }

    /// Gives a connection back whose answer was read to its end.
    pub fn keep(&self, place: Place, stream: Stream) {
        let sealed = seal::domain(stream.get_ssl_digest().as_deref());
        let domain = match &self.trust {
            Some(trust) => match sealed.or_else(|| trust.only_fingerprint()) {
                None => return,
                known => known,
            },
            None => None,
        };
        pool::put(Key { place, domain }, stream, self.timeouts.idle);
    }

    /// Reads the material of the trust domain again.
    pub fn renew(&self) {
        if let Some(trust) = &self.trust {
            trust.renew();
        }
    }
}

/// Why no connection came about. Nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreachable {
    pub fault: Fault,
    /// The address answered that nobody is there: whatever lived behind it is gone.
    pub gone: bool,
}

impl From<&Error> for Unreachable {
    fn from(error: &Error) -> Self {
        let fault = match error.etype() {
            ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => Fault::ConnectTimeout,
            ErrorType::TLSHandshakeFailure | ErrorType::InvalidCert | ErrorType::HandshakeError => {
                Fault::TlsHandshake
            }
            ErrorType::TLSWantX509Lookup => Fault::TlsHandshake,
            _ => Fault::NoPeer,
        };
        Self { fault, gone: *error.etype() == ErrorType::ConnectRefused }
    }
}
