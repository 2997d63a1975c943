"""P8, P4: the client scenarios of the official suite, OAuth among them, find with Outrigger what they find without."""

import sys
from collections import Counter

import pytest

from harness.conformance import run_clients
from harness.paths import NODE, TESTS

CLIENT = [NODE, TESTS / "clients" / "conformance_client.mjs"]
REVISIONS = ["2025-11-25", "2026-07-28"]
#: Scored scenarios of each requirement set, of which the suite must have run every one.
SCORED = {"2025-11-25": 18, "2026-07-28": 32}


@pytest.fixture(scope="module")
def direct(tmp_path_factory):
    """What the suite finds without Outrigger, by revision; each is run once."""
    found = {}

    def run(revision: str):
        if revision not in found:
            found[revision] = run_clients(CLIENT, revision, tmp_path_factory.mktemp(f"direct-{revision}"))
        return found[revision]

    return run


@pytest.fixture
def through(tmp_path):
    """Runs the suite with an Outrigger of its own for each scenario."""
    (tmp_path / "worlds").mkdir()

    def run(way: str, revision: str):
        wrapper = [sys.executable, TESTS / "clients" / "conformance_through.py", way, tmp_path / "worlds"]
        return run_clients(wrapper, revision, tmp_path / "suite")

    return run


@pytest.mark.parametrize("revision", REVISIONS)
def test_the_client_itself_conforms(revision, direct):
    """The control: the client is right, so a difference would be Outrigger's."""
    result = direct(revision)
    assert result.passed, result.summary
    assert len({scenario for scenario, _, _ in result.checks}) >= SCORED[revision]


@pytest.mark.parametrize("revision", REVISIONS)
def test_nothing_changes_where_the_public_name_leads_to_outrigger(revision, direct, through):
    result = through("name", revision)
    assert result.passed, result.summary
    assert result.checks == direct(revision).checks, result.summary


#: Checks that compare what the client says with the suite's own address, of which no client by another one knows.
OWN_ADDRESS = {
    (f"auth/{scenario}", "resource-parameter-matches-prm")
    for scenario in (
        *("metadata-default", "metadata-var1", "metadata-var2"),
        *("token-endpoint-auth-basic", "token-endpoint-auth-post", "token-endpoint-auth-none"),
    )
}
#: Its metadata document lies at a path of its own choice, where nothing tells it from other JSON: a limit in README.
ELSEWHERE = "auth/metadata-var3"


@pytest.mark.parametrize("revision", [pytest.param("2025-11-25", marks=pytest.mark.long), "2026-07-28"])
def test_by_another_address_clients_are_served_too(revision, direct, through):
    result = through("address", revision)
    worse = {(scenario, check) for scenario, check, status in failures(result) - failures(direct(revision))}
    assert {(scenario, check) for scenario, check in worse if scenario != ELSEWHERE} == OWN_ADDRESS, result.summary
    assert ELSEWHERE in {scenario for scenario, _ in worse}, "README names a limit that is none any more"


def failures(result) -> Counter:
    return Counter({what: number for what, number in result.checks.items() if what[2] == "FAILURE"})
