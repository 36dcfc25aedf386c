"""The server that answers every send alike: nginx without latency, a small one of our own with it.

nginx is the fastest there is and cannot wait; the one of our own can, and at 500 connections and 80 ms it has to answer
no more than 6,250 requests a second.
"""

import asyncio
import contextlib
import multiprocessing
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import uvloop

# A Send API answer, with a message id as long as Meta's.
BODY = b'{"recipient_id":"1234567890123456","message_id":"m_%s"}' % (b"A5Hz2Uq7" * 16)
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: keep-alive\r\n\r\n"
ANSWER = _HEAD % len(BODY) + BODY

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
def at_once(directory: Path, port: int) -> Iterator[str]:
    """nginx answering without latency."""
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    config = directory / "nginx.conf"
    config.write_text(_NGINX.format(directory=directory, port=port, body=BODY.decode()))
    process = subprocess.Popen([program, "-c", str(config), "-e", str(directory / "error.log")])
    try:
        yield _when_open(port)
    finally:
        process.terminate()
        process.wait()


@contextmanager
def after(latency_s: float, port: int) -> Iterator[str]:
    """Our own server, answering each request `latency_s` after its last byte."""
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(latency_s, port), daemon=True)
    process.start()
    try:
        yield _when_open(port)
    finally:
        process.terminate()
        process.join()


def _when_open(port: int) -> str:
    import socket

    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return f"http://127.0.0.1:{port}"
        time.sleep(0.05)
    raise RuntimeError(f"nothing listens on port {port}")


class _Answerer(asyncio.Protocol):
    """Counts requests by their heads and Content-Length; a request's end is what starts its latency."""

    def __init__(self, latency_s: float) -> None:
        self._latency_s = latency_s
        self._loop = asyncio.get_running_loop()
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            whole = end + 4 + length
            if len(self._data) < whole:
                return
            self._data = self._data[whole:]
            self._loop.call_later(self._latency_s, self._answer)

    def _answer(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(ANSWER)


def _serve(latency_s: float, port: int) -> None:
    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Answerer(latency_s), "127.0.0.1", port, backlog=8192)
        await server.serve_forever()

    uvloop.run(serve())
