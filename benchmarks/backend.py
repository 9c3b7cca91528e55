"""The nginx that is the upstream in all measurements: one worker, "ok" to any GET, connections are kept open."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.process import TICKS, Cores, Failed, free_port, ticks

CONFIGURATION = """
worker_processes 1; daemon off; master_process off; error_log stderr; pid {folder}/pid;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ default_type text/plain; return 200 "ok"; }} }}
}}
"""
START_SECONDS = 5


def find_nginx() -> str:
    """The path of nginx. Raises SystemExit, with advice, if there is none."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise SystemExit("nginx is not in PATH; most distributions have a package of that name")
    return found


@dataclass(frozen=True)
class Backend:
    port: int
    pid: int

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        return ticks(self.pid) / TICKS


@contextmanager
def backend(cores: Cores) -> Iterator[Backend]:
    """Run nginx beside the load: on the load's core, if cores are chosen."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "nginx.conf")
        path.write_text(CONFIGURATION.format(folder=folder, port=port))
        command = [*cores.load, find_nginx(), "-e", "stderr", "-p", folder, "-c", str(path)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)
        try:
            _wait(process, port)
            yield Backend(port, process.pid)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(5)


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            assert process.stderr is not None
            raise Failed(f"nginx ended: {process.stderr.read().decode(errors='replace')[-300:]}")
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1).read()
            return
        except OSError:
            time.sleep(0.02)
    raise Failed(f"nginx did not answer within {START_SECONDS} s")
