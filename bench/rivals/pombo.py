"""Pombo: `pombo worker`, and `pombo api` where receipts come."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg

from bench import pombo_processes
from bench.child import Child
from bench.place import RECEIVER_PORT, Place, settle_down, until
from bench.receipts import Receipts
from bench.rivals.system import System, Work
from bench.seeding import APP_SECRET, Seeded, add_run, enqueue, open_stream, seed
from bench.wire import WIRES
from pombo.domain.channels import ChannelKind
from pombo.store.database import Database

_WIRE = WIRES[ChannelKind.WHATSAPP]
_TIMEOUT_S = 300.0


class _Pombo:
    def __init__(
        self, database: Database, connection: asyncpg.Connection, seeded: Seeded, parts: dict[str, list[Child]]
    ) -> None:
        self._database = database
        self._connection = connection
        self._seeded = seeded
        self.parts = parts

    async def go(self) -> None:
        await open_stream(self._connection, self._seeded)

    async def enqueue(self, first: int, count: int) -> None:
        await enqueue(self._database, _WIRE, self._seeded, first, count)

    async def all_stored(self) -> None:
        watching = [asyncio.create_task(child.fail_when_ended()) for child in self.parts["worker"]]
        question = "SELECT NOT EXISTS (SELECT FROM outbox)"
        stored = asyncio.create_task(until(self._connection, question, timeout_s=_TIMEOUT_S))
        done, others = await asyncio.wait([stored, *watching], return_when=asyncio.FIRST_COMPLETED)
        for task in others:
            task.cancel()
        for task in done:
            task.result()

    async def all_applied(self) -> int:
        await until(self._connection, "SELECT NOT EXISTS (SELECT FROM webhook_queue)", timeout_s=_TIMEOUT_S)
        # What came before its message's outcome was written is applied right after that.
        await until(self._connection, "SELECT NOT EXISTS (SELECT FROM pending_receipts)", timeout_s=_TIMEOUT_S)
        read: int = await self._connection.fetchval("SELECT count(*) FROM deliveries WHERE state = 5")
        return read

    async def accepted(self) -> int:
        count: int = await self._connection.fetchval("SELECT count(*) FROM deliveries WHERE state >= 2")
        return count


@asynccontextmanager
async def _open(place: Place, work: Work) -> AsyncIterator[_Pombo]:
    url = await asyncio.to_thread(place.pombo_database)
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database.open(url, "pombo bench"))
        seeded = await seed(database, _WIRE, work.channels, work.messages)
        if work.messages != work.total:
            # A run that still expects messages, so that it is not completed in between.
            run_id = await add_run(database, seeded.workspace_id, seeded.channel_ids, work.total)
            seeded = Seeded(seeded.workspace_id, seeded.channel_ids, run_id, seeded.api_key)
        await settle_down(url)
        connection = await pombo_processes.connect(url)
        stack.push_async_callback(connection.close)
        workers = [
            await stack.enter_async_context(pombo_processes.worker(url, work.server_url, work.connections))
            for _ in range(work.processes)
        ]
        parts = {"worker": workers}
        if work.with_receipts:
            parts["receiver"] = [await stack.enter_async_context(pombo_processes.api(url))]
        await pombo_processes.all_leased(connection, work.processes)
        yield _Pombo(database, connection, seeded, parts)


POMBO = System(
    "pombo", _open, Receipts(RECEIVER_PORT, "/api/webhooks/whatsapp/status", APP_SECRET), installs=lambda: None
)
