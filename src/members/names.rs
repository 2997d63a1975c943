//! Members' addresses by DNS, looked up off the worker's thread and believed for a few seconds.
//! Takes HOST:PORT, gives a socket address, or `None` where DNS is sure that there is no such name.
//! Surprise: that certainty has no error kind in Rust, so it is read from the C library's words.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a name's address is believed.
const BELIEVED: Duration = Duration::from_secs(2);
/// `EAI_NONAME` and `EAI_NODATA` in glibc's and in musl's words.
const NO_SUCH_NAME: [&str; 4] = [
    "Name or service not known",
    "No address associated with hostname",
    "Name does not resolve",
    "Name has no usable address",
];

#[derive(Default)]
pub struct Names(Mutex<HashMap<String, (Instant, SocketAddr)>>);

impl Names {
    /// # Errors
    /// For the log: DNS could not say.
    pub async fn resolve(&self, address: &str) -> Result<Option<SocketAddr>, String> {
        if let Ok(literal) = address.parse() {
            return Ok(Some(literal));
        }
        if let Some((since, found)) = self.held().get(address)
            && since.elapsed() < BELIEVED
        {
            return Ok(Some(*found));
        }
        match tokio::net::lookup_host(address).await {
            Ok(mut found) => {
                let found = found.next();
                if let Some(found) = found {
                    self.held().insert(address.to_owned(), (Instant::now(), found));
                }
                Ok(found)
            }
            Err(error) if is_no_such_name(&error.to_string()) => Ok(None),
            Err(error) => Err(format!("{address} cannot be looked up: {error}")),
        }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, HashMap<String, (Instant, SocketAddr)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_no_such_name(error: &str) -> bool {
    NO_SUCH_NAME.iter().any(|words| error.contains(words))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn resolve(address: &str) -> Result<Option<SocketAddr>, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(Names::default().resolve(address))
    }

    #[test]
    fn literals_need_no_dns() {
        assert_eq!(resolve("192.0.2.1:80"), Ok(Some("192.0.2.1:80".parse().unwrap())));
        assert_eq!(resolve("[2001:db8::1]:80"), Ok(Some("[2001:db8::1]:80".parse().unwrap())));
        assert_eq!(resolve("localhost:80").unwrap().unwrap().port(), 80);
    }

    #[test]
    fn no_such_name_is_told_from_no_answer() {
        for sure in NO_SUCH_NAME {
            assert!(is_no_such_name(&format!("failed to lookup address information: {sure}")));
        }
        assert!(!is_no_such_name(
            "failed to lookup address information: Temporary failure in name resolution"
        ));
        assert!(!is_no_such_name("failed to lookup address information: Try again"));
    }
}
