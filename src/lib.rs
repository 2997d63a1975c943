//! Outrigger: a sidecar reverse proxy for MCP, built on Pingora.
//!
//! One binary plays two roles. The **supervisor** owns the listening sockets and starts a **worker** for every
//! generation of configuration and certificates; a worker serves until its successor says `ready`, then drains.
//!
//! # The life of a request
//!
//! | # | room | what is decided | where |
//! |---|---|---|---|
//! | 1 | listener | which listener, its TLS, who the client and the hop are, what is public, who may come in | [`worker`] (gate, tls), [`mcp::client_cert`], [`mcp::forwarded`], [`mcp::public_url`], [`routing::allowed`] |
//! | 2 | classify | route and server id on the decoded path | [`routing::route`], [`proxy`] |
//! | 3 | identify | era, session, who is calling | [`mcp::jsonrpc`], [`routing::session`], [`exchange`] |
//! | 4 | locate | the session's owner, here or at another member | [`registry`], [`routing::owner`], [`members`] |
//! | 5 | rewrite request | `params.server_id` spliced in; fields stripped and set | [`mcp::splice`], [`mcp::fields`] |
//! | 6 | connect | the peer; another only where nothing was sent | [`upstream`], [`routing::balance`] |
//! | 7 | send and receive | one write; first byte in time; the client's going away ends it | [`exchange`] |
//! | 8 | normalise | a new session is claimed; our own failures become JSON-RPC errors | [`exchange`], [`error`] |
//! | 9 | relay | the answer outward, its addresses public, nothing held back | [`exchange`], [`mcp::public_url`], [`mcp::sse`] |
//! | 10 | account | one access line, the counters | [`account`] |
//!
//! What TLS rests on, in every role, is read and checked in one place: [`material`].
//!
//! How the peers are, whatever the requests, is looked after by checks on the same connections' terms ([`upstream::check`],
//! [`routing::health`]).
//!
//! Every room is a span where [`trace`] is on. What room 4 would decide for a session, and why, an operator hears from [`explain`];
//! how everything is, from [`admin`], and on the command line from [`commands`].
//!
//! MCP messages go through the [`exchange`], one linear function; everything else passes through Pingora's own proxy ([`proxy`]).
//!
//! # Import law
//!
//! Kept by `tests/import_law.rs`. The pure rooms ([`mcp`], [`routing`]) name no runtime, socket, file, clock or log; `mcp` knows no
//! configuration; [`exchange`] and [`proxy`] know neither worker nor supervisor; [`admin`] knows of the supervisor only the channel to it, and
//! [`supervisor`] of Pingora only the table of sockets.

pub mod account;
pub mod admin;
pub mod app;
pub mod commands;
pub mod config;
pub mod error;
pub mod exchange;
pub mod explain;
pub mod logging;
pub mod material;
pub mod mcp;
pub mod members;
pub mod proxy;
pub mod registry;
pub mod routing;
pub mod supervisor;
pub mod trace;
pub mod upstream;
pub mod worker;
