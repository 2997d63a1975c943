//! The shape of a listener: where clients come in, and what they may call it. PURE.
//! Read and documented as all of the shape is (`file`); `check/listener` and `check/public` say what is right.
//! Surprise: no list of allowed hosts is not an empty one; what it means depends on the listener's addresses.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::field::{Field, OneOrMany};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Name in logs and metrics; default: the first address
    #[serde(default)]
    #[schemars(example = &"public")]
    pub name: Field<Option<String>>,
    /// One address (IP:PORT) or a list of them
    #[schemars(example = &"127.0.0.1:8443")]
    pub address: Field<OneOrMany<String>>,
    /// Serve TLS (HTTP/1.1 and h2); null = plaintext
    #[serde(default)]
    pub tls: Field<Option<ListenerTls>>,
    /// Name of the upstream behind; may be left out if there is only one, or if paths say it all
    #[serde(default)]
    #[schemars(example = &"gateway")]
    pub upstream: Field<Option<String>>,
    /// Upstreams by the path that is put before theirs; all other paths go to upstream, or without one nowhere
    #[serde(default)]
    pub paths: Field<Vec<Field<PathTo>>>,
    /// Whether the server id of the path is spliced into params.server_id
    #[serde(default = "yes")]
    pub scope: Field<bool>,
    /// Networks whose X-Forwarded-* headers are believed, or where they send none of these, their Forwarded headers
    #[serde(default)]
    pub trusted_proxies: Field<Vec<Field<String>>>,
    /// What the outside calls this listener
    #[serde(default)]
    pub public_url: Field<PublicUrl>,
    /// Hosts that clients may call it: HOST, HOST:PORT, HOST:* or *; default: on loopback its names and external_url's, else *
    #[serde(default)]
    #[schemars(example = &["mcp.example.com", "localhost:*"])]
    pub allowed_hosts: Field<Option<Vec<Field<String>>>>,
    /// Pages that may send MCP: like allowed_hosts, with or without SCHEME:// before it, or null; default: on loopback its names, else *
    #[serde(default)]
    #[schemars(example = &["https://app.example.com"])]
    pub allowed_origins: Field<Option<Vec<Field<String>>>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PathTo {
    /// What stands before the upstream's own paths; it is taken off requests, and put before every address that leaves
    #[schemars(example = &"/payments")]
    pub path: Field<String>,
    /// Name of the upstream
    #[schemars(example = &"gateway")]
    pub upstream: Field<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerTls {
    /// PEM file: certificate, then its intermediates
    #[schemars(example = &"/certs/tls.crt")]
    pub cert: Field<String>,
    /// PEM file: private key of the certificate
    #[schemars(example = &"/certs/tls.key")]
    pub key: Field<String>,
    /// File with the passphrase of the key, if that is encrypted
    #[serde(default)]
    #[schemars(example = &"/secrets/key-passphrase")]
    pub key_passphrase_file: Field<Option<String>>,
    /// More certificates; a client gets the one that has the name that it asks for (SNI), else the one above
    #[serde(default)]
    pub certificates: Field<Vec<Field<Certificate>>>,
    /// PEM file: the CAs of client certificates; null = clients are not asked for one
    #[serde(default)]
    #[schemars(example = &"/certs/clients-ca.crt")]
    pub client_ca: Field<Option<String>>,
    /// With client_ca: required, or optional (a client may show none, but none that is wrong); default: required
    #[serde(default)]
    #[schemars(example = &"required")]
    pub client_auth: Field<Option<ClientAuth>>,
    /// With client_ca: whether the upstream is told who the client is, as X-Forwarded-Client-Cert (a client's own is always removed)
    #[serde(default)]
    pub forward_client_cert: Field<bool>,
    /// Oldest version of TLS that is spoken: 1.2 or 1.3
    #[serde(default)]
    pub min_version: Field<TlsVersion>,
    /// Whether clients may resume sessions, which makes their next handshakes cheap
    #[serde(default = "yes")]
    pub session_tickets: Field<bool>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// PEM file: certificate, then its intermediates
    #[schemars(example = &"/certs/other.crt")]
    pub cert: Field<String>,
    /// PEM file: private key of the certificate
    #[schemars(example = &"/certs/other.key")]
    pub key: Field<String>,
    /// File with the passphrase of the key, if that is encrypted
    #[serde(default)]
    #[schemars(example = &"/secrets/key-passphrase")]
    pub key_passphrase_file: Field<Option<String>>,
}

#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum ClientAuth {
    Required,
    Optional,
}

#[derive(Debug, Default, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[schemars(inline)]
pub enum TlsVersion {
    #[default]
    #[serde(rename = "1.2")]
    V1_2,
    #[serde(rename = "1.3")]
    V1_3,
}

#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PublicUrl {
    /// Scheme of public addresses: auto (as the client came, by trusted_proxies), http or https
    pub protocol: Field<Protocol>,
    /// Scheme, host and path in place of what the client wrote; null = none. The path is put before every address, and taken off requests
    #[schemars(example = &"https://mcp.example.com/gateway")]
    pub external_url: Field<Option<String>>,
}

#[derive(Debug, Default, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Protocol {
    #[default]
    Auto,
    Http,
    Https,
}

fn yes() -> Field<bool> {
    Field::Good(true)
}
