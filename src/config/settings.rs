//! What the rest of Outrigger sees of the configuration: values that cannot be wrong.
//! `check` makes them from the YAML's shape (`file`); nothing here knows serde, and nothing downstream validates again.
//! Surprise: an upstream or a peer is named by its position, so that a request carries two small numbers and no strings.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use log::LevelFilter;

use crate::routing::route::Routes;

/// Everything `outrigger run` needs to know, checked.
#[derive(Debug, Clone)]
pub struct Settings {
    pub profile: Profile,
    /// Worker threads; each is one single-threaded runtime with its own accept loop.
    pub threads: usize,
    pub listeners: Vec<Listener>,
    /// Indexed by [`UpstreamId`], in the order of the file.
    pub upstreams: Vec<Upstream>,
    pub routes: Arc<Routes>,
    pub sessions: Sessions,
    pub limits: Limits,
    pub timeouts: Timeouts,
    pub drain: Drain,
    /// How long all generations together may take to finish after SIGTERM.
    pub shutdown_timeout: Duration,
    /// How long a new generation may take until it says `ready`.
    pub ready_timeout: Duration,
    pub admin: Option<SocketAddr>,
    pub log: LogSettings,
}

/// Position of an upstream in [`Settings::upstreams`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UpstreamId(pub usize);

/// Which gateway stands behind: decides the header strip list and what is refused from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    ContextForge,
    Generic,
}

#[derive(Debug, Clone)]
pub struct Listener {
    pub name: String,
    /// Never empty; no address appears twice in the whole configuration.
    pub addresses: Vec<SocketAddr>,
    pub tls: Option<ListenerTls>,
    pub upstream: UpstreamId,
    /// Whether `params.server_id` is spliced on this listener's scoped routes.
    pub scope: bool,
    /// Hops whose `X-Forwarded-*` is believed.
    pub trusted_proxies: Vec<IpNet>,
}

/// Certificate chain and key of a listener; they were read, parsed and found to match when the file was checked.
#[derive(Debug, Clone)]
pub struct ListenerTls {
    pub cert: PathBuf,
    pub key: PathBuf,
}

#[derive(Debug, Clone)]
pub struct Upstream {
    pub name: String,
    /// Never empty; names are unique within the upstream.
    pub peers: Vec<PeerAddress>,
    pub tls: Option<UpstreamTls>,
}

/// One address that we connect to.
#[derive(Debug, Clone)]
pub struct PeerAddress {
    /// As written, or the address where no name was given. Claims are kept under this name.
    pub name: String,
    /// Host name or IP literal without brackets.
    pub host: String,
    pub port: u16,
}

/// The trust domain of an upstream.
#[derive(Debug, Clone)]
pub struct UpstreamTls {
    /// CA bundle; `None` = the system's.
    pub ca: Option<PathBuf>,
    /// Client certificate chain and key, if the upstream wants one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Never empty: Pingora switches verification off for an empty name.
    pub server_name: String,
    pub verify: Verify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// Chain and name.
    Full,
    /// Chain only.
    CaOnly,
}

#[derive(Debug, Clone)]
pub struct Sessions {
    pub ttl: Duration,
    pub embedded: Embedded,
}

/// The embedded registry: one LMDB file shared by overlapping generations.
#[derive(Debug, Clone)]
pub struct Embedded {
    /// Folder; exists and is writable.
    pub path: PathBuf,
    /// Upper bound of the number of sessions kept; the one that expires first goes first.
    pub max_sessions: usize,
}

#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a request body on an MCP route, after content decoding.
    pub body: usize,
    /// Bytes of a request head.
    pub headers: usize,
    /// Header fields of a request head.
    pub header_count: usize,
    /// Downstream connections of one generation.
    pub connections: usize,
}

#[derive(Debug, Clone)]
pub struct Timeouts {
    /// TCP connect and TLS handshake to a peer, each.
    pub connect: Duration,
    /// From the last byte of the request written to the first byte of the answer's head.
    pub first_byte: Duration,
    /// Longest silence inside an answer that is no event stream.
    pub response_idle: Duration,
    /// Downstream connection without a request.
    pub idle: Duration,
    /// Whole request head, from its first byte.
    pub request_head: Duration,
    /// Whole request body.
    pub request_body: Duration,
    /// One write to the client or to a peer.
    pub write: Duration,
    /// Kept-alive connection to a peer; below the peer's own (uvicorn and Node: 5 s).
    pub upstream_idle: Duration,
}

#[derive(Debug, Clone)]
pub struct Drain {
    /// How long an old generation's streams may live on.
    pub timeout: Duration,
    /// How many generations may drain at a time; the oldest goes first.
    pub max_generations: usize,
}

#[derive(Debug, Clone)]
pub struct LogSettings {
    pub level: LevelFilter,
    pub format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Json,
    Text,
}
