//! The way to the collector: one HTTP/1.1 request over a connection of its own, for each export.
//! Takes the exporter's requests, gives the collector's answers. Surprise: it is no client library but the peers that upstreams are reached by,
//! so that a collector's TLS is what an upstream's is.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use http::header;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use pingora_core::connectors::TransportConnector;
use pingora_core::protocols::http::v1::client::HttpSession as Http1;
use pingora_http::RequestHeader;

use super::settings::Settings;
use crate::material::Shelf;
use crate::upstream::dial::{Dialer, Timeouts};
use crate::upstream::trust::Trust;

/// Longest answer that is read; what a collector has to say is short.
const LONGEST: usize = 64 * 1024;

pub struct Collector {
    host: String,
    port: u16,
    dialer: Dialer,
}

impl Collector {
    /// # Errors
    /// What is wrong with its certificates.
    pub fn new(settings: &Settings, shelf: &mut Shelf) -> Result<Self, String> {
        let tls = settings.tls.as_ref();
        let trust = tls.map(|tls| Trust::load(tls, "the trace collector", shelf)).transpose()?;
        let default = if trust.is_some() { 443 } else { 80 };
        let timeout = settings.timeout;
        let timeouts =
            Timeouts { connect: timeout, connect_total: timeout, write: timeout, idle: Duration::ZERO };
        Ok(Self {
            host: settings.endpoint.host().unwrap_or_default().trim_matches(['[', ']']).to_owned(),
            port: settings.endpoint.port_u16().unwrap_or(default),
            dialer: Dialer { trust, timeouts, connector: Arc::new(TransportConnector::new(None)) },
        })
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (mut parts, body) = request.into_parts();
        let host = parts.uri.authority().map_or(self.host.as_str(), |authority| authority.as_str());
        // A password in the URL is not the collector's name.
        let host = host.rsplit('@').next().unwrap_or(host).to_owned();
        parts.headers.insert(header::HOST, host.parse()?);
        parts.headers.insert(header::CONTENT_LENGTH, body.len().into());
        parts.headers.insert(header::CONNECTION, header::HeaderValue::from_static("close"));
        parts.uri = parts.uri.path_and_query().map_or("/", |path| path.as_str()).parse()?;
        let address = tokio::net::lookup_host((self.host.as_str(), self.port)).await?.next();
        let stream = self.dialer.connect(address.ok_or("its name has no address")?).await?;
        let mut http = Http1::new(stream);
        http.write_request_header(Box::new(RequestHeader::from(parts))).await?;
        http.write_body(&body).await?;
        http.finish_body().await?;
        loop {
            http.read_response().await?;
            if http.get_status().is_some_and(|status| !status.is_informational()) {
                break;
            }
        }
        let head = http.resp_header().ok_or("no head")?;
        let mut answer = Response::builder().status(head.status);
        if let Some(later) = head.headers.get(header::RETRY_AFTER) {
            answer = answer.header(header::RETRY_AFTER, later);
        }
        let mut content = BytesMut::new();
        while let Some(chunk) = http.read_body_bytes().await? {
            content.extend_from_slice(&chunk);
            if content.len() > LONGEST {
                return Err("its answer is too long".into());
            }
        }
        Ok(answer.body(content.freeze())?)
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sent = self.send(request).await;
        if let Err(error) = &sent {
            // The exporter tries again and, in the end, says no more than that there was an error.
            log::debug!("the trace collector at {}:{}: {error}", self.host, self.port);
        }
        sent
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Collector({}:{})", self.host, self.port)
    }
}
