//! Tracing: a request's rooms as OpenTelemetry spans, its place in a trace that others began, and the way of both to a collector.
//! Takes the variables OTEL_* (`settings`), a request's `traceparent` (`context`) and, room by room, a guard; gives spans to the exporter's
//! thread (`queue`, `collector`). Surprise: where tracing is off, a request's [`Trace`] is empty, every call here ends at its first branch, and the
//! fields of a trace pass as they came.

mod collector;
pub mod context;
mod queue;
pub mod settings;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, Tracer, TracerProvider,
};
use opentelemetry::{Context, InstrumentationScope, KeyValue, Value};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span, SpanExporter as _};

use crate::material::Shelf;
use collector::Collector;
use context::{TRACEPARENT, TRACESTATE};
pub use queue::Counts;
use queue::Queue;
use settings::Settings;

/// How long the end of a generation waits for the collector.
const LAST: Duration = Duration::from_secs(2);

/// Tracing of one generation.
pub struct Tracing {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Tracing {
    /// # Errors
    /// Why there will be no traces.
    pub fn open(
        settings: &Settings,
        generation: u64,
        counts: Counts,
        shelf: &mut Shelf,
    ) -> Result<Self, String> {
        let resource = resource(generation);
        let mut exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Collector::new(settings, shelf)?)
            .with_endpoint(settings.endpoint.to_string())
            .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
            .with_timeout(settings.timeout)
            .build()
            .map_err(|error| error.to_string())?;
        exporter.set_resource(&resource);
        let queue = Queue::start(settings, exporter, counts).map_err(|error| error.to_string())?;
        let provider =
            SdkTracerProvider::builder().with_resource(resource).with_span_processor(queue).build();
        let scope = InstrumentationScope::builder("outrigger").with_version(env!("CARGO_PKG_VERSION"));
        let tracer = provider.tracer_with_scope(scope.build());
        Ok(Self { provider, tracer })
    }

    /// The span of a request that came in, as a part of the trace that it names.
    pub fn begin(&self, fields: &HeaderMap) -> Trace {
        let values = |name| fields.get_all(name).iter().map(|value| value.as_bytes());
        let parent = context::parent(values(TRACEPARENT), values(TRACESTATE));
        let builder = SpanBuilder::from_name("request").with_kind(SpanKind::Server);
        let span = self.tracer.build_with_context(builder, &under(parent));
        let state = State { inside: span.span_context().clone(), request: Some(span) };
        Trace(Some(Arc::new(Active { tracer: self.tracer.clone(), state: Mutex::new(state) })))
    }

    /// Gives the collector what there is, at the end of the process. One that does not take it is not waited for.
    pub fn close(&self) {
        if let Err(error) = self.provider.shutdown_with_timeout(LAST) {
            log::warn!("the last spans are lost: {error}");
        }
    }
}

/// OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES go before what we say ourselves.
fn resource(generation: u64) -> Resource {
    let number = i64::try_from(generation).unwrap_or(i64::MAX);
    let ours = Resource::builder_empty()
        .with_attribute(KeyValue::new("service.name", "outrigger"))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("outrigger.generation", number));
    let theirs = Resource::builder().build();
    let unknown = |value: &Value| value.as_str().starts_with("unknown_service");
    let said = theirs.iter().filter(|(key, value)| key.as_str() != "service.name" || !unknown(value));
    ours.with_attributes(said.map(|(key, value)| KeyValue::new(key.clone(), value.clone()))).build()
}

fn under(parent: Option<SpanContext>) -> Context {
    match parent {
        Some(parent) => Context::new().with_remote_span_context(parent),
        None => Context::new(),
    }
}

/// The trace of one request; empty where tracing is off.
#[derive(Default)]
pub struct Trace(Option<Arc<Active>>);

struct Active {
    tracer: SdkTracer,
    state: Mutex<State>,
}

struct State {
    /// The span that was entered last and not left.
    inside: SpanContext,
    /// `None`: it has ended.
    request: Option<Span>,
}

