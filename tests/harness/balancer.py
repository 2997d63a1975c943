"""An ordinary load balancer, nginx, that knows nothing of MCP: each request goes to the next of its members in turn."""

from collections.abc import Sequence
from pathlib import Path

from .paths import system_command
from .ports import free_port
from .processes import Process

_CONFIG = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr;
events {{ worker_connections 4096; }}
http {{
    access_log off; client_max_body_size 16m;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    upstream members {{ {members} keepalive 64; }}
    server {{
        listen {address};
        location / {{
            proxy_pass http://members; proxy_http_version 1.1; proxy_next_upstream off;
            proxy_set_header Host $http_host; proxy_set_header Connection "";
            proxy_buffering off; proxy_request_buffering off; proxy_read_timeout 1h;
        }}
    }}
}}
"""


class Balancer:
    """In front of these addresses; `address` is its own."""

    def __init__(self, folder: Path, members: Sequence[str]):
        folder.mkdir(parents=True, exist_ok=True)
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        self.url = f"http://{self.address}"
        config = folder / "nginx.conf"
        servers = " ".join(f"server {member} max_fails=0;" for member in members)
        config.write_text(_CONFIG.format(folder=folder, members=servers, address=self.address))
        command = [system_command("nginx"), "-e", "stderr", "-p", folder, "-c", config]
        self._process = Process("nginx", command, folder)
        self._process.wait_ready(lambda: self._process.listens(port))

    def end(self) -> None:
        self._process.end()
