//! The admin listener: what an operator and the machinery around a sidecar ask this process about itself.
//! Takes plain requests on an address of its own, gives text or JSON; one file for each page.
//! Surprise: while generations overlap, any that still accepts may answer.

mod generations;
mod metrics;
mod ready;
mod upstreams;

use std::sync::Arc;

use async_trait::async_trait;
use http::{Response, StatusCode, header};
use pingora_core::apps::http_app::ServeHttp;
use pingora_core::protocols::http::ServerSession;
use pingora_http::RequestHeader;
use serde_json::Value;

use crate::app::App;
use crate::supervisor::control;
use metrics::Metrics;

pub struct Admin {
    app: Arc<App>,
    supervisor: Arc<control::Worker>,
    generation: u64,
    metrics: Metrics,
}

impl Admin {
    /// Fails only where two metrics have one name.
    pub fn new(
        app: Arc<App>,
        supervisor: Arc<control::Worker>,
        generation: u64,
    ) -> Result<Self, prometheus::Error> {
        let metrics = Metrics::new(generation, app.registry.kind(), &app.certificates)?;
        Ok(Self { app, supervisor, generation, metrics })
    }

    async fn page(&self, request: &RequestHeader) -> Page {
        match request.uri.path() {
            "/livez" => Page::text(StatusCode::OK, "ok\n"),
            "/readyz" => self.readyz().await,
            "/metrics" => self.metrics(metrics::format(field(request, header::ACCEPT))).await,
            "/upstreams" => self.upstreams(),
            "/generations" => self.generations(),
            _ => {
                let pages = "here are /livez, /readyz, /metrics, /upstreams and /generations\n";
                Page::text(StatusCode::NOT_FOUND, pages)
            }
        }
    }
}

/// An answer of the admin listener.
struct Page {
    status: StatusCode,
    content_type: &'static str,
    body: String,
}

impl Page {
    fn text(status: StatusCode, body: impl Into<String>) -> Self {
        Self { status, content_type: "text/plain", body: body.into() }
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
        let Page { status, content_type, body } = self.page(session.req_header()).await;
        let mut response = Response::new(body.into_bytes());
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
        let length = header::HeaderValue::from(response.body().len());
        response.headers_mut().insert(header::CONTENT_LENGTH, length);
        response
    }
}
