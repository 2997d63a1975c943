"""P6: a reload under mixed load fails no request and breaks no stream. The long form stands in load/test_long.py."""

import pytest

from load.scenario import LoadedWorld, only_one_worker_left, reload_under_load


@pytest.mark.parametrize("naive", [False, True], ids=["looking", "naive"])
def test_three_reloads_under_load_are_not_noticed(naive, outrigger, pki, start):
    loaded = LoadedWorld(outrigger, pki, start)
    summary = reload_under_load(loaded, reloads=3, every=3.5, **({"naive": True} if naive else {}))
    assert summary["connections"]["closed as announced"] > 0, "no connection met a reload"
    assert summary["connections"]["told to go away (h2)"] > 0, "no HTTP/2 connection met a reload"
    assert min(summary["requests"].values()) > 0, "every kind must have run"
    metrics = loaded.world.metrics()
    assert metrics['outrigger_reloads_total{result="ok"}'] == 3
    assert metrics['outrigger_reloads_total{result="failed"}'] == 0
    only_one_worker_left(loaded.world)
