//! What the rest of Outrigger sees of the configuration: values that cannot be wrong.
//! `check` makes them from the YAML's shape (`file`); nothing here knows serde, and nothing downstream validates again.
//! Surprise: an upstream or a peer is named by its position, so that a request carries two small numbers and no strings.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;
use log::LevelFilter;

use crate::material::IdentityFiles;
use crate::mcp::failure::Statuses;
use crate::mcp::public_url::PublicUrl;
use crate::mcp::public_url::address::EndpointForm;
use crate::routing::allowed::Allowed;
use crate::routing::destination::Destination;
use crate::routing::health::Thresholds;
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
    /// How an `endpoint` event is written.
    pub endpoint: EndpointForm,
    pub sessions: Sessions,
    /// This Outrigger among several; `None` = it is alone, or its siblings need not find it.
    pub member: Option<Member>,
    /// How the status of a failed request leaves.
    pub statuses: Statuses,
    pub limits: Limits,
    pub timeouts: Timeouts,
    pub drain: Drain,
    /// How long all generations together may take to finish after SIGTERM.
    pub shutdown_timeout: Duration,
    pub reload: Reload,
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
    pub destination: Destination,
    /// Whether `params.server_id` is spliced on this listener's scoped routes.
    pub scope: bool,
    /// Hops whose `X-Forwarded-*` or `Forwarded` is believed.
    pub trusted_proxies: Vec<IpNet>,
    pub public_url: PublicUrl,
    pub allowed: Allowed,
}

/// What a listener shows; it was read, parsed and found to match when the file was checked.
#[derive(Debug, Clone)]
pub struct ListenerTls {
    /// Never empty; the first is for clients that ask for no name, or for one that no certificate has.
    pub certificates: Vec<IdentityFiles>,
    /// `None` = clients are not asked for a certificate.
    pub clients: Option<ClientAuth>,
    pub min_version: TlsVersion,
    /// Whether a client may resume a session.
    pub session_tickets: bool,
}

/// Who may connect, by certificate.
#[derive(Debug, Clone)]
pub struct ClientAuth {
    pub ca: PathBuf,
    /// Or else a client may show none.
    pub required: bool,
    /// Whether the upstream is told who the client is.
    pub forward: bool,
}

/// The oldest version that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    V1_2,
    V1_3,
}

#[derive(Debug, Clone)]
pub struct Upstream {
    pub name: String,
    /// Never empty; names are unique within the upstream.
    pub peers: Vec<PeerAddress>,
    pub tls: Option<UpstreamTls>,
    /// `None`: only connections that fail count.
    pub health: Option<Health>,
    /// What it is called by us, as by a client of its own; `None` = what our clients call us.
    pub host: Option<String>,
}

/// How the peers of an upstream are checked.
#[derive(Debug, Clone)]
pub struct Health {
    pub probe: Probe,
    /// Request fields of each check; the values may be secrets.
    pub headers: Vec<(HeaderName, Secret)>,
    pub interval: Duration,
    /// Never longer than the interval.
    pub timeout: Duration,
    pub thresholds: Thresholds,
    /// Zero: a peer that comes back gets its whole share at once.
    pub slow_start: Duration,
}

/// What a check does. Paths are in origin form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// Connects, and shakes hands where there is TLS.
    Tcp,
    Get(String),
    /// MCP up to 2025-11-25: `initialize`, `ping`, and the session closed again.
    Ping(String),
    /// MCP from 2026-07-28: `server/discover`.
    Discover(String),
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
    /// What we show, if the upstream wants to see something.
    pub identity: Option<IdentityFiles>,
    /// DNS name or IP literal. Never empty: Pingora switches verification off for an empty name.
    pub server_name: String,
    pub verify: Verify,
    /// SHA-256 of the public keys, one of which the server must have; empty = any.
    pub pins: Vec<[u8; 32]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// Chain and name, or address.
    Full,
    /// Chain only.
    CaOnly,
}

#[derive(Debug, Clone)]
pub struct Sessions {
    pub ttl: Duration,
    pub registry: RegistryKind,
    pub on_registry_failure: OnRegistryFailure,
}

/// Where owners are kept.
#[derive(Debug, Clone)]
pub enum RegistryKind {
    Embedded(Embedded),
    Redis(Box<Redis>),
}

/// What becomes of a request whose session's owner cannot be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnRegistryFailure {
    /// 503, to be tried again.
    Refuse,
    /// It goes to a local peer, always the same one.
    Local,
}

