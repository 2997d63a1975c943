//! The admin listener: what an operator and the machinery around a sidecar ask this process about itself.
//! Takes plain requests on an address of its own, gives text or JSON; one file for each page, `access` says who may see it.
//! Surprise: while generations overlap, any that still accepts may answer.

mod access;
mod attention;
mod certificates;
mod generations;
mod metrics;
mod page;
mod ready;
mod sessions;
mod status;
mod upstreams;

use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use http::{HeaderValue, Method, Response, StatusCode, header};
use log::LevelFilter;
use pingora_core::apps::http_app::ServeHttp;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_http::RequestHeader;
use serde_json::{Value, json};

use crate::app::App;
use crate::config;
use crate::supervisor::control::{self, Report, Start};
use access::{Access, Asked};
use metrics::Metrics;

/// What a new log level is written in, at most.
const MOST_BODY: usize = 64;

pub struct Admin {
    app: Arc<App>,
    supervisor: Arc<control::Worker>,
    generation: u64,
    access: Access,
    metrics: Metrics,
    /// Name and text of the configuration file.
    config: (String, String),
}

impl Admin {
    /// Fails only where two metrics have one name.
    pub fn new(
        app: Arc<App>,
        supervisor: Arc<control::Worker>,
        start: &Start,
    ) -> Result<Self, prometheus::Error> {
        let generation = start.generation;
        let metrics = Metrics::new(generation, app.registry.kind(), &app.certificates)?;
        let config = (start.file.clone(), start.config.clone());
        Ok(Self { app, supervisor, generation, access: Access::default(), metrics, config })
    }

    async fn page(&self, session: &mut ServerSession) -> Page {
        let request = session.req_header();
        if let Err((status, sentence)) = self.admit(session) {
            return Page::text(status, sentence);
        }
        match request.uri.path() {
            "/" => page::page(),
            "/status" => self.status().await,
            "/livez" => Page::text(StatusCode::OK, "ok\n"),
            "/startupz" => self.startupz(),
            "/readyz" => self.readyz().await,
            "/metrics" => self.metrics(metrics::format(field(request, header::ACCEPT))).await,
            "/upstreams" => self.upstreams(),
            "/generations" => self.generations(),
            "/config" => self.config(),
            "/log-level" => self.log_level(session).await,
            path => match path.strip_prefix("/sessions/") {
                Some(id) if !id.is_empty() => self.session(id, request.uri.query()).await,
                _ => Page::text(StatusCode::NOT_FOUND, PAGES),
            },
        }
    }

    fn admit(&self, session: &ServerSession) -> Result<(), (StatusCode, &'static str)> {
        let request = session.req_header();
        let loopback = |address: Option<&SocketAddr>| {
            address
                .and_then(SocketAddr::as_inet)
                .is_some_and(|address| address.ip().to_canonical().is_loopback())
        };
        let hosts = request.headers.get_all(header::HOST).iter();
        // What is no text is no name of ours.
        let hosts: Vec<&str> = hosts.map(|host| host.to_str().unwrap_or("?")).collect();
        self.access.check(&Asked {
            method: &request.method,
            path: request.uri.path(),
            hosts: &hosts,
            loopback: loopback(session.client_addr()) && loopback(session.server_addr()),
        })
    }

    /// As it is in force, though the file may have changed since.
    fn config(&self) -> Page {
        let (file, text) = &self.config;
        let body = json!({ "file": file, "generation": self.generation, "config": config::shown(text) });
        Page::json(StatusCode::OK, &body)
    }

    /// Reads it, or with PUT changes it in all processes until the next reload.
    async fn log_level(&self, session: &mut ServerSession) -> Page {
        if session.req_header().method == Method::PUT {
            let mut body = Vec::new();
            while let Ok(Some(bytes)) = session.read_request_body().await {
                body.extend_from_slice(&bytes);
                if body.len() > MOST_BODY {
                    break;
                }
            }
            let word = std::str::from_utf8(&body).unwrap_or("").trim();
            let Ok(level) = LevelFilter::from_str(word) else {
                return Page::text(StatusCode::BAD_REQUEST, "off, error, warn, info, debug or trace\n");
            };
            if let Err(error) = self.supervisor.report(&Report::LogLevel(level)) {
                return Page::text(
                    StatusCode::SERVICE_UNAVAILABLE,
                    format!("the supervisor cannot be told: {error}\n"),
                );
            }
            return Page::text(StatusCode::OK, format!("{}\n", level.as_str().to_lowercase()));
        }
        Page::text(StatusCode::OK, format!("{}\n", log::max_level().as_str().to_lowercase()))
    }
}

const PAGES: &str = "here are /, /status, /livez, /readyz, /startupz, /metrics, /generations, /upstreams, /config, /sessions/ID and /log-level\n";

/// An answer of the admin listener.
struct Page {
    status: StatusCode,
    content_type: &'static str,
    body: String,
}

impl Page {
    fn text(status: StatusCode, body: impl Into<String>) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: body.into() }
    }

    fn json(status: StatusCode, body: &Value) -> Self {
        Self { status, content_type: "application/json", body: format!("{body}\n") }
    }
}

/// A field that is there once.
fn field(request: &RequestHeader, name: header::HeaderName) -> Option<&str> {
    let mut values = request.headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())?.to_str().ok()
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let Page { status, content_type, body } = self.page(session).await;
        let length = body.len();
        let mut response = Response::new(body.into_bytes());
        if session.req_header().method == Method::HEAD {
            response.body_mut().clear();
        }
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(page::policy()));
        headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
        response
    }
}
