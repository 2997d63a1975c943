//! Where a request belongs: whether it may come in (`allowed`), its upstream (`destination`), its route (`route`), its era and session
//! (`session`), its owner (`owner`; in the gateway's own words, `gateway`) and the way there (`hop`) or, where nobody owns it, its peer
//! (`balance`, by what checks say of it: `health`).
//! Takes paths, headers and bodies as plain values, gives decisions. Pure: nothing here waits for anything.

pub mod allowed;
pub mod balance;
pub mod destination;
pub mod gateway;
pub mod health;
pub mod hop;
pub mod owner;
pub mod route;
pub mod session;
