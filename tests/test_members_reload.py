"""P6 among members: one after the other is reloaded while clients call by all of them, and nobody notices."""

import json
import threading
from contextlib import ExitStack
from functools import partial

import httpx
import pytest

from chaos.scenario import Chaos
from harness import wait_until
from harness.mcp import SERVER_KINDS, McpServers
from harness.members import HOST


@pytest.mark.timeout(150)
def test_reloads_of_every_member_fail_no_call(tmp_path, pki):
    chaos = Chaos(tmp_path, pki, namespaces=None, seed=3)
    chaos.acts = [lambda _, number=number: chaos.reload(number) for number in (0, 1, 2, 1, 0)]
    try:
        history = chaos.run(seconds=10)
    finally:
        chaos.end()
    summary = history.summary()
    print(json.dumps(summary))
    assert history.violations() == []
    assert set(summary["answers"]) == {"200"}
    assert summary["disturbances"]["reload"] >= 5
    assert summary["hops"] > summary["calls"] / 3


def test_streams_over_the_hop_live_through_reloads_of_both_ends(members, redis_server, tmp_path, pki):
    servers = McpServers(SERVER_KINDS["python-v1"], tmp_path / "servers")
    with ExitStack() as ends:
        ends.callback(servers.end)
        two = members(redis_server(), [[peer] for peer in servers.peers], pki)
        # Of each one's sessions, by the other.
        heard = [Listener(two, owner, 1 - owner) for owner in (0, 1, 0, 1)]
        for listener in heard:
            ends.callback(listener.close)
            listener.hears_the_next()
        for number in (0, 1, 0):
            two[number].reload()
            for listener in heard:
                listener.hears_the_next()
        assert len(two[0].worker_pids()) == 3, "its old generations carry the streams"


class Listener:
    """Holds the GET stream of a session that `owner` owns, by way of `entry`."""

    def __init__(self, members, owner: int, entry: int):
        self._url, self._session = members.url(entry), members.begin(owner)
        self._events, self._begun = [], threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        assert self._begun.wait(10)

    def hears_the_next(self) -> None:
        """Announced by a call that enters where the stream does; it goes on the same connection or on a new one."""
        before = len(self._events)
        assert self._session.call(self._url, "announce") == "announced"
        wait_until(partial(self._heard, before), what="the announcement on the stream")

    def close(self) -> None:
        self._session.delete(self._url)
        self._thread.join(10)
        self._session.close()
        assert self._failure is None, self._failure

    def _heard(self, before: int) -> bool:
        assert self._failure is None, self._failure
        return len(self._events) > before

    def _listen(self) -> None:
        headers = {"Accept": "text/event-stream", "Mcp-Session-Id": self._session.id, "Host": HOST}
        try:
            with httpx.stream("GET", self._url, headers=headers, timeout=60, trust_env=False, verify=False) as stream:
                assert stream.status_code == 200
                self._begun.set()
                for line in stream.iter_lines():
                    if line.startswith("data: {"):
                        self._events.append(line)
        except Exception as failure:  # noqa: BLE001 - shown by whoever waits
            self._failure = failure
