"""Pausing, resuming, cancelling and the panic button, with whole workers sending to the sandbox meanwhile."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from pombo.campaigns.cancelling import CancelDuty
from pombo.campaigns.expand import Expander
from pombo.campaigns.figures import FiguresDuty
from pombo.campaigns.pauses import PauseDuty
from pombo.domain.ids import ChannelId, RunId, WorkspaceId
from pombo.sending.worker import Worker, WorkerOptions
from pombo.store import halts, leases, run_control, settlement
from pombo.store.audience import DUE_BELL
from pombo.store.database import Database
from pombo.store.run_control import CONTROL_BELL
from pombo.store.secrets import SecretBox
from pombo.store.settlement import Evidence
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

    async def neighbour(self) -> "Place":
        """Another workspace's, with a Page of its own, seen by the same workers."""
        workspace = await add_workspace(self.database, "neighbour")
        page = await self.sandbox.add_page(self.pages[0].app, brake_per_second=None)
        channel = await add_channel(self.database, self.box, workspace, page)
        return replace(self, workspace=workspace, pages=[page], channels=[channel])

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
    # Slow answers: all sockets are busy, and what was taken waits armed for the next that is free.
    await place.sandbox.configure(latency_ms=250.0)
    run = await place.run(400)
    async with working(place):
        await place.until_sent(40)
        await place.ask(run_control.pause_runs, run)
        await place.until_state(run, "paused")
        sent = (await place.ledger())["accepted"]
        await place.until(place.nothing_in_flight)
        await place.sandbox.configure(latency_ms=0.0)
        # Another run goes through the same channels meanwhile, from beginning to end.
        other = await place.run(40, first=20_000)
        await place.until_state(other, "completed")
        assert await place.sent_to(run) == sent < 400

        await place.ask(run_control.resume_runs, run)
        await place.until_state(run, "completed")
    assert await place.figures(run) == {"total": 400, "accepted": 400}
    assert (await place.ledger())["duplicates"] == 0


async def test_two_workers_acknowledge_each_for_its_own_channels(place: Place) -> None:
    async with working(place, workers=2) as workers:

        async def shared() -> bool:
            return all(len(worker.lanes) == 1 for worker in workers)

        await place.until(shared)
        run = await place.run(400)
        await place.until_sent(40)
        await place.ask(run_control.pause_runs, run)
        await place.until_state(run, "paused")
        sent = (await place.ledger())["accepted"]
        assert await place.value("SELECT count(*) FROM streams WHERE acknowledged") == 2
        await place.until(place.nothing_in_flight)
        other = await place.run(40, first=20_000)
        await place.until_state(other, "completed")
        assert await place.sent_to(run) == sent < 400
        await place.ask(run_control.resume_runs, run)
        await place.until_state(run, "completed")
    assert (await place.ledger())["duplicates"] == 0
    assert await place.figures(run) == {"total": 400, "accepted": 400}


async def test_a_run_is_resumed_before_its_pause_was_acknowledged(place: Place) -> None:
    run = await place.run(200)
    async with working(place):
        await place.until_sent(20)
        for _ in range(5):
            await place.ask(run_control.pause_runs, run)
            await place.ask(run_control.resume_runs, run)
        await place.until_state(run, "completed")
    assert await place.figures(run) == {"total": 200, "accepted": 200}
    assert (await place.ledger())["duplicates"] == 0


async def test_a_pause_is_complete_when_the_lease_of_an_owner_that_died_has_ended(place: Place) -> None:
    run = await place.run(100)
    async with place.database.borrow() as connection:
        dead = await leases.register(connection, "killed", 1, 3600.0)
        assert len(await leases.acquire(connection, dead)) == 2
    await place.ask(run_control.pause_runs, run)
    await PauseDuty(place.database).run_once()
    assert await place.state(run) == "pausing"

    await place.value("UPDATE workers SET expires_at = clock_timestamp() RETURNING id")
    async with working(place):
        await place.until_state(run, "paused")
        # Its channels have a new owner, which sends for everybody else.
        other = await place.run(20, first=20_000)
        await place.until_state(other, "completed")
        assert await place.sent_to(run) == 0


