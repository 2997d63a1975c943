"""P6 in full: ten reloads under at least 50,000 requests. `make long`, or `pytest -m long tests/load`."""

import pytest

from load.scenario import LoadedWorld, only_one_worker_left, reload_under_load


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.parametrize("naive", [False, True], ids=["looking", "naive"])
def test_ten_reloads_under_fifty_thousand_requests_are_not_noticed(naive, outrigger, pki, start):
    loaded = LoadedWorld(outrigger, pki, start)
    options = {"at_most": 300, "streams": 32} | ({"naive": True} if naive else {})
    summary = reload_under_load(loaded, reloads=10, every=3, requests=50_000, **options)
    assert summary["total"] >= 50_000
    assert loaded.world.metrics()['outrigger_reloads_total{result="ok"}'] == 10
    only_one_worker_left(loaded.world, patience=30)
