//! TLS to Redis, over the OpenSSL that everything else of Outrigger uses.
//! Takes the checked paths and a TCP stream, gives an encrypted one. The files are read for every connection, so that they may be rotated.
//! Surprise: with TLS 1.3 a server that wants another client certificate says so after the handshake, when the first answer is read.

use std::pin::Pin;

use openssl::error::ErrorStack;
use openssl::ssl::{SslConnector, SslMethod, SslVersion};
use openssl::x509::X509VerifyResult;
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use crate::config::settings::RedisTls;
use crate::material::{Authorities, Identity};

/// # Errors
/// The reason, for the log: the file that cannot be used, or why the server is not trusted.
pub async fn handshake(tls: &RedisTls, host: &str, tcp: TcpStream) -> Result<SslStream<TcpStream>, String> {
    let ssl = connector(tls)?.configure().and_then(|configured| configured.into_ssl(host));
    let mut stream =
        ssl.and_then(|ssl| SslStream::new(ssl, tcp)).map_err(|error| format!("TLS for {host}: {error}"))?;
    match Pin::new(&mut stream).connect().await {
        Ok(()) => Ok(stream),
        Err(error) => Err(match stream.ssl().verify_result() {
            X509VerifyResult::OK => format!("TLS handshake: {error}"),
            untrusted => {
                format!("TLS handshake: its certificate is not trusted: {}", untrusted.error_string())
            }
        }),
    }
}

fn connector(tls: &RedisTls) -> Result<SslConnector, String> {
    let library = |error: ErrorStack| format!("TLS: {error}");
    let mut connector = SslConnector::builder(SslMethod::tls_client()).map_err(library)?;
    connector.set_min_proto_version(Some(SslVersion::TLS1_2)).map_err(library)?;
    if let Some(ca) = &tls.ca {
        // In place of the system's: who names a CA means no other.
        connector.set_cert_store(Authorities::read(ca)?.store().map_err(library)?);
    }
    if let Some(files) = &tls.identity {
        Identity::read(files)?.install(&mut connector).map_err(library)?;
    }
    Ok(connector.build())
}
