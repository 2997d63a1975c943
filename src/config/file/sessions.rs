//! The shape of `sessions`: the two kinds of registry, and what becomes of a session whose owner cannot be asked for. PURE.
//! Read and documented as all of the shape is (`file`); `check/sessions` and `check/redis` say which keys go together.
//! Surprise: `gateway_keys` distinguishes absent (a default that depends on other keys) from null (none).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::field::{Field, OneOrMany};
use crate::config::unit::{Count, Time};

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sessions {
    /// Where owners are kept: embedded (one file on this machine) or redis (shared by all members)
    pub registry: Field<Registry>,
    /// The embedded registry
    pub embedded: Field<Embedded>,
    /// The Redis registry
    pub redis: Field<Option<Redis>>,
    /// How long a session is remembered after its last use
    pub ttl: Field<Time>,
    /// Prefix of the gateway's own keys; null = not read; default: mcpgw: with contextforge and redis, else null
    #[schemars(example = &"mcpgw:")]
    pub gateway_keys: Field<Option<String>>,
    /// When an owner cannot be asked for: refuse (503, to be tried again) or local (one of the local peers)
    pub on_registry_failure: Field<OnRegistryFailure>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            registry: Field::default(),
            embedded: Field::default(),
            redis: Field::default(),
            ttl: Field::Good(Time::from_secs(3600)),
            gateway_keys: Field::Missing,
            on_registry_failure: Field::default(),
        }
    }
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Registry {
    #[default]
    Embedded,
    Redis,
}

#[derive(Debug, Default, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum OnRegistryFailure {
    #[default]
    Refuse,
    Local,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Embedded {
    /// Folder of the registry file; made if it is not there
    pub path: Field<String>,
    /// Sessions kept; beyond, the one that expires first goes first
    pub max_sessions: Field<Count>,
}

impl Default for Embedded {
    fn default() -> Self {
        Self {
            path: Field::Good("/var/lib/outrigger".to_owned()),
            max_sessions: Field::Good(Count(1_000_000)),
        }
    }
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Redis {
    /// redis://[user[:password]@]host[:port][/database], rediss:// for TLS; a list: nodes of a cluster
    #[schemars(example = &"redis://redis:6379/0")]
    pub url: Field<Option<OneOrMany<String>>>,
    /// In place of url: the sentinels that know the master
    pub sentinel: Field<Option<Sentinel>>,
    /// ACL user, unless url names one; with sentinel, the master's
    #[schemars(example = &"outrigger")]
    pub username: Field<Option<String>>,
    /// File that holds the password, unless url does; read at every connect; with sentinel, the master's
    #[schemars(example = &"/secrets/redis-password")]
    pub password_file: Field<Option<String>>,
    /// Number of the database, unless url says it; default: 0
    #[schemars(example = 0)]
    pub database: Field<Option<u64>>,
    /// What rediss:// URLs rest on; null = the system's CAs, no client certificate
    pub tls: Field<Option<RedisTls>>,
    /// What all keys of this registry begin with
    pub prefix: Field<String>,
    /// How long an answer may take
    pub timeout: Field<Time>,
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            url: Field::default(),
            sentinel: Field::default(),
            username: Field::default(),
            password_file: Field::default(),
            database: Field::default(),
            tls: Field::default(),
            prefix: Field::Good("outrigger:".to_owned()),
            timeout: Field::Good(Time::from_millis(100)),
        }
    }
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sentinel {
    /// URLs of the sentinels, with their own users and passwords; rediss:// means TLS to the master as well
    #[schemars(length(min = 1), example = ["redis://sentinel-0:26379", "redis://sentinel-1:26379"])]
    pub urls: Field<Vec<Field<String>>>,
    /// Name under which the sentinels know the master
    #[schemars(example = &"mymaster")]
    pub master: Field<String>,
}

#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RedisTls {
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
}
