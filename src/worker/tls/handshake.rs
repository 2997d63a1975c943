//! The TLS handshake of one connection: within its time, counted, and if it comes to nothing, told to the log in measure.
//! Takes an accepted stream and what its listener shows and asks for, gives the stream within, which knows who the client is.
//! Surprise: a client that goes away without a word has not failed; load balancers look like that whether somebody listens.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use openssl::asn1::Asn1Time;
use openssl::error::ErrorStack;
use openssl::ssl::{NameType, SslRef, SslVerifyMode};
use pingora_core::listeners::TlsAccept;
use pingora_core::protocols::Stream;
use pingora_core::protocols::l4::stream::Stream as Accepted;
use pingora_core::protocols::tls::SslStream;
use pingora_core::protocols::tls::server::handshake_with_callback;
use tokio::time::timeout;

use super::failure::Failure;
use super::{ServerTls, client};
use crate::account::Counters;

/// A connection that is not going to speak HTTP within TLS.
pub enum NoTls {
    /// It is over, and what there is to say was said.
    Over,
    /// The client speaks plain HTTP.
    Plaintext(Stream),
}

impl ServerTls {
    /// `within`: how long all of it may take.
    pub async fn accept(
        &self,
        stream: Stream,
        within: Duration,
        counters: &Counters,
    ) -> Result<Stream, NoTls> {
        let peer = stream.get_socket_digest().and_then(|digest| digest.peer_addr()?.as_inet().copied());
        let failure = match timeout(within, self.shake(stream)).await {
            Ok(Ok(stream)) => {
                let resumed = if stream.ssl().session_reused() { "yes" } else { "no" };
                counters.tls_handshakes.with_label_values(&[stream.ssl().version_str(), resumed]).inc();
                return Ok(Box::new(stream));
            }
            Ok(Err(End::Silent)) => return Err(NoTls::Over),
            Ok(Err(End::Plaintext(stream))) => {
                self.tell(peer, &Failure::plaintext(), counters);
                return Err(NoTls::Plaintext(stream));
            }
            Ok(Err(End::Failed(failure))) => failure,
            Err(_) => Failure::too_slow(),
        };
        self.tell(peer, &failure, counters);
        Err(NoTls::Over)
    }

    async fn shake(&self, mut stream: Stream) -> Result<SslStream<Accepted>, End> {
        let mut first = [0];
        if stream.try_peek(&mut first).await.is_err() {
            return Err(End::Silent);
        }
        if first[0].is_ascii_uppercase() {
            return Err(End::Plaintext(stream));
        }
        let Ok(stream) = stream.into_any().downcast::<Accepted>() else {
            // Listeners are plain TCP for Pingora, so that this is the only place where TLS begins.
            return Err(End::Failed(Failure::of("the stream is none of TCP", None)));
        };
        let greeter = Greeter { tls: self, verdict: Arc::default() };
        let shaken = handshake_with_callback(&self.acceptor, *stream, &greeter).await;
        let stream = shaken
            .map_err(|error| End::Failed(Failure::of(&error.to_string(), greeter.verdict.get().copied())))?;
        if stream.ssl().session_reused() && has_expired(stream.ssl()) {
            return Err(End::Failed(Failure::expired_since()));
        }
        Ok(stream)
    }

    fn tell(&self, peer: Option<SocketAddr>, failure: &Failure, counters: &Counters) {
        counters.tls_failures.with_label_values(&[failure.reason]).inc();
        let peer = peer.map_or_else(|| "an unknown address".to_owned(), |peer| peer.to_string());
        let (by, Failure { reason, sentence }) = (&*self.by, failure);
        log::warn!(about = by; "{by}: no TLS handshake with {peer}: {reason}: {sentence}");
    }
}

/// How a handshake ended otherwise.
enum End {
    Silent,
    Plaintext(Stream),
    Failed(Failure),
}

/// A resumed session is not verified anew, and each one can be resumed for as long as the next.
fn has_expired(tls: &SslRef) -> bool {
    let Some(certificate) = tls.peer_certificate() else { return false };
    // Without a clock nothing could be told of a certificate.
    Asn1Time::days_from_now(0).is_ok_and(|now| certificate.not_after() < now)
}

/// What one handshake asks of us.
struct Greeter<'t> {
    tls: &'t ServerTls,
    /// What OpenSSL has against the client's certificate.
    verdict: Arc<OnceLock<&'static str>>,
}

impl Greeter<'_> {
    fn choose(&self, tls: &mut SslRef) -> Result<(), ErrorStack> {
        let context = tls.servername(NameType::HOST_NAME).and_then(|name| self.tls.by_name.get(name));
        if let Some(context) = context {
            tls.set_ssl_context(context)?;
        }
        Ok(())
    }
}

#[async_trait]
impl TlsAccept for Greeter<'_> {
    async fn certificate_callback(&self, tls: &mut SslRef) {
        // If it cannot be done, the client is shown the default certificate.
        let _ = self.choose(tls);
        let mode = tls.verify_mode();
        if mode.contains(SslVerifyMode::PEER) {
            let verdict = self.verdict.clone();
            tls.set_verify_callback(mode, move |good, chain| {
                if !good {
                    // The first objection is the deepest one in the chain.
                    let _ = verdict.set(chain.error().error_string());
                }
                good
            });
        }
    }

    async fn handshake_complete_callback(&self, tls: &SslRef) -> Option<Arc<dyn Any + Send + Sync>> {
        if !self.tls.names_clients {
            return None;
        }
        let client = client::of(&*tls.peer_certificate()?).ok()?;
        // Who asks for it gets a reference, and keeps what stands behind it.
        Some(Arc::new(Arc::new(client)))
    }
}
