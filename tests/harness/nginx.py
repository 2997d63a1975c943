"""Real nginx as the HTTPS reverse proxy that stands in front of so many services."""

from pathlib import Path

from .paths import system_command
from .pki import Identity
from .ports import free_port
from .processes import Process
from .raw import RawClient

#: What every guide tells to write; `$http_host` is the host with its port, as the client wrote it.
_CONFIG = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  proxy_http_version 1.1;
  proxy_buffering off;
  proxy_set_header Connection "";
  proxy_set_header Host $http_host;
  proxy_set_header X-Forwarded-Host $http_host;
  proxy_set_header X-Forwarded-Proto $scheme;
  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {cert};
    ssl_certificate_key {key};
    {locations}
  }}
}}
"""


class Nginx(Process):
    """`locations`: what nginx proxies where, by its path: {"/": "http://127.0.0.1:8080"}."""

    def __init__(self, folder: Path, identity: Identity, locations: dict[str, str]):
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        blocks = [f"location {path} {{ proxy_pass {target}; }}" for path, target in locations.items()]
        config = folder / "nginx.conf"
        config.write_text(
            _CONFIG.format(
                folder=folder,
                port=self.port,
                cert=identity.cert,
                key=identity.key,
                locations="\n    ".join(blocks),
            )
        )
        super().__init__("nginx", [system_command("nginx"), "-c", config, "-p", folder], folder)
        self.wait_ready(self._accepts)

    def _accepts(self) -> bool:
        RawClient(f"127.0.0.1:{self.port}").close()
        return True
