"""Several Outriggers that share one Redis: each a member with a listener for the others, and an upstream of its own."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from .mcp import McpSession
from .outrigger import Outrigger, merged
from .pki import Pki
from .places import Place, loopback
from .ports import free_port
from .redis import RedisServer
from .waiting import PATIENCE, wait_until

#: In the certificate of every member.
SERVER_NAME = "outrigger"

#: What clients call every member, as behind a load balancer; MCP servers refuse a `Host` that they do not know.
HOST = "localhost:80"

#: For tests of how soon a silence is told; all others have patience with a busy machine.
QUICK = {"member": {"connect_timeout": "100ms"}, "sessions": {"redis": {"timeout": "100ms"}}}

#: A member's key lives so long without its beat; ten seconds outside of tests. Room for all that a test asks meanwhile.
TTL = 3.0


class Members:
    """`members[0]` is an Outrigger named `one` in front of `peers[0]`, and so on.

    `pki`: they know each other by certificates of this authority; None = in plaintext. `config` is laid over that of
    each, and `own[0]` over that of the first.
    """

    names = ("one", "two", "three")

    def __init__(
        self,
        folder: Path,
        redis: RedisServer,
        peers: Sequence[list[str]],
        pki: Pki | None = None,
        config: dict | None = None,
        own: Sequence[dict] = (),
        places: Sequence[Place] = (),
        prefix: str = "outrigger:",
        start: bool = True,
    ):
        self.redis, self.prefix = redis, prefix
        self.places = list(places) or [loopback(number) for number in range(len(peers))]
        self.all: list[Outrigger] = []
        #: Where each listens for the others.
        self.addresses: list[str] = []
        for number, (place, own_peers) in enumerate(zip(self.places, peers, strict=True)):
            self.addresses.append(f"{place.back}:{free_port()}")
            settings = merged(self._settings(number, pki), config or {})
            settings = merged(settings, own[number]) if own else settings
            world = Outrigger(
                folder / self.names[number], own_peers, settings, start=False, host=place.front, launcher=place.launcher
            )
            self.all.append(world)
        if start:
            with ExitStack() as failed:
                failed.callback(self.end)
                self.start()
                failed.pop_all()

    def _settings(self, number: int, pki: Pki | None) -> dict:
        name, address = self.names[number], self.addresses[number]
        member = {"name": name, "address": address, "advertise": address}
        member |= {"ttl": f"{TTL:g}s", "connect_timeout": "1s"}
        if pki:
            # Named by what is its own, because several worlds may be made side by side.
            identity = pki.issue(SERVER_NAME, label=f"member-{address.replace(':', '-')}")
            member["tls"] = {**identity.as_config(), "ca": str(pki.ca), "server_name": SERVER_NAME}
        else:
            member["plaintext"] = True
        redis = {**self.redis.as_config(), "prefix": self.prefix, "timeout": "1s"}
        return {
            "profile": "generic",
            "member": member,
            "sessions": {"registry": "redis", "redis": redis, "gateway_keys": None, "embedded": None},
        }

    def __getitem__(self, number: int) -> Outrigger:
        return self.all[number]

    def __len__(self) -> int:
        return len(self.all)

    def start(self) -> None:
        """All at once, until every one is ready and has made itself known."""
        self.each(Outrigger.start)
        self.wait_known(*range(len(self)))

    def each(self, work: Callable[[Outrigger], object]) -> list:
        """Does something to all of them side by side."""
        with ThreadPoolExecutor(len(self)) as threads:
            return list(threads.map(work, self.all))

    def end(self) -> None:
        self.each(Outrigger.end)

    # -- what is seen from outside

    def url(self, number: int, server_id: str | None = "abc") -> str:
        """An MCP endpoint by way of member `number`."""
        return f"{self[number].url}/servers/{server_id}/mcp" if server_id else f"{self[number].url}/mcp"

    def begin(self, number: int, headers: dict | None = None) -> McpSession:
        """A session that member `number` owns, because only its own peers stand behind it."""
        return McpSession(self.url(number), {"Host": HOST, **(headers or {})})

    def member_key(self, number: int) -> str:
        return f"{self.prefix}member:{self.names[number]}"

    def known(self, number: int) -> bool:
        """Whether the others can find this one in Redis."""
        return bool(self.redis.client().exists(self.member_key(number)))

    def wait_known(self, *numbers: int) -> None:
        for number in numbers:
            wait_until(lambda number=number: self.known(number), what=f"member {self.names[number]} is known")

    def wait_forgotten(self, number: int, patience: float = PATIENCE) -> None:
        wait_until(lambda: not self.known(number), patience, f"member {self.names[number]} is forgotten")

    def session_keys(self) -> set[str]:
        """The keys of sessions that have an owner; what is left of a lost one, so that nobody looks again, has none."""
        client = self.redis.client()
        keys = list(client.scan_iter(f"{self.prefix}session:*", count=1000))
        claims = client.mget(keys) if keys else []
        return {key for key, claim in zip(keys, claims, strict=True) if claim and json.loads(claim)["peer"]}
