//! (skeleton)
pub mod settings;
