//! The proxy: Pingora's view of Outrigger, one function call per filter.
//! Takes every request of a listener; room 2 sends MCP routes through the exchange and lets everything else pass (`pass`).
//! Surprise: an MCP route with an unusual method (OPTIONS, HEAD) passes through too; those carry no message and no session.

mod affinity;
mod classify;
mod document;
mod pass;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pingora_core::protocols::Digest;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};

use crate::account::{Counted, End, Record, RouteKind};
use crate::app::App;
use crate::error::Fault;
use crate::exchange;
use crate::exchange::public::client_cert;
use classify::Refusal;

/// Where a request comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// A listener of the settings, by its position.
    Listener(usize),
    /// The member listener.
    Member,
}

/// The requests of one door.
pub struct Proxy {
    app: Arc<App>,
    door: Door,
}

/// What is remembered of a request between filters.
pub struct Context {
    pub record: Record,
    pass: pass::Passing,
    /// Held until Pingora has finished with the request.
    _in_flight: Counted,
}

impl Proxy {
    pub fn new(app: Arc<App>, door: Door) -> Self {
        Self { app, door }
    }

    async fn refuse(&self, session: &mut Session, refusal: Refusal, record: &mut Record) -> Result<bool> {
        record.route = RouteKind::Refused;
        let Refusal { fault, is_message } = refusal;
        let refused = match is_message {
            true => exchange::refuse_message(session, &self.app, &fault, record).await,
            false => exchange::refuse(session, &self.app, &fault, record).await,
        };
        refused.map(|()| true)
    }
}

#[async_trait]
impl ProxyHttp for Proxy {
    /// Pingora moves it from hand to hand.
    type CTX = Box<Context>;

    fn new_ctx(&self) -> Box<Context> {
        Box::new(Context {
            record: Record::default(),
            pass: pass::Passing::default(),
            _in_flight: Counted::one(&self.app.counters.in_flight),
        })
    }

    async fn request_filter(&self, session: &mut Session, context: &mut Self::CTX) -> Result<bool> {
        let record = &mut context.record;
        record.method = session.req_header().method.clone();
        if let Some(tracing) = &self.app.tracing {
            record.trace = tracing.begin(&session.req_header().headers);
        }
        record.client = session.client_addr().and_then(|address| address.as_inet()).map(|inet| inet.ip());
        let Door::Listener(listener) = self.door else {
            return match affinity::of_member(&self.app, session.req_header(), record) {
                None => exchange::arrive(session, &self.app, record).await.map(|()| true),
                Some(Err(fault)) => exchange::refuse(session, &self.app, &fault, record).await.map(|()| true),
                Some(Ok(wanted)) => {
                    context.pass.wanted = wanted;
                    Ok(false)
                }
            };
        };
        record.client_cert = client_cert(session);
        let settings = self.app.listener(listener);
        let mut public = match classify::admit(session, &self.app, settings) {
            Ok(public) => public,
            Err(fault) => return self.refuse(session, fault.into(), record).await,
        };
        record.client = Some(public.origin.client);
        classify::take_off_prefix(session.req_header_mut(), &public)?;
        let Some(upstream) = classify::lead(session.req_header_mut(), &self.app, settings, &mut public)?
        else {
            return self.refuse(session, Fault::NoSuchPath.into(), record).await;
        };
        record.upstream = Some(upstream.id);
        match classify::classify(session.req_header(), &self.app, settings, &public) {
            Ok(Some(target)) => {
                record.route = target.kind();
                record.server_id.clone_from(&target.server_id);
                exchange::run(session, &self.app, (settings, upstream), &target, &public, record)
                    .await
                    .map(|()| true)
            }
            Ok(None) => {
                context.pass.wanted =
                    affinity::of_client(&self.app, upstream, session.req_header(), record).await;
                context.pass.public = Some(public);
                Ok(false)
            }
            Err(refusal) => self.refuse(session, refusal, record).await,
        }
    }

    async fn upstream_peer(&self, session: &mut Session, context: &mut Self::CTX) -> Result<Box<HttpPeer>> {
        pass::peer(session, &self.app, context).await
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        context: &mut Self::CTX,
        error: Box<Error>,
    ) -> Box<Error> {
        pass::connect_failed(&self.app, context, error)
    }

    async fn connected_to_upstream(
        &self,
        _: &mut Session,
        reused: bool,
        target: &HttpPeer,
        _: std::os::fd::RawFd,
        digest: Option<&Digest>,
        context: &mut Self::CTX,
    ) -> Result<()> {
        pass::connected(&self.app, context, reused, target, digest)
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        context: &mut Self::CTX,
    ) -> Result<()> {
        pass::request_head(session, &self.app, request, context)
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        _: &mut Option<Bytes>,
        end: bool,
        context: &mut Self::CTX,
    ) -> Result<()> {
        pass::request_body(session, &self.app, end, &context.record)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        context: &mut Self::CTX,
    ) -> Result<()> {
        pass::response_head(session, &self.app, head, context)
    }

    fn response_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        context: &mut Self::CTX,
    ) -> Result<Option<Duration>> {
        pass::response_body(&self.app, body, end, context);
        Ok(None)
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        context: &mut Self::CTX,
    ) -> FailToProxy {
        pass::fail(session, &self.app, error, &mut context.record).await
    }

    fn suppress_error_log(&self, _: &Session, context: &Self::CTX, _: &Error) -> bool {
        // The access line and our own warning tell it with the upstream's and the peer's name.
        context.record.client_gone || context.record.fault.is_some()
    }

    async fn logging(&self, session: &mut Session, _: Option<&Error>, context: &mut Self::CTX) {
        context.pass.leave();
        let answer = session.response_written().filter(|head| head.status != http::StatusCode::CONTINUE);
        let status = answer.map_or(0, |head| head.status.as_u16());
        let record = &context.record;
        let upstream = record.upstream.map(|id| self.app.upstream(id));
        let near = upstream.zip(record.peer).map(|(upstream, peer)| upstream.peers[peer].name.as_str());
        let end = End {
            listener: match self.door {
                Door::Listener(listener) => &self.app.listener(listener).name,
                Door::Member => "member",
            },
            upstream: upstream.map(|upstream| upstream.name.as_str()),
            peer: record.member_peer.as_deref().or(near),
            status,
            response_bytes: session.body_bytes_sent(),
        };
        context.record.close(&self.app.counters, &end);
    }
}