/// The Redis registry, shared by all members.
#[derive(Debug, Clone)]
pub struct Redis {
    pub topology: Topology,
    /// Used with every server whose login says `tls`.
    pub tls: RedisTls,
    /// Read anew for every connection, so that it may be rotated. Then no login holds a password, but for those at sentinels,
    /// who never get this one.
    pub password_file: Option<PathBuf>,
    /// Before every key of ours.
    pub prefix: String,
    /// Bound of every call.
    pub timeout: Duration,
    /// Before the gateway's own keys; `None` = they are not read.
    pub gateway_keys: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topology {
    Standalone(RedisServer),
    Sentinel {
        /// Never empty.
        sentinels: Vec<RedisServer>,
        master: String,
        /// Credentials, database and TLS of the master; host and port are the sentinels' to tell.
        login: RedisLogin,
    },
    /// Never empty; any of them tells the others. All logins are the same.
    Cluster(Vec<RedisServer>),
}

impl Topology {
    /// Whether connections have TLS; all of one topology have, or none.
    pub fn uses_tls(&self) -> bool {
        match self {
            Self::Standalone(server) => server.login.tls,
            Self::Sentinel { login, .. } => login.tls,
            Self::Cluster(servers) => servers.iter().any(|server| server.login.tls),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisServer {
    /// Host name or IP literal without brackets.
    pub host: String,
    pub port: u16,
    pub login: RedisLogin,
}

impl std::fmt::Display for RedisServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RedisLogin {
    pub tls: bool,
    pub database: i64,
    /// Never without a password, here or in [`Redis::password_file`].
    pub username: Option<String>,
    pub password: Option<Secret>,
}

/// CAs and client identity towards Redis.
#[derive(Debug, Clone, Default)]
pub struct RedisTls {
    /// CA bundle; `None` = the system's.
    pub ca: Option<PathBuf>,
    pub identity: Option<IdentityFiles>,
}

/// A text that no print shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// One running Outrigger among several: how the others reach it, and how it reaches them.
#[derive(Debug, Clone)]
pub struct Member {
    /// Unique among all that share a registry; at most 253 bytes of visible ASCII.
    pub name: String,
    /// Where it listens for the others; never empty.
    pub addresses: Vec<SocketAddr>,
    pub discovery: Discovery,
    /// `None` = plaintext, asked for by name.
    pub tls: Option<MemberTls>,
    /// Connect and handshake to another member, together.
    pub connect_timeout: Duration,
}

/// How a member's address is learnt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Discovery {
    /// Each publishes its own in the registry, and is gone when it has not done so for `ttl`.
    Published { host: String, port: u16, ttl: Duration },
    /// By DNS (a StatefulSet's headless service): `{name}`, once in `host`, stands for the member's name.
    Template { host: String, port: u16 },
}

/// Both ways between members: every member shows this identity and accepts what this CA signed.
#[derive(Debug, Clone)]
pub struct MemberTls {
    pub identity: IdentityFiles,
    pub ca: PathBuf,
    /// The DNS name in every member's certificate.
    pub server_name: String,
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

impl Limits {
    /// What Pingora's HTTP/1 parser reads at most (pingora-core 0.9.1, protocols/http/v1/common.rs).
    pub const MOST_HEADER_BYTES: usize = 1_048_575;
    pub const MOST_HEADER_COUNT: usize = 256;
}

#[derive(Debug, Clone)]
pub struct Timeouts {
    /// TCP connect and TLS handshake to a peer, each.
    pub connect: Duration,
    /// From the last byte of the request written to the first byte of the answer's head.
    pub first_byte: Duration,
    /// Longest silence inside an answer that is no event stream.
    pub response_idle: Duration,
    /// Downstream TLS handshake, from the connection's acceptance.
    pub handshake: Duration,
    /// Silence of an event stream after which the client gets a comment; `None` = never.
    pub stream_keepalive: Option<Duration>,
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
pub struct Reload {
    /// Whether changed files are a reload.
    pub watch: bool,
    /// How long they must have been left alone before.
    pub settle: Duration,
    /// How long a new generation may take until it says `ready`.
    pub ready_timeout: Duration,
}

#[derive(Debug, Clone)]
pub struct LogSettings {
    pub level: LevelFilter,
    pub format: LogFormat,
    /// Lines of one kind in a second; `None` = all.
    pub burst: Option<u32>,
    /// Access lines in a second; `None` = all.
    pub access_burst: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Json,
    Text,
}
