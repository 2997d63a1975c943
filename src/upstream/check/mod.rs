//! One check of a peer: through the same dialer as traffic, so with the same certificates, names and CAs.
//! Takes an upstream and the position of a peer, gives an [`Outcome`] in time and, where a session is left to be closed, a [`Farewell`].
//! Surprise: a check that ran out of time is not over. The session that it asked for may be given out later, and is closed then.

mod certificate;
mod farewell;
mod line;
mod request;
mod trouble;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;
use serde_json::Value;
use tokio::time::timeout;

use super::Upstream;
use super::health::Outcome;
use crate::config::settings::{Health, Probe};
use crate::mcp::check::{self as mcp, Reply};
use crate::mcp::public_url::Base;
use crate::mcp::public_url::address::Ours;
use crate::mcp::redirect::should_follow;
use crate::routing::health::Reason;
pub use farewell::{Farewell, Left};
use line::Line;
use request::Request;
use trouble::Trouble;

/// With TLS 1.3 a server judges our certificate after the handshake; so long its word is waited for where nothing is asked of it.
const JUDGEMENT: Duration = Duration::from_millis(250);

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Checks peer `peer` of an upstream once, as its `health` says.
pub async fn check(upstream: &Arc<Upstream>, peer: usize, health: &Health) -> (Outcome, Option<Farewell>) {
    let began = Instant::now();
    let path = match &health.probe {
        Probe::Tcp => "",
        Probe::Get(path) | Probe::Ping(path) | Probe::Discover(path) => path,
    };
    let mut visit = Visit {
        line: Line::new(upstream.clone(), peer),
        request: Request::new(upstream, peer, health),
        path: path.to_owned(),
        session: None,
        version: None,
        expects_session: false,
    };
    let result = timeout(health.timeout, visit.run(health)).await;
    let (finding, detail) = match result {
        Ok(Ok(())) => (Ok(()), String::new()),
        Ok(Err(Trouble { reason, detail })) => (Err(reason), detail),
        Err(_) if visit.line.connected => (Err(Reason::Timeout), String::new()),
        Err(_) => (Err(Reason::ConnectTimeout), String::new()),
    };
    let took = began.elapsed();
    (Outcome { finding, detail, took }, Farewell::after(visit))
}

/// Status and fields of an answer.
type Head = (u16, HeaderMap);

/// A check under way, and what must be known of it should it be given up.
struct Visit {
    line: Line,
    request: Request,
    /// What is asked for; a slash more or less than was configured where the server wants that.
    path: String,
    /// Given to us; to be closed.
    session: Option<String>,
    /// The version that session speaks.
    version: Option<String>,
    /// `initialize` was sent and not answered yet.
    expects_session: bool,
}

impl Visit {
    async fn run(&mut self, health: &Health) -> Result<(), Trouble> {
        match &health.probe {
            Probe::Tcp => {
                let mut stream = self.line.connect().await?;
                match self.line.upstream.has_tls() {
                    true => Line::listen(&mut stream, JUDGEMENT.min(health.timeout / 2)).await,
                    false => Ok(()),
                }
            }
            Probe::Get(_) => {
                self.line.send(&self.request.get(&self.path)).await?;
                success(&self.line.head().await?)
            }
            Probe::Discover(_) => self.discover().await,
            Probe::Ping(_) => self.ping().await,
        }
    }

    async fn discover(&mut self) -> Result<(), Trouble> {
        let message = mcp::discover(VERSION);
        let head = self.open(|request, path| request.modern(path, "server/discover", &message)).await?;
        match self.reply(&head, mcp::DISCOVER).await? {
            Reply::Error { code, .. } if mcp::knows_other_versions(code) => Ok(()),
            reply => {
                let found = result_of(&head, reply)?;
                mcp::is_discovery(&found).then_some(()).ok_or_else(|| not_mcp("no result of server/discover"))
            }
        }
    }