async def test_a_pause_is_complete_on_stopped_channels_and_on_those_without_an_owner(place: Place) -> None:
    run = await place.run(100)
    await place.ask(run_control.pause_runs, run)
    await PauseDuty(place.database).run_once()
    assert await place.state(run) == "paused"

    async with working(place) as [worker]:
        await place.until_state(run, "paused")

        async def owned() -> bool:
            return len(worker.lanes) == 2

        await place.until(owned)
        await place.value("UPDATE channels SET state = 'stopped', stop_reason = 'a test' RETURNING id")
        await place.ask(run_control.resume_runs, run)
        await place.ask(run_control.pause_runs, run)
        await place.until_state(run, "paused")


async def test_cancelling_in_the_middle_settles_what_waits_and_leaves_what_is_in_flight_to_end(place: Place) -> None:
    # The pair limit is retried after a while, so that some wait for another attempt when the run is cancelled.
    await place.sandbox.add_faults({"kind": "error", "code": 131056, "http_status": 400, "rate": 0.2})
    phone = await place.sandbox.add_phone(place.pages[0].app, messages_per_second=None, latency_ms=30.0)
    channel = await add_channel(place.database, place.box, place.workspace, phone)
    place = replace(place, pages=[phone], channels=[channel])
    run = await place.run(600, first=14_155_550_000)
    async with working(place, workers=2):
        await place.until_sent(60)
        await place.ask(run_control.cancel_runs, run)
        await place.until_state(run, "cancelled")
        found = await place.figures(run)
        sent = (await place.ledger())["accepted"]
        await place.sandbox.clear_faults()
        other = await place.run(20, first=14_155_560_000)
        await place.until_state(other, "completed")
        assert await place.sent_to(run) == sent
    assert found["accepted"] == sent < 600
    assert found["accepted"] + found["cancelled"] + found.get("failed", 0) == found["total"] == 600
    assert "uncertain" not in found
    assert await place.value("SELECT count(*) FROM outbox") == 0
    assert await place.value("SELECT count(*) FROM streams") == 0
    assert (
        await place.value("SELECT count(*) FROM deliveries WHERE run_id = $1 AND state = 0", run.run_id)
        == (found["cancelled"])
    )
    assert await place.value("SELECT count(*) FROM deliveries WHERE state = 0 AND attempt > 0") > 0


async def test_a_cancelled_run_is_over_when_its_doubts_are_and_evidence_still_counts(place: Place) -> None:
    run = await place.run(300)
    await place.sandbox.add_faults({"kind": "lost_answer", "rate": 1.0, "max_count": 3})
    async with working(place):
        await place.until_sent(40)
        await place.ask(run_control.cancel_runs, run)

        async def only_doubts_are_left() -> bool:
            return await place.value("SELECT count(*) = count(*) FILTER (WHERE state = 'u') FROM outbox") is True

        await place.until(only_doubts_are_left)
        found = await place.figures(run)
        assert found["uncertain"] == 3
        assert await place.state(run) == "cancelling"
        async with place.database.borrow() as connection:
            keys = {message["key"]: message["provider_id"] for message in await place.sandbox.messages()}
            doubts = await connection.fetch("SELECT id, channel_id, attempt, intent_at FROM outbox")
            for row in doubts:
                [provider_id] = [p for k, p in keys.items() if k.split(".")[1] == str(row["id"])]
                day = row["intent_at"].date()
                await settlement.settle_evidence(
                    connection,
                    [Evidence(place.workspace, row["channel_id"], row["id"], 1, day, provider_id, row["intent_at"])],
                )
        await place.until_state(run, "cancelled")
    found = await place.figures(run)
    assert found["accepted"] == (await place.ledger())["accepted"]
    assert found["accepted"] + found["cancelled"] == found["total"] == 300


