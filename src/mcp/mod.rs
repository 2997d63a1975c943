//! The rules of MCP and HTTP that Outrigger applies: JSON-RPC messages (`jsonrpc`), the splice (`splice`), event streams (`sse`), answers
//! cut short (`whole`), tasks (`task`), forwarded headers (`forwarded`) and hop-by-hop fields (`fields`).
//! Pure: bytes in, bytes or decisions out; nothing here knows the configuration, a socket or a clock.

pub mod fields;
pub mod forwarded;
mod json;
pub mod jsonrpc;
mod message;
mod refusal;
pub mod splice;
pub mod sse;
pub mod task;
pub mod whole;
