"""P6 with everything that TLS can carry: certificates are swapped on disk under load, and nobody notices.

Seed 3, NET-02, https://github.com/IBM/mcp-context-forge/issues/3579.
"""

import shutil

import pytest

from harness import wait_until
from load.scenario import LoadedWorld, only_one_worker_left, reload_under_load

#: Sequence-numbered event streams, half over HTTP/2, half as answers to POSTs.
STREAMS = 100
SOON = {"reload": {"settle": "200ms"}}


def ten_rotations(outrigger, pki, start, **options) -> dict:
    loaded = LoadedWorld(outrigger, pki, start, SOON)
    options = {"tls_only": True, "by_signal": False, "streams": STREAMS} | options
    summary = reload_under_load(loaded, reloads=10, every=3, **options)
    assert min(summary["requests"].values()) > 0, "every kind must have run"
    assert sum(summary["streams"][f"{kind} opened"] for kind in ("get-h1", "get-h2", "post-h1", "post-h2")) == STREAMS
    connections = summary["connections"]
    assert connections["closed as announced"] > 0 and connections["told to go away (h2)"] > 0
    # A ticket is worth something within a generation, and does no harm in the next.
    assert connections["resumed (TLS)"] > 0 and connections["not resumed (TLS)"] > 0
    metrics = loaded.world.metrics()
    assert metrics['outrigger_reloads_total{result="ok"}'] == 10, "each swap is one reload"
    assert metrics['outrigger_reloads_total{result="failed"}'] == 0
    only_one_worker_left(loaded.world, patience=60)
    return summary


def test_ten_swaps_on_disk_in_half_a_minute_are_not_noticed(outrigger, pki, start):
    ten_rotations(outrigger, pki, start, rate=0.3)


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.parametrize("naive", [False, True], ids=["looking", "naive"])
def test_ten_swaps_under_fifty_thousand_requests_are_not_noticed(naive, outrigger, pki, start):
    options = {"naive": True} if naive else {}
    summary = ten_rotations(outrigger, pki, start, requests=50_000, at_most=300, **options)
    assert summary["total"] >= 50_000


def test_bad_material_between_good_is_not_noticed_either(outrigger, pki, start):
    """Good, bad, good: a pair that does not match, half a file, nothing at all; each is refused, the next is taken."""
    loaded = LoadedWorld(outrigger, pki, start, SOON)
    world = loaded.world
    failed = lambda: world.metrics()['outrigger_reloads_total{result="failed"}']  # noqa: E731
    other = pki.issue("localhost", label="other")
    damages = [
        lambda cert, key: shutil.copyfile(other.key, key),
        lambda cert, key: cert.write_bytes(cert.read_bytes()[:300]),
        lambda cert, key: (cert.write_bytes(b""), key.unlink()),
    ]
    loaded.begin(seconds=12, streams=20, tls_only=True, rate=0.3)
    for number, damage in enumerate(damages, 1):
        damage(loaded.identity.cert, loaded.identity.key)
        wait_until(lambda number=number: failed() == number, what="the damage is refused")
        loaded.reload(by_signal=False)
    summary = loaded.summary()
    assert (summary["failed"], summary["broken"]) == (0, []), summary
    assert loaded.generations() == 1 + len(damages)
    assert failed() == len(damages)
    only_one_worker_left(world)
