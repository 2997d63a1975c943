//! Outrigger: a sidecar reverse proxy for MCP, built on Pingora.
pub mod account;
pub mod app;
pub mod config;
pub mod error;
pub mod exchange;
pub mod logging;
pub mod mcp;
pub mod proxy;
pub mod registry;
pub mod routing;
pub mod supervisor;
pub mod upstream;
pub mod worker;