    /// `initialize`, `notifications/initialized`, `ping`. The session is closed in the [`Farewell`].
    async fn ping(&mut self) -> Result<(), Trouble> {
        let message = mcp::initialize(VERSION);
        self.expects_session = true;
        let head = self.open(|request, path| request.post(path, &message, None, None)).await;
        let head = self.begun(head)?;
        let result = result_of(&head, self.reply(&head, mcp::INITIALIZE).await?)?;
        let version = mcp::agreed_version(&result).ok_or_else(|| not_mcp("no result of initialize"))?;
        self.version = Some(version.to_owned());

        self.line.send(&self.next(&mcp::initialized())).await?;
        let head = self.line.head().await?;
        success(&head)?;
        self.line.body().await?;

        self.line.send(&self.next(&mcp::ping())).await?;
        let head = self.line.head().await?;
        result_of(&head, self.reply(&head, mcp::PING).await?).map(|_| ())
    }

    /// The answer to a first message; where the server only wants a slash more or less, that to the same message there, as a
    /// client's would be followed.
    async fn open(&mut self, message: impl Fn(&Request, &str) -> Vec<u8>) -> Result<Head, Trouble> {
        self.line.send(&message(&self.request, &self.path)).await?;
        let head = self.line.head().await?;
        let upstream = &*self.line.upstream;
        let base =
            Base { https: upstream.has_tls(), authority: self.request.host.clone(), prefix: String::new() };
        let location = text(&head.1, "location").unwrap_or_default();
        match should_follow(head.0, location, &self.path, Ours { base: &base, peers: upstream }) {
            None => Ok(head),
            Some(path) => {
                self.path = path;
                self.line.body().await?;
                self.line.send(&message(&self.request, &self.path)).await?;
                self.line.head().await
            }
        }
    }

    /// `initialize` was answered: from here on the session is known, if there is one.
    fn begun(&mut self, head: Result<Head, Trouble>) -> Result<Head, Trouble> {
        // No head means no connection either: nobody will tell us of a session any more.
        self.expects_session = false;
        let head = head?;
        if (200..300).contains(&head.0) {
            self.session = text(&head.1, "mcp-session-id").filter(|id| !id.is_empty()).map(str::to_owned);
        }
        Ok(head)
    }

    /// A later request of the session.
    fn next(&self, body: &str) -> Vec<u8> {
        self.request.post(&self.path, body, self.session.as_deref(), self.version.as_deref())
    }

    /// The status of the answer to a request.
    async fn answer(&mut self, request: &[u8]) -> Result<u16, Trouble> {
        self.line.send(request).await?;
        self.line.head().await.map(|(status, _)| status)
    }

    /// What the answer to request `id` says, whatever its status.
    async fn reply(&mut self, (status, headers): &Head, id: u64) -> Result<Reply, Trouble> {
        let kind = text(headers, "content-type").unwrap_or_default().to_ascii_lowercase();
        if kind.starts_with("text/event-stream") {
            return self.line.event(id).await;
        }
        let body = self.line.body().await?;
        match mcp::reply(&body, id) {
            Reply::Other | Reply::NotMcp if (200..300).contains(status) => {
                Err(not_mcp(format!("an answer of type {kind:?}")))
            }
            reply => Ok(reply),
        }
    }
}

/// The result that an answer brings. An error says more than a status, and a status more than a body that is no MCP.
fn result_of(head: &Head, reply: Reply) -> Result<Value, Trouble> {
    match reply {
        Reply::Error { code, message } => {
            let words: String = message.chars().filter(|char| !char.is_control()).take(200).collect();
            Err(Trouble::new(Reason::McpError, format!("HTTP {}, error {code}: {words}", head.0)))
        }
        Reply::Result(result) => success(head).map(|()| result),
        Reply::Other | Reply::NotMcp => {
            success(head)?;
            Err(not_mcp("an answer that is none"))
        }
    }
}

fn success((status, _): &Head) -> Result<(), Trouble> {
    match status {
        200..300 => Ok(()),
        _ => Err(Trouble::new(Reason::WrongStatus, format!("HTTP {status}"))),
    }
}

fn not_mcp(words: impl Into<String>) -> Trouble {
    Trouble::new(Reason::NotMcp, words)
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
