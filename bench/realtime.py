"""`realtime`: how long it takes from Meta's POST, or an event's insertion, to every open browser that should see it.

A real `pombo api` (and, from webhooks, a real `pombo worker`), many WebSockets in a process of their own, events at an
even rate whatever becomes of them. Each carries the time at which it was due; what a socket reads is compared with that
by the machine's one monotonic clock. Everything shares the machine, so Meta's side and the browsers do as little as
they can: webhooks are signed before the measurement begins. What they still take is told with the rest.
"""

import argparse
import asyncio
import base64
import hashlib
import hmac
import json
import multiprocessing
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import uvloop

from bench.place import open_place
from bench.processes import cpu_seconds, family
from bench.results import machine
from pombo.domain.channels import ChannelKind
from pombo.store import accounts, channels, events
from pombo.store.database import Database
from pombo.store.events import Event
from pombo.store.secrets import SecretBox

_PORT = 18_490
_KEY = "a key for benchmarks, of at least 32 characters"
_SECRET = "the secret of a Meta app"
_TOPIC = "conversations:all"
_NAME = "conversation.updated"
_STAMP = re.compile(rb"at:(\d+)")
# Conversations of a workspace among which the events are spread.
_PEOPLE = 50
# Until the first connections, plans and caches are warm; not measured.
_WARM_UP_S = 3.0
# What was sent in the last moment is still waited for.
_PATIENCE_S = 10.0
# Meta's.
_CONNECTIONS = 64
# A conversation, as the inbox shows it, has about so many bytes.
_PADDING = "x" * 400


@dataclass(frozen=True, slots=True)
class Workspace:
    id: int
    page: str
    key: str


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--events", type=int, default=1000, help="a second")
    parser.add_argument("--sockets", type=int, default=500)
    parser.add_argument("--workspaces", type=int, default=50, help="an event goes to all sockets of its workspace")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--start", choices=["webhook", "insert"], default="webhook", help="where an event begins")


def main(options: argparse.Namespace) -> dict[str, Any]:
    with open_place() as place:
        return uvloop.run(_measure(place.pombo_database(), place.server.pid, place.directory, options))


