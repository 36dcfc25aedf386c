"""Who answers the sends: nginx without latency, or a server of our own that can wait, watch and send receipts.

nginx is the fastest there is and can do none of these; ours, at 500 connections and 80 ms, has to answer no more than
6,250 requests a second.
"""

import contextlib
import json
import multiprocessing
import shutil
import socket
import subprocess
import time
import urllib.request
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.server import Serving, serve
from bench.wire import Wire

_NGINX = """
worker_processes 1;
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  keepalive_requests 1000000000;
  keepalive_timeout 600s;
  server {{
    listen 127.0.0.1:{port} backlog=8192;
    default_type application/json;
    location / {{ return 200 '{body}'; }}
  }}
}}
"""


@contextmanager
def at_once(directory: Path, port: int, wire: Wire) -> Iterator[str]:
    """nginx answering without latency; yields its URL."""
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    config = directory / "nginx.conf"
    body = (wire.answer % b"$request_id").decode()
    config.write_text(_NGINX.format(directory=directory, port=port, body=body))
    process = subprocess.Popen([program, "-c", str(config), "-e", str(directory / "error.log")])
    try:
        yield _when_open(port)
    finally:
        process.terminate()
        process.wait()


@dataclass(frozen=True, slots=True)
class Answerer:
    """A server of ours, at work."""

    url: str

    def counts(self) -> dict[str, Any]:
        """`answered`; with receipts also `owed`, `posted` and `refused`."""
        with urllib.request.urlopen(f"{self.url}/counts", timeout=60) as answer:
            counts: dict[str, Any] = json.load(answer)
        return counts

    def answered_at(self) -> "array[float]":
        """When each watched message was answered (time.monotonic); 0 if it was not."""
        times = array("d")
        with urllib.request.urlopen(f"{self.url}/times", timeout=60) as answer:
            times.frombytes(answer.read())
        return times


@contextmanager
def ours(serving: Serving) -> Iterator[Answerer]:
    """Our own server in a process of its own."""
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(serving,), daemon=True)
    process.start()
    try:
        yield Answerer(_when_open(serving.port))
    finally:
        process.terminate()
        process.join()


@contextmanager
def answering(directory: Path, port: int, wire: Wire, latency_s: float) -> Iterator[str]:
    """Whichever is the faster for this latency; yields its URL."""
    if latency_s:
        with ours(Serving(wire.kind, port, latency_s)) as answerer:
            yield answerer.url
    else:
        with at_once(directory, port, wire) as url:
            yield url


def _when_open(port: int) -> str:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return f"http://127.0.0.1:{port}"
        time.sleep(0.05)
    raise RuntimeError(f"nothing listens on port {port}")
