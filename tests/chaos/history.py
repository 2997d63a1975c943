"""What was asked, what was answered, what was done meanwhile; and the judgement. Pure: no clock, no network.

A session's owner counts its calls, so that its answers tell which instance answered, and how many have run before.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from math import inf

#: The call has not run: whoever answered so had not given it to the owner.
NOT_RUN = (404, 503)
#: It may have run or not.
UNKNOWN = (502, 504, "cut")

#: Seconds that an answer may take where nothing is wrong with the member that gives it; the machine may be busy.
BOUND = 2.5
#: A disturbance is felt so long after it has ended: a connection that broke in it is found broken later.
AFTERMATH = 1.5


@dataclass
class Call:
    """One request of a session. `outcome` is the HTTP status, or `cut` if no answer came."""

    session: str
    owner: int
    entry: int
    id: str
    sent: float
    done: float = inf
    outcome: int | str = "cut"
    #: What the answer says: the id, whose instance, its count; an error has the first only.
    answered_id: str | None = None
    instance: str | None = None
    count: int | None = None
    retry_after: bool = False
    #: Other calls of this session were under way.
    concurrent: bool = False


@dataclass
class Disturbance:
    """Something that is done to a member, to the MCP server behind it (`server`), or to `redis`."""

    what: str
    target: int | str
    began: float
    ended: float = inf
    #: Sessions of this owner may be lost by it.
    lethal: bool = False

    def meets(self, call: Call) -> bool:
        return self.began <= call.done and call.sent <= self.ended + AFTERMATH


@dataclass
class History:
    calls: list[Call] = field(default_factory=list)
    disturbances: list[Disturbance] = field(default_factory=list)

    def violations(self) -> list[str]:
        """What must not have happened; empty if all is well."""
        found = [f"{text}: {call}; {self._near(call)}" for call in self.calls for text in self._of_call(call)]
        by_session = defaultdict(list)
        for call in self.calls:
            by_session[call.session].append(call)
        return found + [text for calls in by_session.values() for text in _of_session(calls)]

    def _of_call(self, call: Call):
        if call.outcome != "cut" and call.answered_id != call.id:
            yield "answered with another id"
        if call.outcome == 200 and call.instance != "abc"[call.owner]:
            yield "answered by a wrong owner"
        if call.outcome not in (200, *NOT_RUN, *UNKNOWN):
            yield "an answer that nobody should give"
        if call.outcome == 503 and not call.retry_after:
            yield "not told when to try again"
        if call.outcome != 200 and not self._excused(call):
            yield "failed for no reason"
        if call.done - call.sent > self._bound(call):
            yield f"took {call.done - call.sent:.2f} s"

    def _excused(self, call: Call) -> bool:
        met = [disturbance for disturbance in self.disturbances if disturbance.meets(call)]
        targets = {disturbance.target for disturbance in met}
        match call.outcome:
            case 404:
                # A session is lost for good, so that it may have been long ago.
                return any(
                    disturbance.lethal and disturbance.target == call.owner and disturbance.began <= call.done
                    for disturbance in self.disturbances
                )
            case 503:
                return bool(targets & {call.owner, call.entry, "redis"})
            case 502 | 504:
                return bool(targets & {call.owner, call.entry})
            case "cut":
                return call.entry in targets
            case _:
                return False

    def _near(self, call: Call) -> list[str]:
        """What was done in the seconds before."""
        return [
            f"{disturbance.what} {disturbance.target} from {disturbance.began - call.sent:+.2f} s to"
            f" {disturbance.ended - call.sent:+.2f} s"
            for disturbance in self.disturbances
            if disturbance.ended > call.sent - 5 and disturbance.began < call.done
        ]

    def _bound(self, call: Call) -> float:
        """Who was disturbed when it had taken the call answers when it can."""
        met = [disturbance for disturbance in self.disturbances if disturbance.meets(call)]
        if call.entry in {disturbance.target for disturbance in met}:
            return inf
        held = [disturbance.ended - call.sent for disturbance in met if disturbance.target == call.owner]
        return max([0, *held]) + BOUND

    def summary(self) -> dict:
        answers = defaultdict(list)
        for call in self.calls:
            answers[str(call.outcome)].append(1000 * (call.done - call.sent))
        milliseconds = {
            outcome: {"count": len(took), "p50": _quantile(took, 0.5), "p99": _quantile(took, 0.99), "max": max(took)}
            for outcome, took in answers.items()
        }
        return {
            "calls": len(self.calls),
            "sessions": len({call.session for call in self.calls}),
            "hops": sum(call.entry != call.owner for call in self.calls),
            "answers": {
                outcome: {name: round(value, 1) for name, value in values.items()}
                for outcome, values in milliseconds.items()
            },
            "disturbances": dict(Counter(disturbance.what for disturbance in self.disturbances)),
        }


def _of_session(calls: list[Call]):
    """Counts that came twice, went back, or jumped over more calls than may have run unseen."""
    session = calls[0].session
    counts = [call.count for call in calls if call.outcome == 200]
    if len(counts) != len(set(counts)):
        yield f"session {session}: a count was answered twice: {counts}"
    ran = sum(call.outcome == 200 for call in calls)
    possible = ran + sum(call.outcome in UNKNOWN for call in calls)
    if counts and max(counts) > possible:
        yield f"session {session}: {max(counts)} calls ran, {possible} were made that could: {_story(calls)}"
    if any(call.concurrent for call in calls):
        return
    last, unseen = 0, 0
    for call in calls:
        if call.outcome in UNKNOWN:
            unseen += 1
        elif call.outcome == 200:
            if not last < call.count <= last + 1 + unseen:
                yield f"session {session}: {call.count} after {last}, {unseen} may have run unseen: {_story(calls)}"
            last, unseen = call.count, 0


def _story(calls: list[Call]) -> str:
    return " ".join(f"{call.outcome}{'' if call.count is None else f'={call.count}'}" for call in calls)


def _quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]