impl Active {
    /// A request is worked on by one task; nobody ever waits here.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What goes along with a request, so that who gets it can continue the trace.
pub struct Carried {
    pub traceparent: String,
    /// Empty = there is none.
    pub tracestate: String,
}

impl Carried {
    /// As fields in HTTP/1.1 wire form. Gives the place of the span's id.
    pub fn write(&self, wire: &mut Vec<u8>) -> usize {
        if !self.tracestate.is_empty() {
            wire.extend_from_slice(format!("{TRACESTATE}: {}\r\n", self.tracestate).as_bytes());
        }
        wire.extend_from_slice(format!("{TRACEPARENT}: ").as_bytes());
        let at = wire.len() + context::SPAN_ID_AT;
        wire.extend_from_slice(self.traceparent.as_bytes());
        wire.extend_from_slice(b"\r\n");
        at
    }
}

impl Trace {
    /// Enters a room; it is left when the guard goes.
    pub fn room(&self, name: &'static str) -> Room {
        self.enter(name, SpanKind::Internal)
    }

    /// Asks somebody else, who may continue the trace from here.
    pub fn client(&self, name: &'static str) -> Room {
        self.enter(name, SpanKind::Client)
    }

    fn enter(&self, name: &'static str, kind: SpanKind) -> Room {
        let Some(active) = &self.0 else { return Room(None) };
        let mut state = active.state();
        // What is not sampled has no rooms, but may still have to be told apart by who is asked.
        if !state.inside.is_sampled() && kind == SpanKind::Internal {
            return Room(None);
        }
        let builder = SpanBuilder::from_name(name).with_kind(kind);
        let span = active.tracer.build_with_context(builder, &under(Some(state.inside.clone())));
        let outer = std::mem::replace(&mut state.inside, span.span_context().clone());
        drop(state);
        Room(Some(Box::new(Entered { active: active.clone(), outer, span })))
    }

    /// `None`: tracing is off, and what came passes as it is.
    pub fn carried(&self) -> Option<Carried> {
        let active = self.0.as_ref()?;
        let inside = active.state().inside.clone();
        Some(Carried {
            traceparent: context::traceparent(&inside),
            tracestate: inside.trace_state().header(),
        })
    }

    /// Of the span that was entered last, 16 hex digits.
    pub fn span_id(&self) -> Option<String> {
        let active = self.0.as_ref()?;
        let id = active.state().inside.span_id().to_string();
        Some(id)
    }

    /// For the access line.
    pub fn id(&self) -> Option<String> {
        let active = self.0.as_ref()?;
        let id = active.state().inside.trace_id().to_string();
        Some(id)
    }

    /// Ends the request's span. `describe`: asked only where somebody will read it.
    pub fn close(&self, describe: impl FnOnce(&mut Room)) {
        let Some(active) = &self.0 else { return };
        let Some(span) = active.state().request.take() else { return };
        if span.is_recording() {
            let outer = SpanContext::empty_context();
            describe(&mut Room(Some(Box::new(Entered { active: active.clone(), outer, span }))));
        }
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Trace(on)" } else { "Trace(off)" })
    }
}

/// A span that lasts for as long as this lives. The default is no span.
#[derive(Default)]
pub struct Room(Option<Box<Entered>>);

struct Entered {
    active: Arc<Active>,
    outer: SpanContext,
    span: Span,
}

impl Room {
    /// Whether anybody will read what is set here.
    pub fn is_open(&self) -> bool {
        self.0.as_ref().is_some_and(|entered| entered.span.is_recording())
    }

    pub fn rename(&mut self, name: &'static str) {
        if let Some(entered) = &mut self.0 {
            entered.span.update_name(name);
        }
    }

    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(entered) = &mut self.0 {
            entered.span.set_attribute(KeyValue::new(key, value));
        }
    }

    /// Says what went wrong, by its kind: a sentence might hold what nobody else may read.
    pub fn fail(&mut self, kind: &'static str) {
        if let Some(entered) = &mut self.0 {
            entered.span.set_attribute(KeyValue::new("error.type", kind));
            entered.span.set_status(Status::error(kind));
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.active.state().inside = std::mem::replace(&mut self.outer, SpanContext::NONE);
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Room(entered)" } else { "Room(none)" })
    }
}
