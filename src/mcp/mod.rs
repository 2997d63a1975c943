//! (skeleton)
pub mod jsonrpc;
pub mod splice;
