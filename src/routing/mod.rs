//! (skeleton)
pub mod route;
