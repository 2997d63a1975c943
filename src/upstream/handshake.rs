//! A TLS handshake of our own, for client keys that Pingora's connector does not sign with: its list of algorithms has no EdDSA.
//! Takes the material of a trust domain, connects in Pingora's place. Surprise: to Pingora this is a plaintext connection over a socket of
//! our making, one without a file descriptor, so its pool never gives it out again; only the exchange's own does.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_trait::async_trait;
use openssl::error::ErrorStack;
use openssl::pkey::Id;
use openssl::ssl::{SslConnector, SslMethod, SslVersion};
use openssl::x509::X509VerifyResult;
use pingora_core::connectors::L4Connect;
use pingora_core::protocols::l4::ext::set_tcp_keepalive;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora_core::{BError, Error, ErrorType, Result};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use super::seal::Demands;
use crate::config::settings::{UpstreamTls, Verify};
use crate::material::{Authorities, Identity};

/// Connects to one trust domain.
pub struct Handshake {
    connector: SslConnector,
    name: String,
    verify: Verify,
    demands: Demands,
}

/// Whether Pingora's connector cannot show this identity.
pub fn is_needed(identity: &Identity) -> bool {
    matches!(identity.key().id(), Id::ED25519 | Id::ED448)
}

impl Handshake {
    pub fn new(
        tls: &UpstreamTls,
        ca: Option<&Authorities>,
        identity: &Identity,
        demands: Demands,
    ) -> Result<Self, ErrorStack> {
        let mut connector = SslConnector::builder(SslMethod::tls_client())?;
        connector.set_min_proto_version(Some(SslVersion::TLS1_2))?;
        if let Some(ca) = ca {
            connector.set_cert_store(ca.store()?);
        }
        identity.install(&mut connector)?;
        Ok(Self { connector: connector.build(), name: tls.server_name.clone(), verify: tls.verify, demands })
    }

    async fn handshake(&self, tcp: TcpStream) -> Result<SslStream<TcpStream>> {
        let failed = |error: ErrorStack| Error::because(ErrorType::TLSHandshakeFailure, "TLS", error);
        let configured = self.connector.configure().map_err(failed)?;
        let configured = configured.verify_hostname(self.verify == Verify::Full);
        let ssl = configured.into_ssl(&self.name).map_err(failed)?;
        let mut tls = SslStream::new(ssl, tcp).map_err(failed)?;
        if let Err(error) = Pin::new(&mut tls).connect().await {
            let kind = match tls.ssl().verify_result() {
                X509VerifyResult::OK => ErrorType::TLSHandshakeFailure,
                _ => ErrorType::InvalidCert,
            };
            return Error::e_because(kind, format!("TLS connect() failed: {error}"), error);
        }
        match self.demands.refusal(tls.ssl()) {
            Some(reason) => Error::e_explain(ErrorType::InvalidCert, reason),
            None => Ok(tls),
        }
    }
}

#[async_trait]
impl L4Connect for Handshake {
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        let Some(address) = address.as_inet() else {
            return Error::e_explain(ErrorType::ConnectNoRoute, "not an IP address");
        };
        let tcp = TcpStream::connect(address).await.map_err(|error| unreached(error, address))?;
        let tls = self.handshake(tcp).await?;
        Ok(Stream::from(VirtualSocketStream::new(Box::new(Socket(tls)))))
    }
}

fn unreached(error: io::Error, address: &std::net::SocketAddr) -> BError {
    let kind = match error.kind() {
        io::ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
        io::ErrorKind::TimedOut => ErrorType::ConnectTimedout,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => ErrorType::ConnectNoRoute,
        _ => ErrorType::ConnectError,
    };
    Error::because(kind, format!("Fail to connect to {address}"), error)
}

impl fmt::Debug for Handshake {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Handshake").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What Pingora takes for a socket.
#[derive(Debug)]
struct Socket(SslStream<TcpStream>);

impl VirtualSocket for Socket {
    fn set_socket_option(&self, option: VirtualSockOpt) -> io::Result<()> {
        match option {
            VirtualSockOpt::NoDelay => self.0.get_ref().set_nodelay(true),
            VirtualSockOpt::KeepAlive(keepalive) => {
                set_tcp_keepalive(self.0.get_ref(), &keepalive).map_err(io::Error::other)
            }
            // None else is asked for: see `Dialer::target`.
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
