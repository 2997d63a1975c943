//! The shape of `member`: this Outrigger among several that share a registry. PURE.
//! Read and documented as all of the shape is (`file`); `check/member` says which keys go together.
//! Surprise: TLS between members is not left out but waived, by `plaintext: true`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::field::{Field, OneOrMany};
use crate::config::unit::Time;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Name that no other member has
    #[schemars(example = &"gateway-0")]
    pub name: Field<String>,
    /// Where the other members come in: one address (IP:PORT) or a list of them
    #[schemars(example = &"0.0.0.0:8444")]
    pub address: Field<OneOrMany<String>>,
    /// HOST:PORT by which the other members reach this one; it is published in the registry
    #[serde(default)]
    #[schemars(example = &"10.1.2.3:8444")]
    pub advertise: Field<Option<String>>,
    /// In place of advertise: HOST:PORT of every member by DNS, with {name} for its name
    #[serde(default)]
    #[schemars(example = &"{name}.outrigger.default.svc.cluster.local:8444")]
    pub template: Field<Option<String>>,
    /// Mutual TLS between members
    #[serde(default)]
    pub tls: Field<Option<MemberTls>>,
    /// In place of tls: none, where nobody else has access to the members' network
    #[serde(default)]
    pub plaintext: Field<bool>,
    /// How long a published address is believed after its last renewal; at least 1s
    #[serde(default = "ttl")]
    pub ttl: Field<Time>,
    /// TCP connect and TLS handshake to another member, together
    #[serde(default = "connect_timeout")]
    pub connect_timeout: Field<Time>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberTls {
    /// PEM file: certificate for both ways (client and server), then its intermediates
    #[schemars(example = &"/certs/tls.crt")]
    pub cert: Field<String>,
    /// PEM file: private key of the certificate
    #[schemars(example = &"/certs/tls.key")]
    pub key: Field<String>,
    /// File with the passphrase of the key, if that is encrypted
    #[serde(default)]
    #[schemars(example = &"/secrets/key-passphrase")]
    pub key_passphrase_file: Field<Option<String>>,
    /// PEM file: the CAs of the members' certificates, and of nothing else
    #[schemars(example = &"/certs/ca.crt")]
    pub ca: Field<String>,
    /// DNS name in every member's certificate
    #[serde(default = "server_name")]
    pub server_name: Field<String>,
}

fn ttl() -> Field<Time> {
    Field::Good(Time::from_secs(10))
}

fn connect_timeout() -> Field<Time> {
    Field::Good(Time::from_millis(200))
}

fn server_name() -> Field<String> {
    Field::Good("outrigger".to_owned())
}
