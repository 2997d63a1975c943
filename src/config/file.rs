//! The shape of the YAML file: every key with its type, its default and its documentation. PURE.
//! serde reads it (through `read`), schemars makes the JSON Schema of it, `check` turns it into `Settings`.
//! Surprise: the comments below are what users read, in `outrigger schema` and, word for word, in conf/full.yaml.

mod health;
mod listener;
mod member;
mod sessions;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use health::{Health, McpCheck};
pub use listener::{Certificate, ClientAuth, Listener, ListenerTls, PathTo, Protocol, PublicUrl, TlsVersion};
pub use member::{Member, MemberTls};
pub use sessions::{Embedded, OnRegistryFailure, Redis, RedisTls, Registry, Sentinel, Sessions};

use super::field::{Field, ShortOrLong, Table};
use super::unit::{Count, Size, Time};

/// Configuration of Outrigger. Any value may hold ${VAR} or ${VAR:-default}.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// What stands behind: contextforge (its headers and paths are guarded) or generic
    #[serde(default)]
    pub profile: Field<Profile>,
    /// Worker threads; default: one per core, at most 8
    #[serde(default)]
    #[schemars(example = 2)]
    pub threads: Field<Option<Count>>,
    /// Where clients come in
    #[schemars(length(min = 1))]
    pub listeners: Field<Vec<Field<Listener>>>,
    /// The MCP services that we front, by name
    pub upstreams: Field<Table<Upstream>>,
    /// The MCP routes; everything else passes through
    #[serde(default)]
    pub routes: Field<Routes>,
    /// What is changed in the upstream's answers
    #[serde(default)]
    pub rewrite: Field<Rewrite>,
    /// Who owns a session
    #[serde(default)]
    pub sessions: Field<Sessions>,
    /// This Outrigger among several that share a registry in Redis; null = none
    #[serde(default)]
    pub member: Field<Option<Member>>,
    /// How an upstream's failures reach the client
    #[serde(default)]
    pub errors: Field<Errors>,
    /// Bounds on what a client may send
    #[serde(default)]
    pub limits: Field<Limits>,
    /// How long each step may take
    #[serde(default)]
    pub timeouts: Field<Timeouts>,
    /// What happens to a generation that has handed its listeners over
    #[serde(default)]
    pub drain: Field<Drain>,
    /// What happens on SIGTERM
    #[serde(default)]
    pub shutdown: Field<Shutdown>,
    /// What happens on SIGHUP, and when a file changes
    #[serde(default)]
    pub reload: Field<Reload>,
    /// Status page, health and metrics; null = none
    #[serde(default = "admin")]
    pub admin: Field<Option<Admin>>,
    /// What is logged to standard error
    #[serde(default)]
    pub log: Field<Log>,
}

#[derive(Debug, Default, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Profile {
    #[default]
    ContextForge,
    Generic,
}

/// One MCP service, under a name of your choice
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// Addresses to connect to: "HOST:PORT", or name and address
    #[schemars(length(min = 1))]
    pub peers: Field<Vec<Field<ShortOrLong<Peer>>>>,
    /// Connect with TLS; null = plaintext
    #[serde(default)]
    pub tls: Field<Option<UpstreamTls>>,
    /// Look after the peers, through the same TLS; null = only connections that fail count
    #[serde(default)]
    pub health: Field<Option<Health>>,
    /// Host that requests are sent for, as by a client of its own: no X-Forwarded-*; null = what our clients call us, for a service that we front
    #[serde(default)]
    #[schemars(example = &"payments.example")]
    pub host: Field<Option<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Name under which sessions are claimed; default: the address
    #[serde(default)]
    #[schemars(example = &"w1")]
    pub name: Field<Option<String>>,
    /// HOST:PORT
    #[schemars(example = &"gateway.example:4444")]
    pub address: Field<String>,
}

#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamTls {
    /// PEM file: the CAs that we accept; null = the system's
    #[schemars(example = &"/certs/ca.crt")]
    pub ca: Field<Option<String>>,
    /// PEM file: client certificate, then its intermediates; null = none
    #[schemars(example = &"/certs/client.crt")]
    pub cert: Field<Option<String>>,
    /// PEM file: private key of the client certificate
    #[schemars(example = &"/certs/client.key")]
    pub key: Field<Option<String>>,
    /// File with the passphrase of the key, if that is encrypted
    #[schemars(example = &"/secrets/key-passphrase")]
    pub key_passphrase_file: Field<Option<String>>,
    /// Name (sent as SNI) or IP address that the certificate must have; default: the host that all peers share
    #[schemars(example = &"gateway.example")]
    pub server_name: Field<Option<String>>,
    /// What is verified: full (chain, and name or address) or ca_only (chain)
    pub verify: Field<Verify>,
    /// Besides, the server's public key must be one of these (SHA-256 of the key, base64); empty = any
    #[schemars(example = &["r/mIkG3eEpVdm+u/ko/cwxzOMo1bk4TyHIlByibiA5E="])]
    pub pins: Field<Vec<Field<String>>>,
}

#[derive(Debug, Default, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Verify {
    #[default]
    Full,
    CaOnly,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Routes {
    /// Streamable HTTP
    pub mcp: Field<Vec<Field<String>>>,
    /// HTTP+SSE: the event stream
    pub sse: Field<Vec<Field<String>>>,
    /// HTTP+SSE: the messages
    pub message: Field<Vec<Field<String>>>,
}

