//! TLS towards whoever connects to us: what each listener shows and asks for (`server`), and the handshake (`handshake`).
//! Takes the checked settings and the shelf, gives the [`Doors`] of a generation, which all its threads share.
//! Surprise: sharing is not for memory's sake. Each has the keys of its session tickets, and a session that began on one thread is
//! to be resumed on any.

mod client;
mod failure;
mod handshake;
mod names;
mod server;

use std::sync::Arc;

use crate::config::settings::{RegistryKind, Settings};
use crate::material::{Identity, Shelf};
pub use handshake::NoTls;
pub use server::ServerTls;

/// The TLS of all listeners.
pub struct Doors {
    /// By position in the settings; `None` = plaintext.
    pub listeners: Vec<Option<Arc<ServerTls>>>,
    /// Of the member listener.
    pub member: Option<Arc<ServerTls>>,
    member_identity: Option<Arc<Identity>>,
}

impl Doors {
    /// # Errors
    /// For the log, naming listener and file.
    pub fn open(settings: &Settings, shelf: &mut Shelf) -> Result<Self, String> {
        let listeners = settings.listeners.iter().map(|listener| {
            let Some(tls) = &listener.tls else { return Ok(None) };
            ServerTls::of_listener(&listener.name, tls, shelf).map(|made| Some(Arc::new(made)))
        });
        let listeners = listeners.collect::<Result<_, String>>()?;
        let member = settings.member.as_ref().and_then(|member| member.tls.as_ref());
        let member_identity = member.map(|tls| shelf.identity("member", &tls.identity)).transpose()?;
        let member = member.map(|tls| ServerTls::of_members(tls, shelf)).transpose()?.map(Arc::new);
        Ok(Self { listeners, member, member_identity })
    }

    /// What members show each other; for who knocks at our own door.
    pub fn member_identity(&self) -> Option<&Identity> {
        self.member_identity.as_deref()
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
