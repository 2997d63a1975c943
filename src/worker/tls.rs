//! What a listener shows and asks for in the TLS handshake.
//! Takes the checked settings and the shelf, gives Pingora's listener settings, anew for each socket. Surprise: the name in a member's certificate
//! is checked both ways, because the CA may have signed others who are no members.

use std::sync::Arc;

use openssl::error::ErrorStack;
use openssl::ssl::{SslAcceptor, SslAcceptorBuilder, SslMethod, SslVerifyMode, SslVersion};
use pingora_core::listeners::tls::TlsSettings;

use crate::config::settings::{RegistryKind, Settings};
use crate::material::{Authorities, Identity, Shelf};

/// Between members nobody is old.
const MEMBERS_SPEAK: SslVersion = SslVersion::TLS1_3;

/// The material of all listeners, read once for all threads.
pub struct Doors {
    /// By position in the settings; `None` = plaintext.
    listeners: Vec<Option<Client>>,
    member: Option<Member>,
}

/// Towards clients.
struct Client {
    by: String,
    identity: Arc<Identity>,
}

/// Towards other members.
struct Member {
    identity: Arc<Identity>,
    authorities: Arc<Authorities>,
    server_name: String,
}

impl Doors {
    /// # Errors
    /// For the log, naming listener and file.
    pub fn open(settings: &Settings, shelf: &mut Shelf) -> Result<Self, String> {
        let listeners = settings.listeners.iter().map(|listener| {
            let Some(tls) = &listener.tls else { return Ok(None) };
            let by = format!("listener {}", listener.name);
            let identity = shelf.identity(&by, &tls.identity)?;
            Ok(Some(Client { by, identity }))
        });
        let listeners = listeners.collect::<Result<_, String>>()?;
        let member = match settings.member.as_ref().and_then(|member| member.tls.as_ref()) {
            None => None,
            Some(tls) => Some(Member {
                identity: shelf.identity("member", &tls.identity)?,
                authorities: shelf.authorities("member", &tls.ca)?,
                server_name: tls.server_name.clone(),
            }),
        };
        Ok(Self { listeners, member })
    }

    /// HTTP/1.1 and HTTP/2 for clients. `None` = plaintext.
    ///
    /// # Errors
    /// For the log, naming the listener.
    pub fn listener(&self, index: usize) -> Result<Option<TlsSettings>, String> {
        let Some(Client { by, identity }) = &self.listeners[index] else { return Ok(None) };
        let mut settings =
            acceptor(identity).map(TlsSettings::from).map_err(|error| format!("{by}: {error}"))?;
        settings.enable_h2();
        Ok(Some(settings))
    }

    /// HTTP/1.1 for members, who show a certificate of their own. `None` = plaintext.
    ///
    /// # Errors
    /// For the log.
    pub fn member(&self) -> Result<Option<TlsSettings>, String> {
        let Some(Member { identity, authorities, server_name }) = &self.member else { return Ok(None) };
        let demand = || {
            let mut acceptor = acceptor(identity)?;
            acceptor.set_min_proto_version(Some(MEMBERS_SPEAK))?;
            acceptor.set_cert_store(authorities.store()?);
            acceptor.verify_param_mut().set_host(server_name)?;
            acceptor.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
            acceptor.set_session_id_context(b"outrigger member")?;
            Ok(Some(TlsSettings::from(acceptor)))
        };
        demand().map_err(|error: ErrorStack| format!("member: {error}"))
    }

    /// What members show each other; for who knocks at our own door.
    pub fn member_identity(&self) -> Option<&Identity> {
        self.member.as_ref().map(|member| &*member.identity)
    }
}

/// Puts on the list what connections to Redis rest on; each of them reads the files for itself.
///
/// # Errors
/// For the log, naming the file.
pub fn note_redis(settings: &Settings, shelf: &mut Shelf) -> Result<(), String> {
    if let RegistryKind::Redis(redis) = &settings.sessions.registry {
        redis.tls.ca.as_ref().map(|file| shelf.authorities("redis", file)).transpose()?;
        redis.tls.identity.as_ref().map(|files| shelf.identity("redis", files)).transpose()?;
    }
    Ok(())
}

/// As Mozilla recommends it ("intermediate").
fn acceptor(identity: &Identity) -> Result<SslAcceptorBuilder, ErrorStack> {
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls())?;
    identity.install(&mut acceptor)?;
    Ok(acceptor)
}
