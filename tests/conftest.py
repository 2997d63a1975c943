"""Fixtures: worlds made of real parts. How to use them stands in harness/__init__.py."""

import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from harness import Outrigger, Pki, Process, RawUpstream  # noqa: E402
from harness.collector import Collector  # noqa: E402
from harness.mcp import SERVER_KINDS, McpServers  # noqa: E402
from harness.members import Members  # noqa: E402
from harness.pki import Generated  # noqa: E402
from harness.places import Namespaces  # noqa: E402
from harness.processes import STARTED  # noqa: E402
from harness.raw import DIALLED  # noqa: E402
from harness.redis import Cluster, RedisServer, Sentinels  # noqa: E402
from harness.streams import Streams  # noqa: E402

# Whoever runs this may have had them ignored (`nohup`, a shell's background jobs), and children would inherit that.
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def pki(tmp_path_factory) -> Pki:
    """The certificate authority of this session."""
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="session")
def generated(tmp_path_factory) -> Generated:
    """What certs/generate.sh makes."""
    return Generated(tmp_path_factory.mktemp("generated"))


@pytest.fixture
def outrigger(tmp_path) -> Callable[..., Outrigger]:
    """Starts Outrigger: `outrigger([peer, ...], config)`; see harness.Outrigger."""
    with ExitStack() as ends:
        count = 0

        def make(peers=(), config=None, start=True) -> Outrigger:
            nonlocal count
            count += 1
            world = Outrigger(tmp_path / f"outrigger-{count}", peers, config, start=False)
            ends.callback(world.end)
            if start:
                world.start()
            return world

        yield make


@pytest.fixture
def raw_upstream() -> Callable[..., RawUpstream]:
    """Starts a scripted upstream: `raw_upstream(script, ...)`; a script's failed assertion fails the test."""
    with ExitStack() as ends:

        def make(*scripts, tls=None) -> RawUpstream:
            upstream = RawUpstream(*scripts, tls=tls)
            ends.callback(upstream.close)
            return upstream

        yield make


@pytest.fixture
def streams() -> Streams:
    """Script of an upstream whose event streams live until `streams.end()`."""
    streams = Streams()
    yield streams
    streams.end()


@pytest.fixture
def collector(monkeypatch) -> Collector:
    """A trace collector that every Outrigger of the test sends its spans to."""
    running = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", running.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    yield running
    running.close()


@pytest.fixture
def start(tmp_path) -> Callable[..., Process]:
    """Starts any process: `start(name, argv, env={...})`; it is ended with the test."""
    with ExitStack() as ends:

        def make(name, argv, **options) -> Process:
            process = Process(name, argv, tmp_path / "processes", **options)
            ends.callback(process.end)
            return process

        yield make


@pytest.fixture
def redis_server(tmp_path) -> Callable[..., RedisServer]:
    """Starts a Redis: `redis_server()`; see harness.redis.RedisServer for its options."""
    with ExitStack() as ends:
        count = 0

        def make(**options) -> RedisServer:
            nonlocal count
            count += 1
            server = RedisServer(tmp_path / f"redis-{count}", **options)
            ends.callback(server.end)
            return server

        yield make


@pytest.fixture
def sentinels(tmp_path) -> Sentinels:
    """A Redis master, its replica, and three sentinels."""
    running = Sentinels(tmp_path / "sentinels")
    yield running
    running.end()


@pytest.fixture
def redis_cluster(tmp_path) -> Cluster:
    """Three Redis masters that share the slots."""
    running = Cluster(tmp_path / "cluster")
    yield running
    running.end()


@pytest.fixture
def members(tmp_path) -> Callable[..., Members]:
    """Starts Outriggers that share a Redis: `members(redis, [[peer, ...], ...])`; see harness.members.Members."""
    with ExitStack() as ends:

        def make(*args, **options) -> Members:
            running = Members(tmp_path / "members", *args, **options)
            ends.callback(running.end)
            return running

        yield make


@pytest.fixture
def namespaces() -> Namespaces:
    """Places that can be cut off from each other."""
    if not Namespaces.permitted():
        pytest.skip("network namespaces need root, which this process is not")
    running = Namespaces()
    yield running
    running.end()


@pytest.fixture(scope="session")
def mcp_server(tmp_path_factory) -> Callable[..., McpServers]:
    """Two instances of a real MCP server: `mcp_server("python-v1")`; they live as long as the session."""
    with ExitStack() as ends:
        running = {}

        def make(kind: str) -> McpServers:
            if kind not in running:
                running[kind] = McpServers(SERVER_KINDS[kind], tmp_path_factory.mktemp(kind))
                ends.callback(running[kind].end)
            return running[kind]

        yield make


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows what its processes wrote."""
    report = (yield).get_result()
    if report.failed:
        for process in STARTED:
            if tail := process.log_tail():
                report.sections.append((f"log of {process.name}", tail))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item):
    """No client outlives its test."""
    while DIALLED:
        DIALLED.pop().close()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """What ended with an earlier test is no longer of interest."""
    STARTED[:] = [process for process in STARTED if process.running]
