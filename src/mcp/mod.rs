//! (skeleton)
mod json;
pub mod jsonrpc;
mod message;
mod refusal;
pub mod splice;
