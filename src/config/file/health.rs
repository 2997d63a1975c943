//! The shape of `upstreams.*.health`: how the peers of an upstream are checked. PURE.
//! Surprise: what is checked is one of three keys, and `path` goes with one of the others.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::field::{Field, Table};
use crate::config::unit::{Count, Time};

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// GET this path: any 2xx is well; with mcp, the path of MCP (default: /mcp)
    #[schemars(example = &"/health")]
    pub path: Field<Option<String>>,
    /// Connect, with tls also shake hands, and no more
    pub tcp: Field<bool>,
    /// Speak MCP: ping (in a session of its own, closed again) or discover (server/discover of 2026-07-28)
    #[schemars(example = McpCheck::Ping)]
    pub mcp: Field<Option<McpCheck>>,
    /// Header fields of each check's requests, by name; secrets as ${VAR}
    #[schemars(example = serde_json::json!({ "Authorization": "Bearer ${HEALTH_TOKEN:-none}" }))]
    pub headers: Field<Option<Table<String>>>,
    /// From one check to the next, a tenth more or less by chance
    pub interval: Field<Time>,
    /// How long a check may take; at most the interval
    pub timeout: Field<Time>,
    /// Checks in a row that succeed until a peer is healthy again
    pub healthy_threshold: Field<Count>,
    /// Checks in a row that fail until a peer is unhealthy; the very first check decides alone
    pub unhealthy_threshold: Field<Count>,
    /// How long a peer that came back gets less than its share, evenly more; null = all at once
    #[schemars(example = Time::from_secs(30))]
    pub slow_start: Field<Option<Time>>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            path: Field::default(),
            tcp: Field::default(),
            mcp: Field::default(),
            headers: Field::default(),
            interval: Field::Good(Time::from_secs(5)),
            timeout: Field::Good(Time::from_secs(1)),
            healthy_threshold: Field::Good(Count(2)),
            unhealthy_threshold: Field::Good(Count(3)),
            slow_start: Field::default(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum McpCheck {
    Ping,
    Discover,
}
