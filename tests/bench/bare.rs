//! What the measurements compare with: Pingora's own pass-through, with stock settings, one thread and the system's allocator.
//! Takes `ADDRESS UPSTREAM [CERT KEY]` and serves until it is killed. The surprise is what is not here: one callback
//! is all that Pingora asks for, so every cost in its row of the table is Pingora's own.

use std::net::SocketAddr;
use std::process::ExitCode;

use async_trait::async_trait;
use pingora_core::server::Server;
use pingora_core::server::configuration::Opt;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

struct PassThrough(SocketAddr);

#[async_trait]
impl ProxyHttp for PassThrough {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> pingora_core::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.0, false, String::new())))
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match serve(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bare: {error}; usage: bare ADDRESS UPSTREAM [CERT KEY]");
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let [address, upstream, tls @ ..] = arguments else { return Err("too few arguments".into()) };
    let mut server = Server::new(None::<Opt>)?;
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, PassThrough(upstream.parse()?));
    match tls {
        [] => service.add_tcp(address),
        [cert, key] => service.add_tls(address, cert, key)?,
        _ => return Err("a certificate needs its key, and nothing follows them".into()),
    }
    server.add_service(service);
    server.run_forever()
}
