//! What one listener shows in the handshake and asks for, as OpenSSL is told.
//! Takes checked settings and material, gives a [`ServerTls`]. Surprise: several certificates are several contexts that differ in nothing
//! else, because OpenSSL keeps all else that a handshake needs in the first one and only the certificate in the one that is chosen.

use openssl::error::ErrorStack;
use openssl::sha::sha256;
use openssl::ssl::{
    AlpnError, SslAcceptor, SslAcceptorBuilder, SslContext, SslMethod, SslOptions, SslSessionCacheMode,
    SslVerifyMode, SslVersion, select_next_proto,
};

use super::names::ByName;
use crate::config::settings::{ListenerTls, MemberTls, TlsVersion};
use crate::material::{Authorities, Identity, Shelf};

/// ALPN, the best first.
const H2_OR_HTTP1: &[u8] = b"\x02h2\x08http/1.1";

/// The TLS of one listener.
pub struct ServerTls {
    /// Which listener it is, in the log.
    pub(super) by: String,
    /// With the certificate for clients that ask for no name, or for one that no certificate has.
    pub(super) acceptor: SslAcceptor,
    pub(super) by_name: ByName<SslContext>,
    /// Whether a client's certificate says who it is; a member's says only that it is one.
    pub(super) names_clients: bool,
}

impl ServerTls {
    /// HTTP/1.1 and HTTP/2 for clients.
    ///
    /// # Errors
    /// For the log, naming listener and file.
    pub fn of_listener(name: &str, tls: &ListenerTls, shelf: &mut Shelf) -> Result<Self, String> {
        let by = format!("listener {name}");
        let clients = tls.clients.as_ref().map(|clients| shelf.authorities(&by, &clients.ca)).transpose()?;
        let build = |identity: &Identity| {
            let mut context = recommended(identity)?;
            context.set_alpn_select_callback(|_, offered| {
                // A client that speaks neither may still mean HTTP/1.1.
                select_next_proto(H2_OR_HTTP1, offered).ok_or(AlpnError::NOACK)
            });
            context.set_min_proto_version(Some(match tls.min_version {
                TlsVersion::V1_2 => SslVersion::TLS1_2,
                TlsVersion::V1_3 => SslVersion::TLS1_3,
            }))?;
            if let (Some(authorities), Some(clients)) = (&clients, &tls.clients) {
                ask_for_certificate(&mut context, authorities, clients.required)?;
            }
            // A session of another listener, with other CAs, is none of ours.
            context.set_session_id_context(&sha256(by.as_bytes()))?;
            if !tls.session_tickets {
                context.set_options(SslOptions::NO_TICKET);
                context.set_num_tickets(0)?;
            }
            Ok(context.build())
        };
        let mut made = Vec::new();
        for files in &tls.certificates {
            let identity = shelf.identity(&by, files)?;
            let acceptor = build(&identity)
                .map_err(|error: ErrorStack| format!("{by}: {}: {error}", files.cert.display()))?;
            made.push((identity.dns_names(), acceptor));
        }
        let (_, first) = made.first().ok_or_else(|| format!("{by}: no certificate"))?;
        Ok(Self {
            acceptor: first.clone(),
            by_name: ByName::new(made.iter().map(|(names, one)| (names.clone(), one.context().to_owned()))),
            names_clients: clients.is_some(),
            by,
        })
    }

    /// HTTP/1.1 for members, of whom nobody is old. The CA may have signed others who are none, so the name is checked as well.
    ///
    /// # Errors
    /// For the log, naming the file.
    pub fn of_members(tls: &MemberTls, shelf: &mut Shelf) -> Result<Self, String> {
        let by = "member listener".to_owned();
        let identity = shelf.identity("member", &tls.identity)?;
        let authorities = shelf.authorities("member", &tls.ca)?;
        let build = || {
            let mut context = recommended(&identity)?;
            context.set_min_proto_version(Some(SslVersion::TLS1_3))?;
            ask_for_certificate(&mut context, &authorities, true)?;
            context.verify_param_mut().set_host(&tls.server_name)?;
            context.set_session_id_context(b"outrigger member")?;
            Ok(context.build())
        };
        Ok(Self {
            acceptor: build().map_err(|error: ErrorStack| format!("{by}: {error}"))?,
            by_name: ByName::new([]),
            names_clients: false,
            by,
        })
    }
}

/// As Mozilla recommends it ("intermediate"), with sessions that are kept by nobody but the client.
fn recommended(identity: &Identity) -> Result<SslAcceptorBuilder, ErrorStack> {
    let mut context = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls())?;
    identity.install(&mut context)?;
    context.set_options(SslOptions::NO_RENEGOTIATION);
    context.set_session_cache_mode(SslSessionCacheMode::OFF);
    Ok(context)
}

fn ask_for_certificate(
    context: &mut SslAcceptorBuilder,
    authorities: &Authorities,
    required: bool,
) -> Result<(), ErrorStack> {
    // Not the store from which our own chain would be completed.
    context.set_verify_cert_store(authorities.store()?)?;
    for authority in authorities.certificates() {
        // A client with several certificates chooses by these names.
        context.add_client_ca(authority)?;
    }
    let demand = if required { SslVerifyMode::FAIL_IF_NO_PEER_CERT } else { SslVerifyMode::empty() };
    context.set_verify(SslVerifyMode::PEER | demand);
    Ok(())
}
