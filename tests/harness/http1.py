"""HTTP/1.1 as bytes: reading messages off a raw socket without correcting them, and building them to the letter."""

import json
from dataclasses import dataclass, field

from . import secrets


class Closed(Exception):  # noqa: N818 - an end is not always an error
    """The other end closed or reset before what was waited for had come; `got` is what came."""

    def __init__(self, got: bytes, reset: bool):
        super().__init__(f"{'reset' if reset else 'closed'} after {len(got)} bytes: {got[-200:]!r}")
        self.got = got
        self.reset = reset


@dataclass
class Message:
    """A request or an answer as it lay on the wire.

    `start` is the first line, `headers` keeps order, case and duplicates, `raw_head` ends with the blank line,
    `body` is decoded from chunks, `trailers` follow the last chunk.
    """

    start: str
    headers: list[tuple[str, str]]
    raw_head: bytes
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)

    @property
    def method(self) -> str:
        return self.start.split(" ")[0]

    @property
    def path(self) -> str:
        return self.start.split(" ")[1]

    @property
    def status(self) -> int:
        return int(self.start.split(" ")[1])

    def header(self, name: str) -> str | None:
        """Value of the only header of this name; None if there is none; AssertionError if there are several."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} comes {len(values)} times: {values}"
        return values[0] if values else None

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    @property
    def json(self):
        return json.loads(self.body)


def parse_head(raw: bytes) -> Message:
    """`raw` up to and with the blank line; bytes outside ASCII survive as latin-1."""
    lines = raw.decode("latin-1").split("\r\n")
    headers = [(name, value.strip(" \t")) for name, _, value in (line.partition(":") for line in lines[1:] if line)]
    secrets.note_head(lines[0], headers)
    return Message(lines[0], headers, raw)


def request(method: str, path: str, body: bytes = b"", headers: dict | list = (), host: str = "localhost") -> bytes:
    """A request with Host and, for a body or a POST, Content-Length, unless `headers` brings its own framing."""
    pairs = list(headers.items()) if isinstance(headers, dict) else list(headers)
    names = {name.lower() for name, _ in pairs}
    if "host" not in names:
        pairs.insert(0, ("Host", host))
    if (body or method == "POST") and not names & {"content-length", "transfer-encoding"}:
        pairs.append(("Content-Length", str(len(body))))
    return _head(f"{method} {path} HTTP/1.1", pairs) + body


def response(status: int, body: bytes | str | dict | list = b"", headers: dict | list = (), reason: str = "X") -> bytes:
    """An answer with Content-Length; a dict or list goes as application/json, unless `headers` says otherwise."""
    pairs = list(headers.items()) if isinstance(headers, dict) else list(headers)
    names = {name.lower() for name, _ in pairs}
    if isinstance(body, dict | list):
        body = json.dumps(body)
        if "content-type" not in names:
            pairs.append(("Content-Type", "application/json"))
    body = body.encode() if isinstance(body, str) else body
    bodiless = status < 200 or status in (204, 304)
    if not bodiless and not names & {"content-length", "transfer-encoding"}:
        pairs.append(("Content-Length", str(len(body))))
    return _head(f"HTTP/1.1 {status} {reason}", pairs) + body


def event_stream_head(headers: dict | list = ()) -> bytes:
    """Head of a chunked text/event-stream answer; what follows goes through `chunk`, the end is `LAST_CHUNK`."""
    pairs = list(headers.items()) if isinstance(headers, dict) else list(headers)
    return _head(
        "HTTP/1.1 200 OK",
        [
            ("Content-Type", "text/event-stream"),
            ("Cache-Control", "no-cache"),
            ("Transfer-Encoding", "chunked"),
            *pairs,
        ],
    )


def event(data: str | dict, id: str | None = None, name: str | None = None) -> bytes:
    """One server-sent event."""
    data = json.dumps(data) if isinstance(data, dict) else data
    lines = [f"id: {id}"] if id is not None else []
    lines += [f"event: {name}"] if name is not None else []
    lines += [f"data: {line}" for line in data.split("\n")]
    return ("\n".join(lines) + "\n\n").encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"


def _head(start: str, pairs: list) -> bytes:
    secrets.note_head(start, pairs)
    return "".join([start, "\r\n", *(f"{name}: {value}\r\n" for name, value in pairs), "\r\n"]).encode("latin-1")
