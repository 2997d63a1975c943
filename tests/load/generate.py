"""The clients: every kind of load at once against one Outrigger, until time and number are reached; a summary as JSON.

A line `begun` says that every event stream has had its first event. SIGTERM ends the run early; what was asked is still
answered.
"""

import argparse
import asyncio
import json
import signal
import ssl

from .kinds import Load
from .tally import Tally

#: Requests per second; the sum is some 50,000 a minute. A kind that is not named here is not run.
RATES = {
    "busy": 400,
    "busy-tls": 100,
    "thinking": 6,
    "fresh": 80,
    "h2": 180,
    "h2-slow": 1,
    "slow": 2,
    "large": 12,
    "pass": 60,
    "session": 40,
    "resumed": 10,
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plain", metavar="HOST:PORT", help="plaintext listener; without one, everything by TLS")
    parser.add_argument("--tls", required=True, metavar="HOST:PORT", help="TLS listener with h2")
    parser.add_argument("--ca", required=True, help="PEM file that signed its certificate")
    parser.add_argument("--seconds", type=float, default=15, help="run at least so long")
    parser.add_argument("--requests", type=int, default=0, help="and at least so many requests")
    parser.add_argument("--at-most", type=float, default=170, help="but never longer, seconds")
    parser.add_argument("--rate", type=float, default=1.0, help="factor on every rate")
    parser.add_argument("--streams", type=int, default=16, help="event streams open all the time")
    parser.add_argument("--only", nargs="*", help="kinds to run; default: all")
    parser.add_argument("--naive", action="store_true", help="HTTP/1.1 clients write without looking for a close")
    return parser.parse_args()


def context(ca: str, alpn: list[str]) -> ssl.SSLContext:
    tls = ssl.create_default_context(cafile=ca)
    tls.set_alpn_protocols(alpn)
    return tls


async def run(options: argparse.Namespace) -> Tally:
    rates = {kind: rate * options.rate for kind, rate in RATES.items() if not options.only or kind in options.only}
    tally = Tally()
    load = Load(
        plain=options.plain,
        tls=options.tls,
        http1_tls=context(options.ca, ["http/1.1"]),
        http2_tls=context(options.ca, ["h2"]),
        tally=tally,
        rates=rates,
        naive=options.naive,
    )
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    streams = [asyncio.create_task(load.stream(number)) for number in range(options.streams)]
    while not stop.is_set() and tally.streams["begun"] + len(tally.broken) < options.streams:
        await asyncio.sleep(0.02)
    print("begun", flush=True)
    workers = [asyncio.create_task(worker) for worker in load.workers()]
    loop = asyncio.get_running_loop()
    began = loop.time()
    while not stop.is_set() and (lasted := loop.time() - began) < options.at_most:
        if lasted >= options.seconds and tally.total >= options.requests:
            break
        await asyncio.sleep(0.05)
    # What was asked is answered; the streams are watched to the very end.
    load.ending.set()
    await asyncio.gather(*workers)
    for stream in streams:
        stream.cancel()
    await asyncio.gather(*streams)
    return tally


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(arguments())).summary(), indent=1), flush=True)
