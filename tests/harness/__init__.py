"""The harness: real processes on free ports, waited for and ended by pid.

Run the tests with `make test`, or, after `tests/setup/setup.sh`, some of them with

    OUTRIGGER_BIN=target/release/outrigger .venvs/harness/bin/pytest tests/test_relay.py -k resume

One file per behaviour, `tests/test_*.py`. A test gets its world from fixtures (tests/conftest.py):

    def test_a_reset_before_the_head_is_a_502(outrigger, raw_upstream):
        upstream = raw_upstream(lambda c: (c.read_request(), c.reset()))
        world = outrigger([upstream.address], {"timeouts": {"first_byte": "2s"}})
        with world.client() as client:
            answer = client.ask("POST", "/mcp", b'{"jsonrpc":"2.0","id":7,"method":"tools/list"}', JSON)
        assert answer.status == 502 and answer.json["id"] == 7

- `outrigger(peers, config)` writes a YAML file (`config` is merged over the defaults of outrigger.Outrigger), starts
  the binary and waits for /readyz. The object has `.url` and `.address` (first listener), `.admin` (URL),
  `.reload(changes)`, `.worker_pids()`, `.log()`, `.access_log()`, `.metrics()`, `.stop()` (asserts exit code 0) and
  `.client()` (a RawClient).
- `raw_upstream(*scripts, tls=None)` gives a raw.RawUpstream: connection n runs script n, the last serves the rest. A
  script takes a raw.Connection and says what happens, in order: `read_request()`, `read_exactly(5)`, `send(bytes)`,
  `send_slowly(bytes)`, `finish_sending()`, `reset()`, `wait_closed()`. `answering(response(200, {...}))` and
  `result_for_each` are ready-made scripts. Afterwards `upstream.requests` are the messages (head as bytes, headers in
  order and case, body), `upstream.connections[n].received` the exact bytes, `.closed_at` the moment the other end
  closed (seen only by a script that reads: end with `wait_closed()`).
- http1 builds and reads messages to the letter: `request`, `response`, `event_stream_head`, `event`, `chunk`,
  `LAST_CHUNK`.
- `start(name, argv)` runs any other process and ends it; its output is shown when the test fails.
- `pki` issues certificates: `pki.issue("localhost").as_config()`, `pki.ca`, `pki.server_context(...)`,
  `pki.client_context(...)`.
- Whatever of a secret's kind the harness hands out or sees is looked for in every log (harness.secrets).
- `wait_until(condition, patience)` instead of a sleep; patience is 30 s unless $OUTRIGGER_TEST_PATIENCE says otherwise.
- `redis_server(...)`, `sentinels`, `redis_cluster`: real Redis (harness.redis). `members(redis, [[peer], …])` are
  Outriggers that share one (harness.members), on a loopback address each or in `namespaces` (harness.places).
- `mcp_server(kind)` starts two real MCP servers (harness.mcp.SERVER_KINDS, tests/servers); harness.mcp.SdkClient is
  a real SDK client (tests/clients), harness.mcp.McpSession a session whose every request can go somewhere else.

A busy machine is no fault of Outrigger's. Where chance decides, a test goes on until it has (`wait_until`), not for so
many tries. What is counted or logged is awaited. A bound in seconds lies far below whatever else could end the wait,
and far above what a busy machine adds; a promise in milliseconds is kept by the median of several. Within a time-out of
Outrigger's something must succeed only if it is a second or more.
"""

from . import plain
from .http1 import LAST_CHUNK, Closed, Message, chunk, event, event_stream_head, request, response
from .outrigger import Outrigger
from .pki import Identity, Pki
from .ports import free_port
from .processes import Process
from .raw import Connection, RawClient, RawUpstream, answering, refuses, result_for_each
from .waiting import PATIENCE, wait_until

#: Headers of a Streamable HTTP POST.
JSON = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
#: A result that is right for `initialize` and for `tools/call`.
ANY_RESULT = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "serverInfo": {"name": "s", "version": "1"},
    "content": [],
}

__all__ = [
    "ANY_RESULT",
    "JSON",
    "LAST_CHUNK",
    "PATIENCE",
    "Closed",
    "Connection",
    "Identity",
    "Message",
    "Outrigger",
    "Pki",
    "Process",
    "RawClient",
    "RawUpstream",
    "answering",
    "chunk",
    "event",
    "event_stream_head",
    "free_port",
    "plain",
    "refuses",
    "request",
    "response",
    "result_for_each",
    "wait_until",
]
