//! Who may see what: probes and metrics may leave this machine (where `admin.public` lets the listener), everything else may not.
//! PURE: where a connection comes from, the host and the method that it names; yes, or the refusal.
//! Surprise: being on loopback is not enough. A browser on this machine can be led here by a name that somebody else's DNS points at us
//! (DNS rebinding), so what tells more than a probe answers only to the names of this machine.

use http::{Method, StatusCode};

use crate::routing::allowed::{Allowed, Host};

/// What may be read from outside.
const PUBLIC: [&str; 4] = ["/livez", "/readyz", "/startupz", "/metrics"];

pub struct Access {
    hosts: Allowed,
}

/// The request, as far as it counts here.
pub struct Asked<'r> {
    pub method: &'r Method,
    pub path: &'r str,
    /// As the `Host` fields write them.
    pub hosts: &'r [&'r str],
    /// Whether both ends of the connection are loopback addresses.
    pub loopback: bool,
}

impl Default for Access {
    fn default() -> Self {
        Self { hosts: Allowed { hosts: vec![Host::Loopback], origins: Vec::new() } }
    }
}

impl Access {
    /// # Errors
    /// Status and sentence for whoever asked.
    pub fn check(&self, asked: &Asked<'_>) -> Result<(), (StatusCode, &'static str)> {
        if !PUBLIC.contains(&asked.path) {
            if !asked.loopback {
                return Err((
                    StatusCode::FORBIDDEN,
                    "only /livez, /readyz, /startupz and /metrics are served beyond loopback\n",
                ));
            }
            // Only what is no browser leaves it out.
            if !asked.hosts.iter().all(|host| self.hosts.takes_host(Some(host), host)) {
                return Err((
                    StatusCode::FORBIDDEN,
                    "call this listener localhost, or by its loopback address\n",
                ));
            }
        }
        match (asked.method, asked.path) {
            (&Method::GET | &Method::HEAD, _) | (&Method::PUT, "/log-level") => Ok(()),
            _ => Err((StatusCode::METHOD_NOT_ALLOWED, "GET, or PUT /log-level\n")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(method: &Method, path: &str, hosts: &[&str], loopback: bool) -> u16 {
        let asked = Asked { method, path, hosts, loopback };
        Access::default().check(&asked).map_or_else(|(status, _)| status.as_u16(), |()| 200)
    }

    #[test]
    fn probes_and_metrics_are_for_everybody_and_the_rest_for_this_machine() {
        for (path, hosts, loopback, expected) in [
            ("/metrics", ["10.0.0.1:9901"], false, 200),
            ("/livez", ["evil.example"], true, 200),
            ("/status", ["localhost:9901"], true, 200),
            ("/", ["[::1]:9901"], true, 200),
            ("/", ["127.0.0.1"], true, 200),
            ("/status", ["evil.example"], true, 403),
            ("/status", ["localhost:9901"], false, 403),
            ("/metrics/", ["localhost"], false, 403),
        ] {
            assert_eq!(status(&Method::GET, path, &hosts, loopback), expected, "{path} {hosts:?} {loopback}");
        }
        assert_eq!(status(&Method::GET, "/status", &[], true), 200, "no browser leaves it out");
        assert_eq!(status(&Method::GET, "/status", &["localhost", "evil.example"], true), 403);
    }

    #[test]
    fn only_the_log_level_can_be_changed() {
        for (method, path, expected) in [
            (Method::HEAD, "/metrics", 200),
            (Method::PUT, "/log-level", 200),
            (Method::PUT, "/metrics", 405),
            (Method::POST, "/log-level", 405),
            (Method::OPTIONS, "/log-level", 405),
        ] {
            assert_eq!(status(&method, path, &["localhost"], true), expected, "{method} {path}");
        }
        assert_eq!(status(&Method::PUT, "/log-level", &["localhost"], false), 403);
    }
}
