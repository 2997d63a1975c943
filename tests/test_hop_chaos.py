"""P2 under everything at once: members are killed, paused, cut off and reloaded while clients call by all of them.

A history of every call is kept, and judged: one owner per session, counters that go on, no call run twice or behind its
client's back, no session lost without a reason, no answer late. The judge has to show first that it can condemn.
"""

import json
import statistics

import pytest

from chaos.history import Call, Disturbance, History
from chaos.scenario import Chaos
from harness.places import Namespaces


@pytest.fixture
def chaos(tmp_path, pki):
    made = []

    def make(seed: int) -> Chaos:
        namespaces = Namespaces() if Namespaces.permitted() else None
        made.append(namespaces)
        made.append(Chaos(tmp_path, pki, namespaces, seed))
        return made[-1]

    yield make
    for each in reversed(made):
        if each:
            each.end()


def judged(chaos: Chaos, seconds: float, calls: int) -> None:
    history = chaos.run(seconds)
    summary = history.summary()
    print(json.dumps(summary))
    for fault, took in sorted(chaos.told_after().items()):
        print(f"{fault}: {len(took)} times, told after {statistics.median(took):.1f} ms, at most {max(took):.1f} ms")
    violations = history.violations()
    assert not violations, "\n".join([f"{len(violations)} violations", *violations[:20]])
    assert summary["calls"] > calls
    assert summary["hops"] > summary["calls"] / 3


@pytest.mark.timeout(150)
def test_twenty_seconds_of_chaos(chaos):
    judged(chaos(seed=1), seconds=20, calls=300)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_ten_minutes_of_chaos(chaos):
    judged(chaos(seed=2), seconds=600, calls=20_000)


def call(number: int, outcome, count=None, **changes) -> Call:
    """The calls of a session take a tenth of a second each; the first member owns it, they enter by the second."""
    good = {"session": "s", "owner": 0, "entry": 1, "id": f"{number}", "answered_id": f"{number}", "retry_after": True}
    good |= {"instance": "a" if outcome == 200 else None, "sent": number, "done": number + 0.1}
    return Call(**{**good, "outcome": outcome, "count": count, **changes})


KILLED = [Disturbance("kill", 0, began=2, ended=2.5, lethal=True)]

CUT_OFF = [Disturbance("cut off", 0, began=1.01, ended=6, lethal=True)]

GOOD = {
    "in order": ([call(1, 200, 1), call(2, 200, 2)], []),
    "a dead owner": ([call(1, 200, 1), call(2, 502), call(3, 503), call(4, 200, 3), call(5, 404)], KILLED),
    "concurrent": ([call(1, 200, 2, concurrent=True), call(1, 200, 1, concurrent=True)], []),
    "an owner that is cut off while it works": ([call(1, 200, 1, done=6.5)], CUT_OFF),
    "an entry that dies": ([call(1, "cut", answered_id=None)], [Disturbance("kill", 1, 0.5, 1)]),
}
BAD = {
    "a wrong owner": ([call(1, 200, 1, instance="b")], []),
    "another id": ([call(1, 200, 1, answered_id="2")], []),
    "an error without an id": ([call(2, 503, answered_id=None)], KILLED),
    "twice the same count": ([call(1, 200, 1), call(2, 200, 1)], []),
    "twice at once": ([call(1, 200, 1, concurrent=True), call(1, 200, 1, concurrent=True)], []),
    "back": ([call(1, 200, 2, concurrent=False), call(2, 200, 1)], []),
    "a call that ran twice": ([call(1, 200, 1), call(2, 200, 3)], []),
    "a call that ran although it was refused": ([call(1, 200, 1), call(2, 503), call(3, 200, 3)], KILLED),
    "lost for no reason": ([call(1, 404)], [Disturbance("pause", 0, 0, 2)]),
    "lost before its owner died": ([call(1, 404)], KILLED),
    "refused for no reason": ([call(1, 503)], [Disturbance("kill", 2, 0, 2, lethal=True)]),
    "refused long after": ([call(9, 503)], KILLED),
    "cut for no reason": ([call(2, "cut", answered_id=None)], KILLED),
    "not told to try again": ([call(2, 503, retry_after=False)], KILLED),
    "late": ([call(1, 200, 1, done=4)], []),
    "late after a cut": ([call(1, 200, 1, done=10)], CUT_OFF),
    "another status": ([call(2, 500)], KILLED),
}


@pytest.mark.parametrize("name", GOOD)
def test_the_judge_acquits(name):
    assert History(*GOOD[name]).violations() == []


@pytest.mark.parametrize("name", BAD)
def test_the_judge_condemns(name):
    assert History(*BAD[name]).violations()
