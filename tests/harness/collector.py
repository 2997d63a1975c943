"""A trace collector: OTLP over HTTP with protobuf, decoded by OpenTelemetry's own classes."""

import gzip
import ssl
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as OtlpSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from .waiting import wait_until


@dataclass
class Span:
    """One span as it came; ids in hex, `kind` such as "SERVER", `error` whether its status says so."""

    trace: str
    id: str
    parent: str
    name: str
    kind: str
    attributes: dict
    resource: dict
    error: bool
    start: int
    end: int


@dataclass
class Export:
    """One request of an exporter, whatever it was answered."""

    path: str
    headers: dict[str, str]
    spans: list[Span]


class Collector:
    """Listens on 127.0.0.1. `statuses`: of its first answers, the last one of all others."""

    def __init__(self, *statuses: int, tls: ssl.SSLContext | None = None):
        self._statuses = list(statuses) or [200]
        self._may_answer = threading.Event()
        self._may_answer.set()
        self.exports: list[Export] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port: int = self._server.server_address[1]
        self.url = f"http{'s' if tls else ''}://{'localhost' if tls else '127.0.0.1'}:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def hold(self) -> None:
        """From now on it does not answer."""
        self._may_answer.clear()

    def close(self) -> None:
        self._may_answer.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def spans(self) -> list[Span]:
        """Of all exports, each span once: one that was refused comes again."""
        return list({span.id: span for export in self.exports for span in export.spans}.values())

    def wait(self, count: int) -> list[Span]:
        """The spans, once there are `count` of them; AssertionError if there are more."""
        wait_until(lambda: len(self.spans) >= count, what=f"{count} spans")
        spans = self.spans
        assert len(spans) == count, [span.name for span in spans]
        return spans

    def named(self, name: str, kind: str | None = None) -> list[Span]:
        """In the order in which they began."""
        found = [span for span in self.spans if span.name == name and kind in (None, span.kind)]
        return sorted(found, key=lambda span: span.start)

    def one(self, name: str, kind: str | None = None) -> Span:
        wait_until(lambda: self.named(name, kind), what=f"the span {name}")
        (span,) = self.named(name, kind)
        return span

    def _handler(collector):  # noqa: N805 - the handler's own self is another
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # noqa: N802 - http.server's name
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                if headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.exports.append(Export(self.path, headers, list(_spans(body))))
                status = collector._next_status()
                collector._may_answer.wait()
                answer = ExportTraceServiceResponse().SerializeToString() if status == 200 else b""
                self.send_response(status)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_) -> None:
                pass

        return Handler

    def _next_status(self) -> int:
        return self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]


def _spans(body: bytes):
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        about = _attributes(resource.resource.attributes)
        for scope in resource.scope_spans:
            assert scope.scope.name == "outrigger"
            for span in scope.spans:
                yield Span(
                    trace=span.trace_id.hex(),
                    id=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    name=span.name,
                    kind=OtlpSpan.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                    attributes=_attributes(span.attributes),
                    resource=about,
                    error=span.status.code == Status.STATUS_CODE_ERROR,
                    start=span.start_time_unix_nano,
                    end=span.end_time_unix_nano,
                )


def _attributes(pairs) -> dict:
    def value(of: AnyValue):
        return getattr(of, of.WhichOneof("value"))

    return {pair.key: value(pair.value) for pair in pairs}
