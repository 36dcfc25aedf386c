"""Workers among broken parts: a silent Meta, lost answers of the database, unreadable secrets, a killed server."""

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from pombo.domain.classes import MessageClass
from pombo.sending import reader
from pombo.sending import worker as worker_module
from pombo.sending.once import process_batch
from pombo.sending.worker import WorkerOptions
from pombo.store import embedded, leases, partitions, schema
from pombo.store.database import Database, connect
from pombo.store.secrets import SecretBox
from tests.locks import blocked
from tests.sandbox_server import SandboxHandle
from tests.seeding import add_channel, add_run, add_workspace
from tests.service.test_worker import (
    Setting,
    figures_of,
    options,
    setting,
    settled,
    until,
    unused_port,
    working,
)

__all__ = ["options", "setting", "unused_port"]  # fixtures


class SilentMeta:
    """Takes requests and never answers."""

    def __init__(self) -> None:
        self.requests = 0
        self.url = ""
        self._came = asyncio.Condition()

    async def serve(self, requests: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await requests.readline():
                if line.startswith(b"POST "):
                    async with self._came:
                        self.requests += 1
                        self._came.notify_all()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def received(self, count: int) -> None:
        async with asyncio.timeout(10), self._came:
            await self._came.wait_for(lambda: self.requests >= count)


@pytest.fixture
async def silent_meta() -> AsyncIterator[SilentMeta]:
    meta = SilentMeta()
    server = await asyncio.start_server(meta.serve, "127.0.0.1", 0)
    meta.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield meta
    server.close()


@pytest.fixture
def little_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopping worker gives up on Meta at once."""
    monkeypatch.setattr(worker_module, "GRACE_S", 0.1)


# --- stopping ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("little_grace")
async def test_a_stop_while_meta_is_silent_doubts_what_was_written_and_gives_the_rest_back(
    setting: Setting, silent_meta: SilentMeta
) -> None:
    run = await setting.run(60)
    sockets = 20

    async def some_armed() -> bool:
        sending: int = await setting.value("SELECT count(*) FROM outbox WHERE state = 's'")
        return sending > sockets

    # One more is kept for replies.
    silent = replace(setting.options, graph_api_url=silent_meta.url, max_sockets=sockets + 1, concurrency=40)
    async with working(setting.database, setting.box, silent):
        await silent_meta.received(sockets)
        await setting.sandbox.until(some_armed)

    assert silent_meta.requests == sockets
    assert await setting.value("SELECT count(*) FROM outbox WHERE state = 's'") == 0
    assert await setting.value("SELECT count(*) FROM outbox WHERE state = 'u'") == sockets
    assert await setting.value("SELECT count(*) FROM outbox WHERE state = 'r' AND attempt = 1 AND uncounted = 1") > 0
    assert await setting.value("SELECT count(*) FROM intents") == 0

    # The next worker sends all that was given back, and nothing that may have gone out.
    assert await settled(setting, run, 60) == {"total": 60, "accepted": 60 - sockets, "uncertain": sockets}


@pytest.mark.usefixtures("little_grace")
async def test_what_a_stop_could_not_write_is_found_by_its_intents(
    setting: Setting, silent_meta: SilentMeta, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "WRITE_GRACE_S", 0.1)
    run = await setting.run(30)
    silent = replace(setting.options, graph_api_url=silent_meta.url, lease_s=1.0)
    async with setting.database.borrow() as other:
        async with working(setting.database, setting.box, silent):
            await silent_meta.received(19)  # the 20th socket is kept for replies
            await other.execute("BEGIN")
            await other.execute("LOCK TABLE doubts IN ACCESS EXCLUSIVE MODE")
        stuck = await other.fetchval("SELECT count(*) FROM outbox WHERE state = 's'")
        noted = await other.fetchval("SELECT sum(cardinality(message_ids)) FROM intents")
        await other.execute("COMMIT")
    assert noted >= stuck >= 19

    found = await settled(setting, run, 30)

    assert found == {"total": 30, "accepted": 30 - stuck, "uncertain": stuck}
    assert await setting.value("SELECT count(*) FROM outbox WHERE state = 's'") == 0


@pytest.mark.usefixtures("little_grace")
async def test_a_cancelled_batch_leaves_no_worker_behind(setting: Setting, silent_meta: SilentMeta) -> None:
    await setting.run(5)
    silent = replace(setting.options, graph_api_url=silent_meta.url)
    before = asyncio.all_tasks()
    batch = asyncio.create_task(process_batch(setting.database, setting.box, silent, 5))
    await silent_meta.received(5)

    batch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await batch

    left = {task.get_name() for task in asyncio.all_tasks() - before}
    assert not left & {"outcomes", "sender", "leases", "reader"}
    assert await setting.value("SELECT count(*) FROM workers") == 0
    assert await setting.value("SELECT count(*) FROM outbox WHERE state = 's'") == 0


# --- the breaker ------------------------------------------------------------------------------------------------------


async def test_a_probe_that_is_answered_with_too_fast_closes_the_breaker(setting: Setting) -> None:
    run = await setting.run(6)
    await setting.fault(kind="disconnect", recipient="10000")
    one_by_one = replace(setting.options, breaker_threshold=1, breaker_timeout_s=0.5, concurrency=1, max_sockets=1)
    async with working(setting.database, setting.box, one_by_one) as worker:
        # A message that was armed when the breaker opened goes out; from the saved doubt on, the next is the probe.
        await until(worker, setting.database, run, lambda f: f.get("uncertain") == 1)
        await setting.fault(kind="error", code=4, http_status=400, rate=1.0, max_count=1)
        found = await until(worker, setting.database, run, lambda f: f.get("accepted") == 5)

    assert found == {"total": 6, "accepted": 5, "uncertain": 1}
    assert await setting.value("SELECT count(*) FROM deliveries WHERE attempt = 2") == 1


async def test_a_probe_that_cannot_be_rendered_leaves_its_place_to_the_next(setting: Setting) -> None:
    too_long = {"name": "x" * 2001}
    run = await setting.run(6, "{{ name }}", [{"name": "Ana"}, *[too_long] * 4, {"name": "Rui"}])
    await setting.fault(kind="disconnect", recipient="10000")
    one_by_one = replace(setting.options, breaker_threshold=1, breaker_timeout_s=0.1, concurrency=1, max_sockets=1)

    found = await settled(setting, run, 6, one_by_one)

    assert found == {"total": 6, "accepted": 1, "failed": 4, "uncertain": 1}


# --- channels ---------------------------------------------------------------------------------------------------------


async def test_a_lease_whose_answer_was_lost_is_sent_under_all_the_same(setting: Setting) -> None:
    run = await setting.run(5)
    async with setting.database.borrow() as connection:
        other = await leases.register(connection, "other", 1, 60.0)
        assert len(await leases.acquire(connection, other)) == 1

    async def begun() -> bool:
        return bool(await setting.value(f"SELECT count(*) FROM workers WHERE id <> {other}"))

    async with working(setting.database, setting.box, setting.options) as worker:
        await setting.sandbox.until(begun)
        worker_id = await setting.value(f"SELECT id FROM workers WHERE id <> {other}")
        async with setting.database.transaction() as connection:
            await leases.retire(connection, other)
            assert len(await leases.acquire(connection, worker_id)) == 1
        assert await until(worker, setting.database, run, lambda f: f.get("accepted") == 5)


async def test_a_channel_whose_secret_does_not_open_stops_alone_until_it_gets_a_new_one(setting: Setting) -> None:
    page = await setting.sandbox.add_page(setting.page.app, brake_per_second=None)
    unreadable = await add_channel(setting.database, setting.box, setting.workspace, page)
    foreign = SecretBox("another key, of at least 32 characters").seal(setting.workspace, page.token)
    async with setting.database.borrow() as connection:
        await connection.execute("UPDATE channels SET token = $1 WHERE id = $2", foreign, unreadable)
    run = await setting.run(10)
    waiting = await add_run(setting.database, setting.workspace, [(unreadable, "30000")])

    async def stopped() -> bool:
        return bool(await setting.value(f"SELECT state = 'stopped' FROM channels WHERE id = {unreadable}"))

    async with working(setting.database, setting.box, setting.options) as worker:
        assert await until(worker, setting.database, run, lambda f: f.get("accepted") == 10)
        await setting.sandbox.until(stopped)
        reason = await setting.value(f"SELECT stop_code || ': ' || stop_reason FROM channels WHERE id = {unreadable}")
        assert reason.startswith("secret: ")
        assert "POMBO_SECRET_KEY" in reason
        assert await figures_of(setting, waiting) == {"total": 1}

        await add_channel(setting.database, setting.box, setting.workspace, page)
        assert await until(worker, setting.database, waiting, lambda f: f.get("accepted") == 1)


async def test_a_channel_started_right_after_it_stopped_sends_again(setting: Setting) -> None:
    run = await setting.run(20)
    await setting.fault(kind="error", code=190, http_status=400, recipient="10003", max_count=1)
    async with working(setting.database, setting.box, setting.options) as worker:
        async with asyncio.timeout(10):
            worker.saved.clear()
            while await setting.value("SELECT state FROM channels") != "stopped":
                await worker.saved.wait()
                worker.saved.clear()
        await add_channel(setting.database, setting.box, setting.workspace, setting.page)
        found = await until(worker, setting.database, run, lambda f: f.get("accepted") == 20)
    assert found == {"total": 20, "accepted": 20}


# --- the database -----------------------------------------------------------------------------------------------------


async def test_a_lock_on_what_a_dead_worker_left_keeps_no_channel_from_being_taken(setting: Setting) -> None:
    left = (await setting.run(1)).message_ids[0]
    async with setting.database.transaction(bounded=False) as silent:
        async with setting.database.borrow() as connection:
            await connection.execute(
                "UPDATE outbox SET state = 's', attempt = 1, intent_at = now() WHERE id = $1", left
            )
            await connection.execute(
                "INSERT INTO intents (worker_id, id, workspace_ids, message_ids) VALUES (999, 1, $1, $2)",
                [setting.workspace], [left],
            )  # fmt: skip
        await silent.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        await silent.execute("SELECT FROM outbox WHERE id = $1 FOR UPDATE", left)
        async with working(setting.database, setting.box, setting.options) as worker:
            async with setting.database.borrow() as watching:
                await blocked(watching)
            page = await setting.sandbox.add_page(setting.page.app)
            channel = await add_channel(setting.database, setting.box, setting.workspace, page)
            run = await add_run(setting.database, setting.workspace, [(channel, "30000")])
            assert await until(worker, setting.database, run, lambda f: f.get("accepted") == 1)


async def test_intents_of_many_small_batches_are_forgotten_while_the_worker_runs(setting: Setting) -> None:
    await add_channel(setting.database, setting.box, setting.workspace, setting.page, rate=150.0)
    many = await setting.run(100)
    async with working(setting.database, setting.box, setting.options) as worker:
        await until(worker, setting.database, many, lambda f: f.get("accepted") == 100)
        assert worker.sender.stats.intents > 10
        # A batch of outcomes forgets the intents that those before it have finished.
        last = await setting.run(1)
        worker.ring()
        await until(worker, setting.database, last, lambda f: f.get("accepted") == 1)
        assert await setting.value("SELECT count(*) FROM intents") <= 1


async def test_a_killed_database_that_comes_back_is_sent_from_by_the_same_worker(
    box: SecretBox, sandbox: SandboxHandle, options: WorkerOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a server of the test's own, whose commits are durable, unlike those of the server that the tests share."""
    # What a broken statement had not changed is found by the next read from the beginning: let it come soon.
    monkeypatch.setitem(reader.PASS_S, MessageClass.BULK, 0.5)
    with (
        tempfile.TemporaryDirectory(prefix="pombo-test-") as directory,
        embedded.start(Path(directory) / "postgres") as server,
    ):
        schema.migrate(server.url)
        await partitions.create(server.url, days_ahead=1)
        async with Database.open(server.url) as database:
            workspace = await add_workspace(database)
            page = await sandbox.add_page(await sandbox.add_app(), brake_per_second=None, latency_ms=20.0)
            channel = await add_channel(database, box, workspace, page)
            run = await add_run(database, workspace, [(channel, str(10_000 + n)) for n in range(400)])

            async def back() -> bool:
                return await asyncio.to_thread(server.revive)

            async with working(database, box, options) as worker, asyncio.timeout(40):
                await worker.saved.wait()
                os.kill(server.pid, signal.SIGQUIT)  # "immediate": it ends without a word to its clients
                await sandbox.until(back)
                found = await until(worker, database, run, lambda f: f.get("accepted") == 400)

    assert found == {"total": 400, "accepted": 400}
    ledger = await sandbox.ledger()
    assert (ledger["accepted"], ledger["duplicates"]) == (400, 0)


async def test_outcomes_that_cannot_be_stored_come_to_be_in_doubt_and_hold_up_no_others(
    setting: Setting, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pombo.sending.outcomes._RETRY_S", 0.01)
    owner = await connect(url, "pombo_owner")
    await owner.execute(
        "ALTER TABLE deliveries ADD CONSTRAINT no_poison CHECK (recipient NOT IN ('10003', '10030')) NOT VALID"
    )
    await owner.close()
    run = await setting.run(40)
    async with working(setting.database, setting.box, setting.options) as worker:
        found = await until(worker, setting.database, run, lambda f: f.get("accepted", 0) + f.get("uncertain", 0) == 40)
        assert found == {"total": 40, "accepted": 38, "uncertain": 2}
        again = await setting.run(3)
        await until(worker, setting.database, again, lambda f: f.get("accepted") == 3)
        assert worker.writer.stats.unsaved == 0
    assert await setting.value("SELECT array_agg(recipient ORDER BY recipient) FROM doubts") == ["10003", "10030"]
    ledger = await setting.sandbox.ledger()
    assert (ledger["accepted"], ledger["duplicates"]) == (43, 0)


async def test_what_was_never_written_fails_before_its_attempts_can_be_numbered_no_more(
    setting: Setting, unused_port: int
) -> None:
    """Days of tries against nobody, without a breaker."""
    run = await setting.run(1)
    await setting.value("UPDATE outbox SET attempt = 29999, uncounted = 29999 RETURNING 1")
    nowhere = replace(setting.options, graph_api_url=f"http://127.0.0.1:{unused_port}", breaker_enabled=False)
    async with working(setting.database, setting.box, nowhere) as worker:
        found = await until(worker, setting.database, run, lambda f: f.get("failed") == 1)
    assert found == {"total": 1, "failed": 1}
