//! What the measurements compare with: Pingora's own pass-through, with stock settings, one thread and the system's allocator.
//! Takes `ADDRESS UPSTREAM [CERT KEY | --mtls CERT KEY]` (towards clients, or towards the upstream) and serves until it is killed. The surprise is what is not here: one callback
//! is all that Pingora asks for, so every cost in its row of the table is Pingora's own.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use async_trait::async_trait;
use openssl::pkey::PKey;
use openssl::x509::X509;
use pingora_core::server::Server;
use pingora_core::server::configuration::Opt;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::utils::tls::CertKey;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

struct PassThrough {
    upstream: SocketAddr,
    /// What both show each other; it is its own authority.
    mtls: Option<Arc<CertKey>>,
}

#[async_trait]
impl ProxyHttp for PassThrough {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> pingora_core::Result<Box<HttpPeer>> {
        let Some(identity) = &self.mtls else {
            return Ok(Box::new(HttpPeer::new(self.upstream, false, String::new())));
        };
        let mut peer = HttpPeer::new_mtls(self.upstream, "outrigger".to_owned(), identity.clone());
        peer.options.ca = Some(Arc::new(Box::new([identity.leaf().clone()])));
        Ok(Box::new(peer))
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match serve(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bare: {error}; usage: bare ADDRESS UPSTREAM [CERT KEY | --mtls CERT KEY]");
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let [address, upstream, rest @ ..] = arguments else { return Err("too few arguments".into()) };
    let (tls, mtls) = match rest {
        [flag, cert, key] if flag == "--mtls" => (&[][..], Some(Arc::new(identity(cert, key)?))),
        tls => (tls, None),
    };
    let pass_through = PassThrough { upstream: upstream.parse()?, mtls };
    let mut server = Server::new(None::<Opt>)?;
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, pass_through);
    match tls {
        [] => service.add_tcp(address),
        [cert, key] => service.add_tls(address, cert, key)?,
        _ => return Err("a certificate needs its key, and nothing follows them".into()),
    }
    server.add_service(service);
    server.run_forever()
}

fn identity(cert: &str, key: &str) -> Result<CertKey, Box<dyn std::error::Error>> {
    let certificate = X509::from_pem(&std::fs::read(cert)?)?;
    let key = PKey::private_key_from_pem(&std::fs::read(key)?)?;
    Ok(CertKey::new(vec![certificate], key))
}
