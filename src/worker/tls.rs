//! What a listener shows and asks for in the TLS handshake.
//! Takes the checked paths of the settings, gives Pingora's listener settings. Surprise: the name in a member's certificate is
//! checked both ways, because the CA may have signed others who are no members.

use openssl::ssl::{SslVerifyMode, SslVersion};
use pingora_core::listeners::tls::TlsSettings;

use crate::config::settings::{Listener, ListenerTls, MemberTls};

/// Between members nobody is old.
const MEMBERS_SPEAK: SslVersion = SslVersion::TLS1_3;

/// HTTP/1.1 and HTTP/2 for clients.
///
/// # Errors
/// For the log, naming listener and files.
pub fn of_listener(listener: &Listener, tls: &ListenerTls) -> Result<TlsSettings, String> {
    let (cert, key) = (tls.cert.to_string_lossy(), tls.key.to_string_lossy());
    let mut settings = TlsSettings::intermediate(&cert, &key)
        .map_err(|error| format!("listener {}: {cert}, {key}: {error}", listener.name))?;
    settings.enable_h2();
    Ok(settings)
}

/// HTTP/1.1 for members, who show a certificate of their own.
///
/// # Errors
/// For the log, naming the files.
pub fn of_members(tls: &MemberTls) -> Result<TlsSettings, String> {
    let (cert, key) = (tls.cert.to_string_lossy(), tls.key.to_string_lossy());
    let mut settings =
        TlsSettings::intermediate(&cert, &key).map_err(|error| format!("member: {cert}, {key}: {error}"))?;
    let mut demand = || {
        settings.set_min_proto_version(Some(MEMBERS_SPEAK))?;
        settings.set_ca_file(&tls.ca)?;
        settings.verify_param_mut().set_host(&tls.server_name)?;
        settings.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        settings.set_session_id_context(b"outrigger member")
    };
    demand().map_err(|error| format!("member: {}: {error}", tls.ca.display()))?;
    Ok(settings)
}
