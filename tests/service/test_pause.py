"""Pausing, resuming, cancelling and the panic button, with whole workers sending to the sandbox meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from pombo.campaigns.cancelling import CancelDuty
from pombo.campaigns.expand import Expander
from pombo.campaigns.figures import FiguresDuty
from pombo.campaigns.pauses import PauseDuty
from pombo.domain.ids import ChannelId, RunId, WorkspaceId
from pombo.sending.worker import Worker, WorkerOptions
from pombo.store import halts, run_control
from pombo.store.audience import DUE_BELL
from pombo.store.database import Database
from pombo.store.run_control import CONTROL_BELL
from pombo.store.secrets import SecretBox
from tests.sandbox_server import ChannelHandle, SandboxHandle, running_sandbox
from tests.seeding import SeededRun, add_channel, add_run, add_workspace, figures

LONG_S = 40.0
"""A failure rather than a wait."""


@dataclass(frozen=True, slots=True)
class Place:
    database: Database
    box: SecretBox
    sandbox: SandboxHandle
    workspace: WorkspaceId
    pages: list[ChannelHandle]
    channels: list[ChannelId]
    options: WorkerOptions

    async def run(self, count: int, first: int = 10_000) -> SeededRun:
        """Messages spread over the channels."""
        recipients = [(self.channels[n % len(self.channels)], str(first + n)) for n in range(count)]
        return await add_run(self.database, self.workspace, recipients)

    async def value(self, query: str, *arguments: Any) -> Any:
        async with self.database.borrow() as connection:
            return await connection.fetchval(query, *arguments)

    async def state(self, run: SeededRun) -> str:
        return str(await self.value("SELECT state FROM runs WHERE id = $1", run.run_id))

    async def ask(self, what: Callable[..., Awaitable[list[RunId]]], run: SeededRun) -> None:
        async with self.database.tenant(self.workspace) as connection:
            await what(connection, self.workspace, [run.run_id])

    async def figures(self, run: SeededRun) -> dict[str, int]:
        async with self.database.borrow() as connection:
            return await figures(connection, run)

    async def until(self, condition: Callable[[], Awaitable[object]]) -> None:
        async with asyncio.timeout(LONG_S):
            while not await condition():
                await asyncio.sleep(0.005)  # between two looks

    async def until_state(self, run: SeededRun, *states: str) -> None:
        async def reached() -> bool:
            return await self.state(run) in states

        await self.until(reached)

    async def until_sent(self, count: int) -> None:
        async def sent() -> bool:
            return (await self.ledger())["accepted"] >= count

        await self.until(sent)

    async def ledger(self) -> dict[str, Any]:
        return await self.sandbox.ledger()

    async def sent_to(self, run: SeededRun) -> int:
        """How often the sandbox was sent a message of the run."""
        ids = {str(message_id) for message_id in run.message_ids}
        return sum(message["key"].split(".")[1] in ids for message in await self.sandbox.messages())

    async def nothing_in_flight(self) -> bool:
        return not await self.value("SELECT count(*) FROM outbox WHERE state = 's'")


@pytest.fixture
async def place(database: Database, box: SecretBox) -> AsyncIterator[Place]:
    async with running_sandbox() as sandbox:
        app = await sandbox.add_app()
        workspace = await add_workspace(database)
        pages = [await sandbox.add_page(app, brake_per_second=None, latency_ms=30.0) for _ in range(2)]
        channels = [await add_channel(database, box, workspace, page) for page in pages]
        options = WorkerOptions(
            graph_api_url=sandbox.base_url, graph_api_version="v26.0", max_sockets=10, concurrency=10,
            answer_timeout_s=5, lease_s=2.0,
        )  # fmt: skip
        yield Place(database, box, sandbox, workspace, pages, channels, options)


@asynccontextmanager
async def working(place: Place, workers: int = 1) -> AsyncIterator[list[Worker]]:
    """Workers with all that a worker's process does, bells included."""
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        found, tasks = [], []
        for _ in range(workers):
            database = place.database
            worker = Worker(database, place.box, place.options)
            pauses, cancelling, expander = PauseDuty(database), CancelDuty(database, chunk=50), Expander(database)
            await stack.enter_async_context(
                database.listen(
                    {
                        DUE_BELL: lambda _, worker=worker: worker.ring(),
                        CONTROL_BELL: lambda _, p=pauses, c=cancelling: (p.bell.set(), c.bell.set()),
                        "pombo_runs": lambda _, expander=expander: expander.bell.set(),
                    }
                )
            )
            parts = (worker, pauses, cancelling, expander, FiguresDuty(database))
            tasks += [asyncio.create_task(part.run(stop)) for part in parts]
            found.append(worker)
        try:
            yield found
        finally:
            stop.set()
            await asyncio.gather(*tasks)


async def test_once_a_run_is_paused_not_one_more_is_sent_and_resuming_sends_the_rest(place: Place) -> None:
    run = await place.run(400)
    async with working(place):
        await place.until_sent(40)
        await place.ask(run_control.pause_runs, run)
        await place.until_state(run, "paused")
        sent = (await place.ledger())["accepted"]
        await place.until(place.nothing_in_flight)
        # Another run goes through the same channels meanwhile, from beginning to end.
        other = await place.run(40, first=20_000)
        await place.until_state(other, "completed")
        assert await place.sent_to(run) == sent < 400

        await place.ask(run_control.resume_runs, run)
        await place.until_state(run, "completed")
    assert await place.figures(run) == {"total": 400, "accepted": 400}
    assert (await place.ledger())["duplicates"] == 0
