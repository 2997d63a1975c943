"""Three members, each with a real MCP server beside it, and what may befall them: killed, paused, cut off, reloaded."""

import random
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

from harness import Pki, wait_until
from harness.mcp import SERVER_KINDS, McpServers
from harness.members import TTL, Members
from harness.places import Namespaces, loopback
from harness.redis import RedisServer

from .clients import Clients
from .history import Disturbance, History

_KIND = SERVER_KINDS["python-v1-json"]

#: A member that is silent for less is waited for; its card, renewed every third of its life, outlives this.
_SHORT = TTL / 3
#: Nobody is waited for so long.
_LONG = 1.6 * TTL


class Chaos:
    """The world. `namespaces`: None where they are not permitted; then nobody is cut off."""

    def __init__(self, folder: Path, pki: Pki, namespaces: Namespaces | None, seed: int, clients: int = 12):
        self._namespaces, self._rng = namespaces, random.Random(seed)
        names = ("pod-one", "pod-two", "pod-three")
        places = [namespaces.place(name) for name in names] if namespaces else [loopback(number) for number in range(3)]
        config = {"timeouts": {"first_byte": "3s"}}
        with ExitStack() as ends:
            self.servers = McpServers(_KIND, folder / "servers", count=3, places=places if namespaces else ())
            ends.callback(self.servers.end)
            self.redis = RedisServer(folder / "redis", host=namespaces.redis_host if namespaces else "127.0.0.1")
            ends.callback(self.redis.end)
            peers = [[peer] for peer in self.servers.peers]
            self.members = Members(folder, self.redis, peers, pki, config, places=places)
            ends.callback(self.members.end)
            self.clients = Clients([self.members.url(number) for number in range(3)], clients, seed)
            self.end = ends.pop_all().close
        self.acts = [self.kill, self.pause, self.pause_for_long, self.reload, self.pause_redis, self.stop]
        if namespaces:
            self.acts += [self.cut_off, self.cut_off_for_long]

    def run(self, seconds: float) -> History:
        """Every act once, then as chance wills, until the time is up; then all is well again and everybody is asked."""
        history = self.clients.history
        self.clients.begin()
        ends, turn = time.monotonic() + seconds, 0
        acts = self._rng.sample(self.acts, len(self.acts))
        while time.monotonic() < ends or turn < len(acts):
            (acts[turn] if turn < len(acts) else self._rng.choice(self.acts))(self._rng.randrange(3))
            turn += 1
            time.sleep(self._rng.uniform(0.2, 0.8))
        wait_until(lambda: all(self.members.known(number) for number in range(3)), what="all members are back")
        wait_until(lambda: all(self.members.each(lambda member: member.ready())), what="all members are ready")
        # Until every connection that broke has been found broken.
        time.sleep(2)
        self.clients.end()
        began = len(history.calls)
        lost = self.clients.ask_the_living()
        assert began < len(history.calls), "nobody lives"
        told = {call.session for call in history.calls[:began] if call.outcome == 404}
        assert not told & {label for _, _, label in self.clients.living}
        # Whose owner was given up for a while may hear of it only now.
        lethal = {disturbance.target for disturbance in history.disturbances if disturbance.lethal}
        unexplained = [text for text in lost if "abc".index(text[0]) not in lethal]
        assert not unexplained, unexplained
        return history

    def told_after(self) -> dict[str, list[float]]:
        """Milliseconds until a client was told of a failure, by its kind; as the members account for it."""
        told = defaultdict(list)
        for member in self.members.all:
            for line in member.access_log():
                if fault := line.get("fault"):
                    told[fault].append(line["duration_ms"])
        return told

    def _disturb(self, what: str, target: int | str, lethal: bool = False) -> Disturbance:
        disturbance = Disturbance(what, target, time.monotonic(), lethal=lethal)
        self.clients.history.disturbances.append(disturbance)
        return disturbance

    # -- what may befall

    def kill(self, number: int) -> None:
        """The sidecar dies and comes back; its MCP server lives on."""
        disturbance = self._disturb("kill", number, lethal=True)
        self.members[number].kill()
        time.sleep(self._rng.uniform(0, 1))
        self.members[number].start()
        self.members.wait_known(number)
        disturbance.ended = time.monotonic()

    def stop(self, number: int) -> None:
        disturbance = self._disturb("stop", number, lethal=True)
        self.members[number].stop()
        self.members[number].start()
        self.members.wait_known(number)
        disturbance.ended = time.monotonic()

    def pause(self, number: int, seconds: float = _SHORT, what: str = "pause", lethal: bool = False) -> None:
        disturbance = self._disturb(what, number, lethal)
        self.members[number].pause()
        time.sleep(seconds)
        self.members[number].resume()
        self.members.wait_known(number)
        disturbance.ended = time.monotonic()

    def pause_for_long(self, number: int) -> None:
        self.pause(number, _LONG, "pause for long", lethal=True)

    def cut_off(self, number: int, seconds: float = _SHORT, what: str = "cut off", lethal: bool = False) -> None:
        disturbance = self._disturb(what, number, lethal)
        self._namespaces.cut_off(number)
        time.sleep(seconds)
        self._namespaces.join_again(number)
        self.members.wait_known(number)
        disturbance.ended = time.monotonic()

    def cut_off_for_long(self, number: int) -> None:
        self.cut_off(number, _LONG, "cut off for long", lethal=True)

    def reload(self, number: int) -> None:
        """No disturbance: nobody may notice."""
        disturbance = self._disturb("reload", "nobody")
        self.members[number].reload()
        disturbance.ended = time.monotonic()

    def pause_redis(self, _: int) -> None:
        disturbance = self._disturb("pause Redis", "redis")
        self.redis.pause()
        time.sleep(_SHORT / 2)
        self.redis.resume()
        disturbance.ended = time.monotonic()
