"""Mixed load that checks every answer: what the reload and crash tests run against Outrigger while things happen to it.

`upstream.py` is the MCP server behind, `generate.py` the clients in front; both are plain asyncio on raw sockets, one process
each. By hand:

    .venvs/harness/bin/python -m load.generate --plain 127.0.0.1:8080 --tls 127.0.0.1:8443 --ca ca.pem --seconds 30

(from tests/) prints a JSON summary: requests, failures and longest wait per kind of load, event streams and which broke.
Kinds of load stand in `kinds.py`, the clients in `http1.py` and `http2.py`, the use from a test in `scenario.py`.
"""
