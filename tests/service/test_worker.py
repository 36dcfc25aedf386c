"""Whole workers against the sandbox and a real database."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import asyncpg
import pytest

from pombo.domain.classes import MessageClass
from pombo.domain.ids import ChannelId, WorkspaceId
from pombo.meta.transport.endpoint import Endpoint
from pombo.sending import reader
from pombo.sending.breaker import BreakerState
from pombo.sending.judge import PAIR_ATTEMPTS
from pombo.sending.once import process_batch
from pombo.sending.worker import Worker, WorkerOptions
from pombo.store import workers_view
from pombo.store.database import Database
from pombo.store.errors import DatabaseUnavailable
from pombo.store.secrets import SecretBox
from tests.sandbox_server import ChannelHandle, SandboxHandle
from tests.seeding import SeededRun, add_channel, add_run, figures


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def options(sandbox: SandboxHandle) -> WorkerOptions:
    return WorkerOptions(
        graph_api_url=sandbox.base_url, graph_api_version="v26.0", max_sockets=20, concurrency=20, answer_timeout_s=5
    )


@asynccontextmanager
async def working(database: Database, box: SecretBox, options: WorkerOptions) -> AsyncIterator[Worker]:
    worker, stop = Worker(database, box, options), asyncio.Event()
    task = asyncio.create_task(worker.run(stop))
    try:
        yield worker
    finally:
        stop.set()
        await task


async def until(
    worker: Worker, database: Database, run: SeededRun, done: Callable[[dict[str, int]], bool]
) -> dict[str, int]:
    """The figures once they are `done`, looked at after each batch of outcomes."""
    async with asyncio.timeout(20):
        while True:
            worker.saved.clear()
            with contextlib.suppress(DatabaseUnavailable):  # a pooled connection that a test has just broken
                async with database.borrow() as connection:
                    if done(found := await figures(connection, run)):
                        return found
                await worker.saved.wait()


async def test_every_message_is_accepted_once_and_logged_with_the_provider_id(
    database: Database, box: SecretBox, sandbox: SandboxHandle, workspace: WorkspaceId, options: WorkerOptions
) -> None:
    app = await sandbox.add_app()
    page, phone = (
        await sandbox.add_page(app, brake_per_second=None),
        await sandbox.add_phone(app, messages_per_second=None),
    )
    first = await add_channel(database, box, workspace, page)
    second = await add_channel(database, box, workspace, phone)
    recipients = [(first, str(10_000 + n)) for n in range(300)] + [
        (second, f"+1555{2_000_000 + n}") for n in range(300)
    ]
    run = await add_run(database, workspace, recipients)

    async with working(database, box, options) as worker:
        found = await until(worker, database, run, lambda f: f.get("accepted", 0) == 600)

    assert found == {"total": 600, "accepted": 600}
    ledger = await sandbox.ledger()
    assert (ledger["accepted"], ledger["duplicates"]) == (600, 0)
    async with database.borrow() as connection:
        assert await connection.fetchval("SELECT count(*) FROM outbox") == 0
        assert await connection.fetchval("SELECT count(*) FROM intents") == 0
        assert await connection.fetchval("SELECT count(*) FROM workers") == 0
        logged = {
            (row["recipient"].lstrip("+"), row["provider_id"])
            for row in await connection.fetch("SELECT recipient, provider_id FROM deliveries WHERE state = 2")
        }
    assert logged == {(m["recipient"], m["provider_id"]) for m in await sandbox.messages()}


@dataclass(frozen=True, slots=True)
class Setting:
    """A workspace with one Page, in Pombo and in the sandbox, and what a worker on it needs."""

    database: Database
    box: SecretBox
    sandbox: SandboxHandle
    workspace: WorkspaceId
    page: ChannelHandle
    channel: ChannelId
    options: WorkerOptions

    async def run(self, count: int, text: str = "Hello", variables: list[dict[str, str]] | None = None) -> SeededRun:
        recipients = [(self.channel, str(10_000 + n)) for n in range(count)]
        return await add_run(self.database, self.workspace, recipients, {"type": "text", "text": text}, variables)

    async def fault(self, **fault: Any) -> None:
        await self.sandbox.add_faults(fault)

    async def value(self, query: str) -> Any:
        async with self.database.borrow() as connection:
            return await connection.fetchval(query)


@pytest.fixture
async def setting(
    database: Database, box: SecretBox, sandbox: SandboxHandle, workspace: WorkspaceId, options: WorkerOptions
) -> Setting:
    page = await sandbox.add_page(await sandbox.add_app(), brake_per_second=None, calls_per_second=None)
    channel = await add_channel(database, box, workspace, page)
    return Setting(database, box, sandbox, workspace, page, channel, options)


async def settled(setting: Setting, run: SeededRun, count: int, options: WorkerOptions | None = None) -> dict[str, int]:
    """Works until so many messages are accepted, failed or in doubt."""
    async with working(setting.database, setting.box, options or setting.options) as worker:
        return await until(
            worker,
            setting.database,
            run,
            lambda f: f.get("accepted", 0) + f.get("failed", 0) + f.get("uncertain", 0) == count,
        )


async def test_a_recipient_who_cannot_be_reached_fails_and_the_others_are_sent_to(setting: Setting) -> None:
    run = await setting.run(20)
    await setting.fault(kind="error", code=551, subcode=1545041, http_status=400, recipient="10003")

    assert await settled(setting, run, 20) == {"total": 20, "accepted": 19, "failed": 1}
    assert await setting.value("SELECT recipient || ' ' || error_code FROM deliveries WHERE state = 1") == "10003 551"


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "error", "code": 1, "subcode": 1357046, "http_status": 500, "when": "after"},
        {"kind": "error", "code": 2, "http_status": 500, "when": "before"},
        {"kind": "lost_answer"},
    ],
    ids=["error after accept", "error before accept", "lost answer"],
)
async def test_what_may_have_been_accepted_is_doubtful_and_never_sent_again(
    setting: Setting, fault: dict[str, Any]
) -> None:
    run = await setting.run(10)
    await setting.fault(**fault, recipient="10003")

    assert await settled(setting, run, 10) == {"total": 10, "accepted": 9, "uncertain": 1}
    assert (await setting.sandbox.ledger())["duplicates"] == 0
    assert await setting.value("SELECT count(*) FROM doubts") == 1


async def test_too_fast_slows_the_channel_down_and_costs_no_message_an_attempt(setting: Setting) -> None:
    run = await setting.run(30)
    await setting.fault(kind="error", code=4, http_status=400, rate=1.0, max_count=4)

    assert await settled(setting, run, 30) == {"total": 30, "accepted": 30}
    assert await setting.value("SELECT max(attempt) FROM deliveries") > 1


async def test_a_message_gets_so_many_attempts_and_then_fails(setting: Setting) -> None:
    """131056, the pair limit, concerns one recipient: it is retried and counted, with more patience than others."""
    phone = await setting.sandbox.add_phone(await setting.sandbox.add_app(), messages_per_second=None)
    channel = await add_channel(setting.database, setting.box, setting.workspace, phone)
    run = await add_run(setting.database, setting.workspace, [(channel, "+14155550001"), (channel, "+14155550002")])
    await setting.fault(kind="error", code=131056, http_status=400, recipient="14155550001")

    async with working(setting.database, setting.box, replace(setting.options, attempts=2)) as worker:
        for attempt in range(1, PAIR_ATTEMPTS):
            waiting = f"SELECT count(*) FROM outbox WHERE state = 'r' AND attempt = {attempt} AND due_at > now()"
            async with asyncio.timeout(20):
                worker.saved.clear()
                while not await setting.value(waiting):
                    await worker.saved.wait()
                    worker.saved.clear()
            await setting.value("UPDATE outbox SET due_at = now()")
            worker.ring()
        found = await until(worker, setting.database, run, lambda f: "failed" in f)

    assert found == {"total": 2, "accepted": 1, "failed": 1}
    assert await setting.value("SELECT attempt FROM deliveries WHERE state = 1") == PAIR_ATTEMPTS


async def test_a_dead_token_stops_the_channel_and_a_new_one_sends_what_waited(setting: Setting) -> None:
    run = await setting.run(30)
    dead = replace(setting.page, token="revoked")
    await add_channel(setting.database, setting.box, setting.workspace, dead)
    async with working(setting.database, setting.box, setting.options) as worker:
        async with asyncio.timeout(20):
            worker.saved.clear()
            while await setting.value("SELECT state FROM channels") != "stopped":
                await worker.saved.wait()
                worker.saved.clear()
        assert "token" in (await setting.value("SELECT stop_reason FROM channels")).lower()
        assert await setting.value("SELECT count(*) FROM outbox") == 30

        await add_channel(setting.database, setting.box, setting.workspace, setting.page)
        assert await until(worker, setting.database, run, lambda f: f.get("accepted") == 30)
    assert (await setting.sandbox.ledger())["duplicates"] == 0


async def test_meta_away_opens_the_breaker_and_loses_nothing(setting: Setting) -> None:
    run = await setting.run(30)
    await setting.fault(kind="disconnect", rate=1.0, max_count=3)  # before a byte of an answer: doubtful
    options = replace(setting.options, breaker_threshold=3, breaker_timeout_s=0.2, concurrency=1, max_sockets=1)

    found = await settled(setting, run, 30, options)

    assert found == {"total": 30, "accepted": 27, "uncertain": 3}


async def test_an_unreachable_server_costs_no_attempts(setting: Setting, unused_port: int) -> None:
    run = await setting.run(5)
    nowhere = replace(setting.options, graph_api_url=f"http://127.0.0.1:{unused_port}", breaker_threshold=2)
    async with working(setting.database, setting.box, nowhere) as worker:
        async with asyncio.timeout(20):
            worker.saved.clear()
            while not any(lane.breaker.opened_at for lane in worker.lanes.values()):
                await worker.saved.wait()
                worker.saved.clear()
    assert await setting.value("SELECT count(*) FROM outbox WHERE state = 'r' AND attempt = uncounted") == 5

    # Its next owner finds the breaker open, and goes on when somebody resets it.
    await setting.value("UPDATE outbox SET due_at = now()")
    async with working(setting.database, setting.box, setting.options) as worker:
        async with asyncio.timeout(20):
            while not worker.lanes:
                await asyncio.sleep(0.01)  # taking the channels has no signal of its own
        (lane,) = worker.lanes.values()
        assert lane.breaker.state is BreakerState.OPEN
        async with setting.database.borrow() as connection:
            await workers_view.ask_breaker_reset(connection, setting.workspace, setting.channel)
        worker.ring_leases()
        assert await until(worker, setting.database, run, lambda f: f.get("accepted") == 5)


async def test_the_database_going_away_while_sending_loses_and_doubles_nothing(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a broken statement had not changed is found by the next read from the beginning: let it come soon.
    monkeypatch.setitem(reader.PASS_S, MessageClass.BULK, 0.5)
    await setting.sandbox.configure(latency_ms=20.0)
    run = await setting.run(600)
    async with working(setting.database, setting.box, setting.options) as worker:
        for _ in range(3):
            await worker.saved.wait()
            worker.saved.clear()
            connection = await asyncpg.connect(setting.database.url)
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'pombo%' "
                "AND datname = current_database() AND pid <> pg_backend_pid()"
            )
            await connection.close()
        found = await until(worker, setting.database, run, lambda f: f.get("accepted", 0) == 600)

    assert found == {"total": 600, "accepted": 600}
    ledger = await setting.sandbox.ledger()
    assert (ledger["accepted"], ledger["duplicates"]) == (600, 0)
    assert await setting.value("SELECT count(*) FROM intents") == 0


async def test_no_window_shows_more_than_the_rate_and_one_burst(setting: Setting) -> None:
    await add_channel(setting.database, setting.box, setting.workspace, setting.page, rate=100.0)
    run = await setting.run(150)

    assert (await settled(setting, run, 150))["accepted"] == 150
    for window_ms in (100, 300, 1000):
        peak = await setting.sandbox.peak(setting.page, window_ms)
        # One more burst, for what the machine's own hiccups bring together between our write and Meta's clock.
        assert peak["accepted"] <= 100 * window_ms / 1000 + 2 * 10 + 1


async def test_what_was_held_up_on_its_way_is_counted_again_and_never_lost(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pombo.sending.sender.LATE_S", -1.0)  # as if every connection had taken long to be made
    await add_channel(setting.database, setting.box, setting.workspace, setting.page, rate=40.0)
    run = await setting.run(60)
    async with working(setting.database, setting.box, setting.options) as worker:
        async with asyncio.timeout(20):
            worker.saved.clear()
            while not await setting.value("SELECT count(*) FROM outbox WHERE uncounted > 0"):
                await worker.saved.wait()
                worker.saved.clear()
        monkeypatch.undo()
        await until(worker, setting.database, run, lambda f: f.get("accepted") == 60)
    ledger = await setting.sandbox.ledger()
    assert (ledger["accepted"], ledger["duplicates"]) == (60, 0)
    assert await setting.value("SELECT count(*) FROM doubts") == 0


async def test_a_change_of_owner_in_the_middle_shows_no_more_than_the_rate_either(setting: Setting) -> None:
    await add_channel(setting.database, setting.box, setting.workspace, setting.page, rate=100.0)
    run = await setting.run(200)
    for accepted in (60, 120, 200):
        async with working(setting.database, setting.box, setting.options) as worker:
            await until(worker, setting.database, run, lambda f, least=accepted: f.get("accepted", 0) >= least)
    for window_ms in (100, 300, 1000):
        peak = await setting.sandbox.peak(setting.page, window_ms)
        # One more burst, for what the machine's own hiccups bring together between our write and Meta's clock.
        assert peak["accepted"] <= 100 * window_ms / 1000 + 2 * 10 + 1


async def test_two_workers_share_the_channels_and_each_message_is_sent_once(setting: Setting) -> None:
    pages = [await setting.sandbox.add_page(setting.page.app, brake_per_second=None) for _ in range(3)]
    ids = [await add_channel(setting.database, setting.box, setting.workspace, page) for page in pages]
    recipients = [(ids[n % 3], str(20_000 + n)) for n in range(300)]
    run = await add_run(setting.database, setting.workspace, recipients)
    async with (
        working(setting.database, setting.box, setting.options) as one,
        working(setting.database, setting.box, setting.options) as two,
    ):
        async with asyncio.timeout(20):
            while (await figures_of(setting, run)).get("accepted", 0) < 300:
                waits = [asyncio.create_task(worker.saved.wait()) for worker in (one, two)]
                await asyncio.wait(waits, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
                for wait, worker in zip(waits, (one, two), strict=True):
                    wait.cancel()
                    worker.saved.clear()
    ledger = await setting.sandbox.ledger()
    assert (ledger["accepted"], ledger["duplicates"]) == (300, 0)


async def figures_of(setting: Setting, run: SeededRun) -> dict[str, int]:
    async with setting.database.borrow() as connection:
        return await figures(connection, run)


async def test_variables_are_rendered_and_what_cannot_be_rendered_fails_alone(setting: Setting) -> None:
    names = [{"name": "Ana"}, {"name": "x" * 2001}, {"name": 'quote " and é'}]
    run = await setting.run(3, text="{{ name }}", variables=names)

    assert await settled(setting, run, 3) == {"total": 3, "accepted": 2, "failed": 1}
    assert await setting.value("SELECT error_title FROM deliveries WHERE state = 1") == "text_too_long"


async def test_one_batch_sends_at_most_so_many_and_leaves_the_rest_to_others(setting: Setting) -> None:
    run = await setting.run(40)

    report = await process_batch(setting.database, setting.box, setting.options, 15)

    assert (report.accepted, report.processed, report.channels) == (15, 15, 1)
    assert await figures_of(setting, run) == {"total": 40, "accepted": 15}
    assert await setting.value("SELECT count(*) FROM workers") == 0
    assert (await process_batch(setting.database, setting.box, setting.options, 100)).accepted == 25


async def test_messages_that_are_due_later_wait(setting: Setting) -> None:
    run = await setting.run(2)
    await setting.value(f"UPDATE outbox SET due_at = now() + interval '1 hour' WHERE id = {run.message_ids[0]}")
    assert (await process_batch(setting.database, setting.box, setting.options, 10)).accepted == 1


async def test_stopping_while_requests_are_in_flight_waits_for_their_answers(setting: Setting) -> None:
    await setting.sandbox.configure(latency_ms=300.0)
    run = await setting.run(20)
    stop = asyncio.Event()
    worker = Worker(setting.database, setting.box, setting.options)
    task = asyncio.create_task(worker.run(stop))
    async with asyncio.timeout(10):
        while (await setting.sandbox.ledger())["accepted"] == 0:
            await asyncio.sleep(0.02)  # the sandbox's doing is what is waited for
    stop.set()
    await task

    found = await figures_of(setting, run)
    assert found.get("uncertain", 0) == 0
    assert found["accepted"] == (await setting.sandbox.ledger())["accepted"]
    assert await setting.value("SELECT count(*) FROM outbox WHERE state <> 'r'") == 0


async def test_a_global_limit_holds_over_all_channels(setting: Setting) -> None:
    pages = [await setting.sandbox.add_page(setting.page.app, brake_per_second=None) for _ in range(3)]
    ids = [await add_channel(setting.database, setting.box, setting.workspace, page) for page in pages]
    run = await add_run(setting.database, setting.workspace, [(ids[n % 3], str(20_000 + n)) for n in range(120)])

    found = await settled(setting, run, 120, replace(setting.options, global_rate=100.0))

    assert found["accepted"] == 120
    times = sorted(m["accepted_at"] for m in await setting.sandbox.messages())
    for first, at in enumerate(times):
        assert sum(at <= later < at + 0.5 for later in times[first:]) <= 100 * 0.5 + 2 * 10 + 1


async def test_a_global_limit_holds_after_a_hold_up_too(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow name resolution: what was paced meanwhile has waited for its connection, and may not leave all at once."""
    pages = [await setting.sandbox.add_page(setting.page.app, brake_per_second=None) for _ in range(20)]
    ids = [await add_channel(setting.database, setting.box, setting.workspace, page) for page in pages]
    run = await add_run(setting.database, setting.workspace, [(ids[n % 20], str(20_000 + n)) for n in range(140)])
    resolve, answered = Endpoint.addresses, asyncio.Event()
    asyncio.get_running_loop().call_later(2.0, answered.set)

    async def late(self: Endpoint, now: Callable[[], float]) -> list[str]:
        await answered.wait()
        return await resolve(self, now)

    monkeypatch.setattr(Endpoint, "addresses", late)
    found = await settled(setting, run, 140, replace(setting.options, global_rate=40.0, max_sockets=100))

    assert found["accepted"] == 140
    times = sorted(m["accepted_at"] for m in await setting.sandbox.messages())
    for first, at in enumerate(times):
        assert sum(at <= later < at + 0.5 for later in times[first:]) <= 40 * 0.5 + 2 * 4 + 1