async def _measure(url: str, database_pid: int, directory: Path, options: argparse.Namespace) -> dict[str, Any]:
    async with Database.open(url) as database:
        workspaces = await _seed(database, options.workspaces)
        roles = ["api", "worker"] if options.start == "webhook" else ["api"]
        processes = [_start(role, url, directory) for role in roles]
        ours, theirs = multiprocessing.get_context("spawn").Pipe()
        listening = multiprocessing.get_context("spawn").Process(
            target=_listen, args=(theirs, [workspace.key for workspace in workspaces], options.sockets), daemon=True
        )
        try:
            await _until_open(_PORT)
            listening.start()
            await asyncio.to_thread(ours.recv)
            heads = {role: process.pid for role, process in zip(roles, processes, strict=True)}
            heads["database"] = database_pid
            assert listening.pid is not None
            heads["browsers"] = listening.pid
            families: dict[str, set[int]] = {}
            total = int((options.seconds + _WARM_UP_S) * options.events)
            answers: list[tuple[float, float]] = []
            ready = _events(options, workspaces, total)
            async with _beginning(options.start, database, answers) as begin:
                before, began = {}, time.monotonic()
                for n in range(total):
                    due = began + n / options.events
                    if (wait := due - time.monotonic()) > 0:
                        await asyncio.sleep(wait)
                    if n == int(_WARM_UP_S * options.events):
                        # Not earlier: the database has a process for each connection made until now.
                        families = {name: family(pid) for name, pid in heads.items()} | {"meta": {os.getpid()}}
                        before = {name: cpu_seconds(pids) for name, pids in families.items()}
                    begin.put_nowait((ready[n], due))
                after = {name: cpu_seconds(pids) for name, pids in families.items()}
                written = await _until_ingested(database, begin)
            await asyncio.to_thread(_wait_for, ours, written * options.sockets // options.workspaces)
            measured_from = began + _WARM_UP_S
            ours.send((began, measured_from))
            latencies, missing = await asyncio.to_thread(ours.recv)
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()
            if listening.pid is not None:
                listening.terminate()
    answered = [seconds for due, seconds in answers if due >= measured_from]
    return _document(latencies, answered, missing, {name: after[name] - before[name] for name in after}, options)


async def _until_ingested(database: Database, begin: "Beginnings") -> int:
    """How many events there are when all has been written: a conversation that changes twice in one batch has one."""
    await begin.join()
    async with database.borrow() as connection:
        while await connection.fetchval("SELECT count(*) FROM webhook_queue"):
            await asyncio.sleep(0.1)
        written: int = await connection.fetchval(
            "SELECT count(*) FROM events WHERE name = $1 OR conversation IS NOT NULL", _NAME
        )
        return written


def _wait_for(pipe: Connection, deliveries: int) -> None:
    """Until the sockets have heard all, or nothing more for a while."""
    pipe.send(deliveries)
    pipe.recv()


def _document(
    latencies: Sequence[float],
    answered: Sequence[float],
    missing: int,
    cpu_s: dict[str, float],
    options: argparse.Namespace,
) -> dict[str, Any]:
    ordered = sorted(latencies)
    measured = options.events * options.seconds / 1000
    document = {
        "machine": machine(),
        "start": options.start,
        "events_per_s": options.events,
        "sockets": options.sockets,
        "workspaces": options.workspaces,
        "seconds": options.seconds,
        "heard": len(ordered),
        "missing": missing,
        **_percentiles(ordered),
        "webhook_answer": _percentiles(sorted(answered)) if answered else None,
        "cpu_ms_per_1000": {name: seconds * 1000 / measured for name, seconds in cpu_s.items()},
    }
    cpu = " + ".join(f"{name} {ms:.0f}" for name, ms in document["cpu_ms_per_1000"].items())
    print(
        f"{options.events:,} events/s from {options.start} to {options.sockets:,} sockets in {options.workspaces:,} "
        f"workspaces: p50 {document['p50_ms']:.1f} ms, p99 {document['p99_ms']:.1f} ms, p99.9 "
        f"{document['p999_ms']:.1f} ms, longest {document['max_ms']:.0f} ms, {missing} missing; "
        f"CPU ms per 1,000 events: {cpu}"
    )
    if answer := document["webhook_answer"]:
        print(f"webhooks answered: p50 {answer['p50_ms']:.1f} ms, p99 {answer['p99_ms']:.1f} ms")
    return document


def _percentiles(ordered: Sequence[float]) -> dict[str, float]:
    def percentile(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000

    return {
        "p50_ms": percentile(0.5),
        "p99_ms": percentile(0.99),
        "p999_ms": percentile(0.999),
        "max_ms": percentile(1),
    }


# --- Pombo's side ---------------------------------------------------------------------------------------------------
async def _seed(database: Database, count: int) -> list[Workspace]:
    box, made = SecretBox(_KEY), []
    for n in range(1, count + 1):
        async with database.transaction() as connection:
            workspace_id = await accounts.ensure_workspace(connection, f"bench {n}")
            app = await accounts.ensure_app(connection, box, workspace_id, "app", f"{_SECRET} {n}", None)
            page = str(10_000 + n)
            await channels.save_channel(
                connection,
                box,
                workspace_id=workspace_id,
                kind=ChannelKind.MESSENGER,
                external_id=page,
                name=page,
                app_id=app.id,
                token="token",
                rate_per_second=40,
            )
            made.append(Workspace(workspace_id, page, await accounts.create_api_key(connection, workspace_id, "bench")))
    return made


def _start(role: str, url: str, directory: Path) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "DATABASE_URL": url, "POMBO_SECRET_KEY": _KEY, "PORT": str(_PORT)}
    environment |= {"LOG_LEVEL": "warning", "POMBO_DATA_DIR": str(directory)}
    return subprocess.Popen([sys.executable, "-m", "pombo", role], env=environment, cwd=directory)


async def _until_open(port: int) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


# --- where events begin ---------------------------------------------------------------------------------------------
Beginnings = asyncio.Queue[tuple[Event | bytes, float]]
"""Each an event to be inserted or the whole request of a webhook, and when it is due."""


def _events(options: argparse.Namespace, workspaces: list[Workspace], total: int) -> list[Event] | list[bytes]:
    places = [(workspaces[n % len(workspaces)], n, n / options.events) for n in range(total)]
    if options.start == "webhook":
        return [_request(workspace, n, len(workspaces), after_s) for workspace, n, after_s in places]
    return [
        Event(workspace.id, _TOPIC, _NAME, json.dumps({"id": n, "preview": _text(after_s), "x": _PADDING}))
        for workspace, n, after_s in places
    ]


@asynccontextmanager
async def _beginning(start: str, database: Database, answers: list[tuple[float, float]]) -> AsyncIterator[Beginnings]:
    """`answers` gets, of each webhook, when it was due and how long its answer took."""
    queue: Beginnings = asyncio.Queue()
    if start == "insert":
        tasks = [asyncio.create_task(_insert(database, queue))]
    else:
        tasks = [asyncio.create_task(_post(queue, answers)) for _ in range(_CONNECTIONS)]
    try:
        yield queue
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        for end in ended:
            if isinstance(end, Exception):
                raise end


async def _insert(database: Database, queue: Beginnings) -> None:
    """As ingest does: what has come goes into one transaction, then the bell."""
    async with database.borrow() as connection:
        while True:
            batch = [await queue.get()]
            while not queue.empty():
                batch.append(queue.get_nowait())
            async with connection.transaction():
                await events.append(connection, [event for event, _ in batch if isinstance(event, Event)])
            await connection.execute("SELECT pg_notify($1, '')", events.BELL)
            for _ in batch:
                queue.task_done()
            await asyncio.sleep(0.004)


def _request(workspace: Workspace, n: int, workspaces: int, after_s: float) -> bytes:
    at_ms = int((time.time() + after_s) * 1000)
    messaging = {
        "sender": {"id": str(500_000 + n // workspaces % _PEOPLE)},
        "recipient": {"id": workspace.page},
        "timestamp": at_ms,
        "message": {"mid": f"m_bench_{n}", "text": _text(after_s)},
    }
    entry = {"id": workspace.page, "time": at_ms, "messaging": [messaging]}
    body = json.dumps({"object": "page", "entry": [entry]}).encode()
    secret = f"{_SECRET} {int(workspace.page) - 10_000}"
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    head = (
        f"POST /webhook HTTP/1.1\r\nHost: 127.0.0.1:{_PORT}\r\nContent-Type: application/json\r\n"
        f"X-Hub-Signature-256: sha256={signature}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _post(queue: Beginnings, answers: list[tuple[float, float]]) -> None:
    loop = asyncio.get_running_loop()
    transport, connection = await loop.create_connection(_Posting, "127.0.0.1", _PORT)
    try:
        while True:
            request, due = await queue.get()
            assert isinstance(request, bytes)
            asked = time.monotonic()
            transport.write(request)
            answer = await connection.answer()
            answers.append((due, time.monotonic() - asked))
            # Nothing follows the head of a 200.
            if not answer.startswith(b"HTTP/1.1 200 ") or not answer.endswith(b"\r\n\r\n"):
                raise RuntimeError(f"a webhook was answered {answer!r}")
            queue.task_done()
    finally:
        transport.close()


class _Posting(asyncio.Protocol):
    """A connection of Meta's, one request at a time."""

    def __init__(self) -> None:
        self._answer: asyncio.Future[bytes] | None = None

    async def answer(self) -> bytes:
        """What comes next."""
        self._answer = asyncio.get_running_loop().create_future()
        return await self._answer

    def data_received(self, data: bytes) -> None:
        assert self._answer is not None
        self._answer.set_result(data)

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(RuntimeError("a webhook was not answered"))


def _text(after_s: float) -> str:
    """When it is due, from the beginning."""
    return f"at:{int(after_s * 1e9)}"


# --- the browsers ---------------------------------------------------------------------------------------------------
class _Browser(asyncio.Protocol):
    """The least that reads frames, so that the browsers take little of the machine."""

    def __init__(self, key: str, heard: list[tuple[int, int]], ready: asyncio.Semaphore) -> None:
        self._key = key
        self._heard = heard
        self._ready = ready
        self._data = b""
        self._upgraded = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        nonce = base64.b64encode(os.urandom(16)).decode()
        self._transport.write(
            f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{_PORT}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {nonce}\r\nSec-WebSocket-Version: 13\r\n"
            f"Authorization: Bearer {self._key}\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self._upgraded:
            head, end, rest = self._data.partition(b"\r\n\r\n")
            if not end:
                return
            assert head.startswith(b"HTTP/1.1 101"), head
            self._upgraded, self._data = True, rest
            self._send(0x1, json.dumps({"type": "subscribe", "topics": [_TOPIC]}).encode())
        while frame := self._next_frame():
            self._take(*frame)

    def _next_frame(self) -> tuple[int, bytes] | None:
        data = self._data
        if len(data) < 2:
            return None
        size, start = data[1], 2
        if size == 126:
            size, start = int.from_bytes(data[2:4], "big"), 4
        elif size == 127:
            size, start = int.from_bytes(data[2:10], "big"), 10
        if len(data) < start + size:
            return None
        self._data = data[start + size :]
        return data[0] & 0xF, data[start : start + size]

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == 0x9:
            self._send(0xA, payload)
        elif opcode == 0x8:
            raise RuntimeError(f"a socket was closed: {payload!r}")
        elif payload.startswith(b'{"type":"events"'):
            now = time.monotonic_ns()
            self._heard += [(int(stamp), now) for stamp in _STAMP.findall(payload)]
        elif payload.startswith(b'{"type":"subscribed"'):
            self._ready.release()

    def _send(self, opcode: int, payload: bytes) -> None:
        # A mask of zeros leaves the payload as it is.
        self._transport.write(bytes([0x80 | opcode, 0x80 | len(payload)]) + bytes(4) + payload)


def _listen(pipe: Connection, keys: list[str], sockets: int) -> None:
    async def listen() -> None:
        heard: list[tuple[int, int]] = []
        ready = asyncio.Semaphore(0)
        loop = asyncio.get_running_loop()
        for n in range(sockets):
            made = socket.create_connection(("127.0.0.1", _PORT))
            await loop.create_connection(partial(_Browser, keys[n % len(keys)], heard, ready), sock=made)
        for _ in range(sockets):
            await ready.acquire()
        pipe.send("ready")
        expected = cast(int, await asyncio.to_thread(pipe.recv))
        last, since = -1, time.monotonic()
        while len(heard) < expected and time.monotonic() - since < _PATIENCE_S:
            if len(heard) != last:
                last, since = len(heard), time.monotonic()
            await asyncio.sleep(0.1)
        pipe.send("heard")
        began, measured_from = cast(tuple[float, float], await asyncio.to_thread(pipe.recv))
        latencies = [now / 1e9 - (began + at / 1e9) for at, now in heard if began + at / 1e9 >= measured_from]
        pipe.send((latencies, expected - len(heard)))

    uvloop.run(listen())
