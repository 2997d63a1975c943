"""Mixed load that checks every answer, for whatever is done to Outrigger meanwhile: reloads, crashes, a stop.

`upstream.py` is the MCP server behind, `generate.py` the clients in front; both are plain asyncio on raw sockets, one
process each. By hand:

    .venvs/harness/bin/python -m load.generate --plain 127.0.0.1:8080 --tls 127.0.0.1:8443 --ca ca.pem --seconds 30

(from tests/) prints a JSON summary: requests, failures, longest wait per kind of load, and which event streams broke.
Kinds of load stand in `kinds.py`, the clients in `http1.py` and `http2.py`, the use from a test in `scenario.py`.
"""
