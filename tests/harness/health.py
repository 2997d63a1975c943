"""What Outrigger says of its peers, and addresses at which nobody is well."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from .mcp import McpServers
from .outrigger import Outrigger
from .plain import get
from .ports import free_port
from .waiting import PATIENCE, wait_until

#: One check decides.
AT_ONCE = {"healthy_threshold": 1, "unhealthy_threshold": 1}


def checked(peers: list, health: dict, tls: dict | None = None, **config) -> dict:
    """A configuration whose upstream `gateway` has these peers and is checked; every second unless `health` says."""
    gateway = {"peers": peers, "health": {"interval": "1s", "timeout": "1s", **health}}
    return {"upstreams": {"gateway": gateway | ({"tls": tls} if tls else {})}, **config}


def peers(world: Outrigger, upstream: str = "gateway") -> dict[str, dict]:
    """What /upstreams says of each peer, by name."""
    told = get(f"{world.admin}/upstreams").json()["upstreams"]
    (of_upstream,) = (each["peers"] for each in told if each["name"] == upstream)
    return {peer["name"]: peer for peer in of_upstream}


def only_peer(world: Outrigger) -> dict:
    (peer,) = peers(world).values()
    return peer


def wait_state(world: Outrigger, state: str, peer: str | None = None, patience: float = PATIENCE) -> dict:
    """Waits until the peer (or the only one) is in this state; what is said of it then."""

    def there() -> dict | None:
        told = peers(world)[peer] if peer else only_peer(world)
        return told if told["state"] == state else None

    return wait_until(there, patience, f"{peer or 'the peer'} is {state}")


def checks(world: Outrigger, **labels: str) -> int:
    """Checks counted so far whose labels include these."""
    wanted = [f'{name}="{value}"' for name, value in labels.items()]
    counted = world.metrics().items()
    named = (
        value
        for name, value in counted
        if name.startswith("outrigger_health_checks_total{") and all(label in name for label in wanted)
    )
    return int(sum(named))


def sessions(servers: McpServers) -> dict[str, int]:
    """How many sessions the first of these servers has begun, and how many are open."""
    return get(f"http://{servers.peers[0]}/sessions").json()


def refusing() -> str:
    return f"127.0.0.1:{free_port()}"


@contextmanager
def unreachable() -> Iterator[str]:
    """An address whose backlog is full: the kernel drops every SYN, as a host that is gone does."""
    with ExitStack() as sockets:
        listener = sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            filler = sockets.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def speechless() -> Iterator[str]:
    """An address that accepts and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
