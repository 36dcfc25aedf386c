"""A rival: one program that enqueues, one that works, both told what to do by JSON lines.

Workers say how many outcomes they have stored, so that nobody has to ask the database while the clock runs.
"""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import asyncpg

from bench import setup
from bench.child import Child, child
from bench.place import BROKER_PORT, RECEIVER_PORT, Place, libpq_environment, settle_down
from bench.receipts import Receipts
from bench.rivals import log
from bench.rivals.broker import redis
from bench.rivals.system import System, Work
from bench.seeding import APP_SECRET
from bench.wire import FIRST_CHANNEL, TEXT, TOKEN, VERSION, WIRES
from pombo.domain.channels import ChannelKind

_WIRE = WIRES[ChannelKind.WHATSAPP]
_START_S = 30.0
# Between two things that a process says.
_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Program:
    """How the processes of a rival are started."""

    name: str
    worker: Sequence[str]
    enqueuer: Sequence[str]
    needs_broker: bool = False


class _Rival:
    def __init__(
        self, work: Work, connection: asyncpg.Connection, enqueuer: Child, parts: dict[str, list[Child]]
    ) -> None:
        self._work = work
        self._connection = connection
        self._enqueuer = enqueuer
        self.parts = parts
        self._stored = 0

    async def go(self) -> None:
        for worker in self.parts["worker"]:
            worker.tell({"go": True})

    async def enqueue(self, first: int, count: int) -> None:
        self._enqueuer.tell({"enqueue": [first, count]})
        await self._enqueuer.hear("enqueued", _TIMEOUT_S)

    async def all_stored(self) -> None:
        async def count(worker: Child) -> None:
            while True:
                stored = await worker.hear("stored", _TIMEOUT_S)
                self._stored += stored
                if self._stored >= self._work.total:
                    return

        counting = [asyncio.create_task(count(worker)) for worker in self.parts["worker"]]
        done, others = await asyncio.wait(counting, return_when=asyncio.FIRST_COMPLETED)
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for task in done:
            task.result()

    async def all_applied(self) -> int:
        """The receiver has answered them all, so it has applied what it could."""
        count: int = await self._connection.fetchval("SELECT count(*) FROM delivery_log WHERE rank = $1", log.READ)
        return count

    async def accepted(self) -> int:
        count: int = await self._connection.fetchval("SELECT count(*) FROM delivery_log")
        return count


@asynccontextmanager
async def _open(program: Program, place: Place, work: Work) -> AsyncIterator[_Rival]:
    url = place.empty_database("bench_rival")
    environment = libpq_environment(url) | {"NODE_ENV": "production", "BENCH_WORK": json.dumps(_described(work))}
    async with AsyncExitStack() as stack:
        connection = await asyncpg.connect(url)
        stack.push_async_callback(connection.close)
        await log.create(connection)
        parts: dict[str, list[Child]] = {}
        if program.needs_broker:
            parts["broker"] = [await stack.enter_async_context(redis(place))]

        async def start(title: str, command: Sequence[str]) -> Child:
            process = await stack.enter_async_context(child(f"{program.name} {title}", command, environment))
            await process.hear("ready", _START_S)
            return process

        enqueuer = await start("enqueuer", program.enqueuer)
        if work.with_receipts:
            parts["receiver"] = [await start("receiver", _node("receiver.js"))]
        parts["worker"] = [await start("worker", program.worker) for _ in range(work.processes)]
        running = _Rival(work, connection, enqueuer, parts)
        if work.messages:
            await running.enqueue(0, work.messages)
        await settle_down(url)
        yield running


def _described(work: Work) -> dict[str, object]:
    """For rivals/node/work.js and rivals/python/work.py."""
    return {
        "url": work.server_url,
        "version": VERSION,
        "channels": [str(FIRST_CHANNEL + number) for number in range(work.channels)],
        "firstRecipient": _WIRE.first_recipient,
        "text": TEXT,
        "token": TOKEN,
        "connections": work.connections,
        "appSecret": APP_SECRET,
        "receiverPort": RECEIVER_PORT,
        "redis": {"host": "127.0.0.1", "port": BROKER_PORT},
    }


def _node(script: str, *arguments: str) -> list[str]:
    return [shutil.which("node") or "node", str(setup.NODE / script), *arguments]


def _python(script: str) -> list[str]:
    return [str(setup.PYTHON), str(setup.PYTHON.parents[2] / script)]


def _system(program: Program) -> System:
    def install() -> None:
        # The receiver of all of them is written in Node.
        setup.ensure_node_rivals()
        if program.needs_broker:
            setup.ensure_programs("redis-server")
        if program.worker[0] == str(setup.PYTHON):
            setup.ensure_python_rivals()

    return System(
        program.name, partial(_open, program), Receipts(RECEIVER_PORT, "/webhook", APP_SECRET), installs=install
    )


RIVALS = tuple(
    map(
        _system,
        (
            Program("bullmq-axios", _node("bullmq-worker.js", "axios"), _node("bullmq-enqueue.js"), needs_broker=True),
            Program(
                "bullmq-undici", _node("bullmq-worker.js", "undici"), _node("bullmq-enqueue.js"), needs_broker=True
            ),
            Program("graphile-worker", _node("graphile-worker.js"), _node("graphile-enqueue.js")),
            Program("pgqueuer", _python("worker.py"), _python("enqueue.py")),
        ),
    )
)