async def test_the_panic_button_holds_everything_until_it_is_released(place: Place) -> None:
    runs = [await place.run(200, first=10_000 + 1_000 * n) for n in range(3)]
    async with working(place, workers=2):
        await place.until_sent(60)
        await place.ask(run_control.pause_runs, runs[0])
        async with place.database.tenant(place.workspace) as connection:
            await halts.halt(connection, place.workspace)

        async def halted() -> bool:
            async with place.database.tenant(place.workspace) as connection:
                found = await halts.get_halt(connection, place.workspace)
            return found is not None and found.halted_at is not None

        await place.until(halted)
        sent = (await place.ledger())["accepted"]
        runs.append(await place.run(20, first=20_000))  # what begins afterwards waits too
        await place.until(place.nothing_in_flight)
        # A neighbour is not concerned; when all of its run was sent, ours would have been too.
        neighbour = await place.neighbour()
        other = await neighbour.run(100, first=30_000)
        await neighbour.until_state(other, "completed")
        assert (await place.ledger())["accepted"] == sent + 100

        async with place.database.tenant(place.workspace) as connection:
            assert await halts.release(connection, place.workspace)
        for run in runs[1:]:
            await place.until_state(run, "completed")
        assert await place.state(runs[0]) == "paused"
        before = await place.sent_to(runs[0])
        await place.ask(run_control.resume_runs, runs[0])
        await place.until_state(runs[0], "completed")
        assert before < 200
    assert (await place.ledger())["accepted"] == 720
    assert (await place.ledger())["duplicates"] == 0


async def test_a_paused_run_that_waits_to_try_again_holds_up_no_other_run(place: Place) -> None:
    await place.sandbox.add_faults({"kind": "error", "code": 131056, "http_status": 400, "rate": 1.0, "max_count": 1})
    phone = await place.sandbox.add_phone(place.pages[0].app, messages_per_second=None)
    channel = await add_channel(place.database, place.box, place.workspace, phone)
    place = replace(place, pages=[phone], channels=[channel])
    run = await place.run(1, first=14_155_550_000)
    async with working(place):

        async def waits() -> bool:
            return await place.value("SELECT count(*) = 1 FROM outbox WHERE state = 'r' AND attempt = 1") is True

        await place.until(waits)
        await place.ask(run_control.pause_runs, run)
        other = await place.run(1, first=14_155_550_000)
        await place.until_state(other, "completed")
        assert await place.state(run) == "paused"
    assert await place.sent_to(run) == 0


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_is_asked_in_whatever_order_nothing_is_lost_doubled_or_sent_while_paused(
    place: Place, seed: int
) -> None:
    chance = random.Random(seed)
    runs = [await place.run(150, first=10_000 + 1_000 * n) for n in range(3)]
    paused: dict[int, int] = {}
    """How many of a run had been sent when it was seen paused."""

    async def look() -> None:
        for run in runs:
            if run.run_id in paused:
                assert await place.sent_to(run) == paused[run.run_id]

    async with working(place, workers=2):
        for _ in range(25):
            run = chance.choice(runs)
            match chance.choice(["pause", "pause", "resume", "wait", "halt", "release"]):
                case "pause":
                    await place.ask(run_control.pause_runs, run)
                case "resume":
                    await look()
                    paused.pop(run.run_id, None)
                    await place.ask(run_control.resume_runs, run)
                case "wait":
                    await place.until_state(run, "paused", "processing", "completed")
                    if await place.state(run) == "paused":
                        await place.until(place.nothing_in_flight)
                        paused.setdefault(run.run_id, await place.sent_to(run))
                case "halt":
                    async with place.database.tenant(place.workspace) as connection:
                        await halts.halt(connection, place.workspace)
                case "release":
                    async with place.database.tenant(place.workspace) as connection:
                        await halts.release(connection, place.workspace)
            await look()
        async with place.database.tenant(place.workspace) as connection:
            await halts.release(connection, place.workspace)
        await place.ask(run_control.cancel_runs, runs[0])
        await place.ask(run_control.resume_runs, runs[1])
        await place.ask(run_control.resume_runs, runs[2])
        await place.until_state(runs[0], "cancelled", "completed")
        await place.until_state(runs[1], "completed")
        await place.until_state(runs[2], "completed")
    ledger = await place.ledger()
    first, second, third = [await place.figures(run) for run in runs]
    assert first.get("accepted", 0) + first.get("cancelled", 0) == 150
    assert second == third == {"total": 150, "accepted": 150}
    assert ledger["accepted"] == 300 + first.get("accepted", 0)
    assert ledger["duplicates"] == 0
