"""What the official suite runs in place of its client: Outrigger in front of its server, then the client through it.

Called as `conformance_through.py (name|address) FOLDER URL`. By name, the client keeps the server's URL, and only its
connections lead to Outrigger, as where a public name points to the proxy; by address, the client is given Outrigger's
own URL, and every address in an answer has to be rewritten.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from harness.outrigger import Outrigger
from harness.paths import NODE, TESTS


def main(way: str, folder: str, url: str) -> int:
    server = urlsplit(url)
    scenario = os.environ["MCP_CONFORMANCE_SCENARIO"].replace("/", "-")
    own = Path(tempfile.mkdtemp(prefix=f"{scenario}-", dir=folder))
    world = Outrigger(own, [server.netloc], {"profile": "generic"})
    try:
        if way == "address":
            url = server._replace(netloc=world.address).geturl()
        environment = os.environ | ({"VIA_PORT": str(world.port)} if way == "name" else {})
        command = [NODE, TESTS / "clients" / "conformance_client.mjs", url]
        return subprocess.run(command, env=environment, check=False).returncode
    finally:
        world.end()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
