//! Between the workers, who end spans and never wait, and the collector, which may take its time.
//! Takes ended spans, gives them in batches to the exporter, on a thread and a runtime of its own. Surprise: nothing is kept for a collector that
//! is away for longer than an export may take. The queue is bounded, what does not fit is counted, and a trace is worth less than a request.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use opentelemetry::Context;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter as _, SpanProcessor};
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use tokio::runtime::{Builder, Runtime};

use super::settings::Settings;

/// Shuts the SDK's way in; the thread ends when the last of these is gone.
#[derive(Debug)]
pub struct Queue {
    orders: SyncSender<Order>,
    overflow: IntCounter,
}

#[derive(Debug)]
enum Order {
    Span(Box<SpanData>),
    /// Send what there is, then say so.
    Flush(SyncSender<()>),
}

/// What became of the spans.
#[derive(Clone)]
pub struct Counts {
    exported: IntCounter,
    overflow: IntCounter,
    failed: IntCounter,
}

impl Counts {
    /// Fails only where two metrics have one name.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let exported =
            IntCounter::new("outrigger_spans_exported_total", "Spans that the trace collector took")?;
        let lost = IntCounterVec::new(
            Opts::new("outrigger_spans_dropped_total", "Spans that no trace collector took, by reason"),
            &["reason"],
        )?;
        registry.register(Box::new(exported.clone()))?;
        registry.register(Box::new(lost.clone()))?;
        let [overflow, failed] =
            ["queue_full", "export_failed"].map(|reason| lost.with_label_values(&[reason]));
        Ok(Self { exported, overflow, failed })
    }
}

impl Queue {
    /// Starts the thread that exports.
    ///
    /// # Errors
    /// If the machine has none to give.
    pub fn start(settings: &Settings, exporter: SpanExporter, counts: Counts) -> std::io::Result<Self> {
        let (orders, received) = sync_channel(settings.queue);
        let overflow = counts.overflow.clone();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (batch, delay) = (settings.batch, settings.delay);
        let export = Export { runtime, exporter, timeout: settings.timeout, counts };
        std::thread::Builder::new()
            .name("traces".into())
            .spawn(move || export.run(&received, batch, delay))?;
        Ok(Self { orders, overflow })
    }

    fn flush(&self, patience: Duration) -> OTelSdkResult {
        let (done, heard) = sync_channel(1);
        let until = Instant::now() + patience;
        let mut order = Order::Flush(done);
        // A full queue is being worked on; this is said at the end of a process only, where waiting harms nobody.
        while let Err(refused) = self.orders.try_send(order) {
            let TrySendError::Full(refused) = refused else { return Err(OTelSdkError::AlreadyShutdown) };
            if Instant::now() >= until {
                return Err(OTelSdkError::Timeout(patience));
            }
            order = refused;
            std::thread::park_timeout(Duration::from_millis(10));
        }
        let left = until.saturating_duration_since(Instant::now());
        heard.recv_timeout(left).map_err(|_| OTelSdkError::Timeout(patience))
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.orders.try_send(Order::Span(Box::new(span))).is_err() {
            self.overflow.inc();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.flush(Duration::from_secs(30))
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.flush(timeout)
    }
}

/// The thread's own.
struct Export {
    runtime: Runtime,
    exporter: SpanExporter,
    timeout: Duration,
    counts: Counts,
}

impl Export {
    fn run(&self, orders: &Receiver<Order>, most: usize, delay: Duration) {
        let mut batch = Vec::with_capacity(most);
        let mut due = None;
        loop {
            let wait = due.map(|due: Instant| due.saturating_duration_since(Instant::now()));
            let order = match wait {
                Some(wait) => orders.recv_timeout(wait),
                None => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let mut flushed = None;
            match order {
                Ok(Order::Span(span)) => {
                    due.get_or_insert_with(|| Instant::now() + delay);
                    batch.push(*span);
                    if batch.len() < most {
                        continue;
                    }
                }
                Ok(Order::Flush(done)) => flushed = Some(done),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.export(std::mem::take(&mut batch)),
            }
            self.export(std::mem::replace(&mut batch, Vec::with_capacity(most)));
            due = None;
            if let Some(done) = flushed {
                // Whoever asked may have lost patience.
                let _ = done.try_send(());
            }
        }
    }

    fn export(&self, batch: Vec<SpanData>) {
        if batch.is_empty() {
            return;
        }
        let spans = batch.len() as u64;
        let exporting = async { tokio::time::timeout(self.timeout, self.exporter.export(batch)).await };
        match self.runtime.block_on(exporting) {
            Ok(Ok(())) => self.counts.exported.inc_by(spans),
            Ok(Err(error)) => self.failed(spans, &error.to_string()),
            Err(_) => self.failed(spans, "no answer in time"),
        }
    }

    fn failed(&self, spans: u64, reason: &str) {
        self.counts.failed.inc_by(spans);
        log::warn!("{spans} spans are lost: the trace collector did not take them: {reason}");
    }
}
