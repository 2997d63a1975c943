//! The rules of MCP and HTTP that Outrigger applies: JSON-RPC messages (`jsonrpc`) and their ids (`id`), the splice (`splice`), failures
//! (`failure`), event streams (`sse`), tasks (`task`), forwarded headers (`forwarded`), public addresses
//! (`public_url`), redirects (`redirect`), client certificates (`client_cert`), the fields of heads (`fields`, `cors`), and what health
//! checks say (`check`).
//! Pure: bytes in, bytes or decisions out; nothing here knows the configuration, a socket or a clock.

pub mod authority;
pub mod check;
pub mod client_cert;
pub mod cors;
pub mod failure;
pub mod fields;
pub mod forwarded;
pub mod id;
mod json;
pub mod jsonrpc;
mod message;
pub mod public_url;
pub mod redirect;
mod refusal;
pub mod splice;
pub mod sse;
pub mod task;