impl Default for Routes {
    fn default() -> Self {
        let list = |patterns: &[&str]| {
            Field::Good(patterns.iter().map(|&pattern| Field::Good(pattern.to_owned())).collect())
        };
        Self {
            mcp: list(&["/servers/{server_id}/mcp", "/mcp"]),
            sse: list(&["/servers/{server_id}/sse", "/sse"]),
            message: list(&["/servers/{server_id}/message", "/message", "/messages/"]),
        }
    }
}

#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rewrite {
    /// HTTP+SSE: where messages go, as the stream's first event says it: path (without an origin) or absolute
    pub endpoint: Field<EndpointForm>,
}

#[derive(Debug, Default, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum EndpointForm {
    #[default]
    Path,
    Absolute,
}

#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Errors {
    /// HTTP status of a request that failed: preserve, or ok (200, but for 401, 403 and a session's 404)
    pub status: Field<Status>,
}

#[derive(Debug, Default, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Status {
    #[default]
    Preserve,
    Ok,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Request body on an MCP route, after content decoding
    pub body: Field<Size>,
    /// Request head; at most 1023KiB
    pub headers: Field<Size>,
    /// Header fields of a request; at most 256
    pub header_count: Field<Count>,
    /// Client connections of one generation
    pub connections: Field<Count>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: Field::Good(Size::from_kib(4096)),
            headers: Field::Good(Size::from_kib(64)),
            header_count: Field::Good(Count(100)),
            connections: Field::Good(Count(20_000)),
        }
    }
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// TCP connect and TLS handshake to a peer, each
    pub connect: Field<Time>,
    /// From the request's last byte sent to the first byte of the answer
    pub first_byte: Field<Time>,
    /// Longest silence inside an answer that is no event stream
    pub response_idle: Field<Time>,
    /// TLS handshake with a client, from the moment it is connected
    pub handshake: Field<Time>,
    /// Silence of an event stream after which a comment tells the client that it lives; null = never
    pub stream_keepalive: Field<Option<Time>>,
    /// Client connection without a request
    pub idle: Field<Time>,
    /// Whole request head, from its first byte
    pub request_head: Field<Time>,
    /// Whole request body
    pub request_body: Field<Time>,
    /// One write to a client or to a peer
    pub write: Field<Time>,
    /// Kept-alive connection to a peer; keep it below the peer's own (uvicorn, Node: 5s)
    pub upstream_idle: Field<Time>,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = |seconds| Field::Good(Time::from_secs(seconds));
        Self {
            connect: seconds(1),
            first_byte: seconds(60),
            response_idle: seconds(60),
            handshake: seconds(10),
            stream_keepalive: Field::Good(Some(Time::from_secs(15))),
            idle: seconds(60),
            request_head: seconds(10),
            request_body: seconds(60),
            write: seconds(30),
            upstream_idle: seconds(4),
        }
    }
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Drain {
    /// How long its event streams may live on
    pub timeout: Field<Time>,
    /// Generations that may drain at a time; beyond, the oldest goes first
    pub max_generations: Field<Count>,
}

impl Default for Drain {
    fn default() -> Self {
        Self { timeout: Field::Good(Time::from_secs(3600)), max_generations: Field::Good(Count(4)) }
    }
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Shutdown {
    /// How long all generations together may take to finish
    pub timeout: Field<Time>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { timeout: Field::Good(Time::from_secs(30)) }
    }
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Reload {
    /// Whether a change of this file, or of a certificate, key, CA or password file that it names, is a reload
    pub watch: Field<bool>,
    /// How long they must have been left alone before
    pub settle: Field<Time>,
    /// How long a new generation may take to be ready; then the old one stays
    pub ready_timeout: Field<Time>,
}

impl Default for Reload {
    fn default() -> Self {
        let seconds = |seconds| Field::Good(Time::from_secs(seconds));
        Self { watch: Field::Good(true), settle: seconds(1), ready_timeout: seconds(20) }
    }
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// IP:PORT; beyond loopback only with public
    pub address: Field<String>,
    /// Serve /livez, /readyz, /startupz and /metrics beyond loopback; whoever reaches the address reads them
    pub public: Field<bool>,
}

impl Default for Admin {
    fn default() -> Self {
        Self { address: Field::Good("127.0.0.1:9901".to_owned()), public: Field::Good(false) }
    }
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// off, error, warn, info, debug or trace
    pub level: Field<Level>,
    /// json or text
    pub format: Field<Format>,
    /// Lines of one kind in a second; what is more is counted and told every 10s in one line; null = all
    pub burst: Field<Option<Count>>,
    /// The same for access lines; null = every request has its line
    #[schemars(example = 1000)]
    pub access_burst: Field<Option<Count>>,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: Field::default(),
            format: Field::default(),
            burst: Field::Good(Some(Count(10))),
            access_burst: Field::default(),
        }
    }
}

#[derive(Debug, Default, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Level {
    Off,
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

#[derive(Debug, Default, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Format {
    #[default]
    Json,
    Text,
}

fn admin() -> Field<Option<Admin>> {
    Field::Good(Some(Admin::default()))
}
