import asyncio
from collections.abc import AsyncIterator
from datetime import date, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from pombo.domain.outcomes import DeliveryState
from pombo.store import early_receipts, events, partitions, sweep, webhooks
from pombo.store.database import Connection, Database
from pombo.store.events import Event
from pombo.store.lock import open_lock
from pombo.store.receipts import Receipt, Watermark
from pombo.store.secrets import SecretBox
from pombo.store.webhooks import SignedWebhook
from pombo.upkeep import dead_workers, idempotency_keys, old_events, schedule, settled_doubts, webhook_errors
from pombo.upkeep import partitions as partitions_duty
from pombo.upkeep.kept_receipts import KeptReceipts
from pombo.upkeep.schedule import Duty, Upkeep
from tests.delivery_log import House, Message, row
from tests.seeding import add_workspace

DELIVERED, READ = DeliveryState.DELIVERED.rank, DeliveryState.READ.rank


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[Connection]:
    async with database.borrow() as borrowed:
        yield borrowed


@pytest.fixture
async def house(connection: Connection, box: SecretBox) -> House:
    return await House.build(connection, box)


@pytest.fixture
async def channel(connection: Connection, house: House) -> int:
    return await house.channel(connection)


async def test_partitions_are_made_ahead_and_old_ones_dropped(database: Database, connection: Connection) -> None:
    done = await partitions_duty.run_once(database, days_ahead=4, retention_days=0)

    today: date = await connection.fetchval("SELECT (now() AT TIME ZONE 'UTC')::date")
    days = {p.day for p in await partitions.report(connection) if p.table == "webhook_log"}
    assert days == {today + timedelta(days=n) for n in range(5)}
    # Of each log, two days were missing and yesterday was too old.
    assert done == len(partitions.PARENTS) * 3


def receipt(message: Message) -> Receipt:
    return Receipt(message.workspace_id, message.channel_id, message.provider_id, DELIVERED, message.intent_at)


def watermark(message: Message) -> Watermark:
    return Watermark(message.workspace_id, message.channel_id, message.recipient, READ, message.intent_at)


async def test_what_was_kept_is_applied_when_everyone_died_before_looking_again(
    database: Database, connection: Connection, house: House, channel: int
) -> None:
    by_id, by_watermark = [await house.accepted(connection, channel, name) for name in ("one", "two")]
    await early_receipts.keep(connection, [receipt(by_id)], [watermark(by_watermark)])
    await connection.execute("UPDATE pending_receipts SET received_at = now() - interval '2 days'")
    await connection.execute("UPDATE watermarks SET received_at = now() - interval '2 days'")

    await KeptReceipts().run_once(database)

    assert [(await row(connection, message))["state"] for message in (by_id, by_watermark)] == [DELIVERED, READ]
    assert await connection.fetchval("SELECT count(*) FROM pending_receipts") == 0


async def test_later_rounds_look_only_at_what_was_kept_of_late(
    database: Database, connection: Connection, house: House, channel: int
) -> None:
    duty = KeptReceipts()
    await duty.run_once(database)
    long_ago, of_late = [await house.accepted(connection, channel, name) for name in ("one", "two")]
    await early_receipts.keep(connection, [receipt(long_ago), receipt(of_late)], [])
    await connection.execute(
        "UPDATE pending_receipts SET received_at = now() - interval '1 hour' WHERE provider_id = $1",
        long_ago.provider_id,
    )

    await duty.run_once(database)

    assert [(await row(connection, message))["state"] for message in (long_ago, of_late)] == [2, DELIVERED]


async def test_all_pages_of_what_was_kept_are_looked_at(
    database: Database, connection: Connection, house: House, channel: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pombo.upkeep.kept_receipts._PAGE", 2)
    messages = [await house.accepted(connection, channel, str(n)) for n in range(7)]
    foreign = [receipt(message)._replace(provider_id=f"foreign {message.id}") for message in messages]
    await early_receipts.keep(connection, [*map(receipt, messages), *foreign], [watermark(messages[0])])

    await KeptReceipts().run_once(database)

    states = [(await row(connection, message))["state"] for message in messages]
    assert states == [READ, *[DELIVERED] * 6]
    assert await connection.fetchval("SELECT count(*) FROM pending_receipts") == len(foreign)


async def test_receipts_that_are_nobodys_are_swept_after_three_days(
    database: Database, connection: Connection, house: House, channel: int
) -> None:
    stale, fresh = [await house.prepare(connection, channel, name) for name in ("stale", "fresh")]
    for message in (stale, fresh):
        await early_receipts.keep(connection, [receipt(message)], [watermark(message)])
    age = "now() - interval '73 hours'"
    await connection.execute(
        f"UPDATE pending_receipts SET received_at = {age} WHERE provider_id = $1", stale.provider_id
    )
    await connection.execute(f"UPDATE watermarks SET received_at = {age} WHERE recipient = 'stale'")

    assert await KeptReceipts().run_once(database) == 2

    assert await connection.fetchval("SELECT provider_id FROM pending_receipts") == fresh.provider_id
    assert await connection.fetchval("SELECT recipient FROM watermarks") == "fresh"


async def test_a_sweep_goes_on_until_nothing_stale_is_left(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "CHUNK", 3)
    await connection.execute(
        """INSERT INTO webhook_errors (workspace_id, id, day, attempts, error, at)
           SELECT 1, n, current_date, 1, 'x', now() - n * interval '1 hour' FROM generate_series(1, 10) AS n"""
    )

    assert await sweep.sweep(connection, "webhook_errors", timedelta(hours=2, minutes=30)) == 8
    assert await connection.fetchval("SELECT array_agg(id ORDER BY id) FROM webhook_errors") == [1, 2]


async def test_an_error_that_keeps_a_doubt_from_being_safe_stays_as_long_as_the_doubt(connection: Connection) -> None:
    await connection.execute(
        """INSERT INTO doubts (workspace_id, message_id, channel_id, run_id, class, recipient, kind, attempt, intent_at,
                               decide_at)
           VALUES (1, 7, 1, 1, 2, '1', 'session', 1, now() - interval '3 hours', now());
           INSERT INTO webhook_errors (workspace_id, id, day, attempts, error, at)
           VALUES (1, 1, current_date, 1, 'x', now() - interval '4 hours'),
                  (1, 2, current_date, 1, 'x', now() - interval '2 hours'),
                  (2, 3, current_date, 1, 'x', now() - interval '2 hours')"""
    )
    assert await sweep.sweep(connection, "webhook_errors", timedelta(hours=1)) == 2
    assert await connection.fetchval("SELECT id FROM webhook_errors") == 2


async def test_old_errors_keys_and_workers_are_forgotten(database: Database, connection: Connection) -> None:
    await connection.execute(
        """INSERT INTO webhook_errors (workspace_id, id, day, attempts, error, at) VALUES
               (1, 1, current_date, 1, 'old', now() - interval '8 days'),
               (1, 2, current_date, 1, 'new', now() - interval '6 days');
           INSERT INTO idempotency_keys (workspace_id, key, leased_until, created_at) VALUES
               (1, 'old', now(), now() - interval '25 hours'), (1, 'new', now(), now() - interval '23 hours');
           INSERT INTO workers (id, name, pid, expires_at) VALUES
               (1, 'long gone', 1, now() - interval '25 hours'), (2, 'gone', 1, now() - interval '23 hours'),
               (3, 'long gone, messages in flight', 1, now() - interval '25 hours');
           INSERT INTO worker_stats (worker_id, stats) VALUES (1, '{}');
           INSERT INTO intents (worker_id, id, workspace_ids, message_ids) VALUES (3, 1, '{1}', '{1}')"""
    )

    assert await webhook_errors.run_once(database, retention_days=7) == 1
    assert await idempotency_keys.run_once(database) == 1
    assert await dead_workers.run_once(database) == 1

    assert await connection.fetchval("SELECT error FROM webhook_errors") == "new"
    assert await connection.fetchval("SELECT key FROM idempotency_keys") == "new"
    assert await connection.fetchval("SELECT array_agg(id ORDER BY id) FROM workers") == [2, 3]


class Recorder:
    """Duties that note their runs; the named ones fail."""

    def __init__(self, *failing: str) -> None:
        self.ran: list[str] = []
        self._failing = failing
        self._ran = asyncio.Condition()

    def duty(self, name: str, every: timedelta) -> Duty:
        async def run() -> int:
            async with self._ran:
                self.ran.append(name)
                self._ran.notify_all()
            if name in self._failing:
                raise ValueError("It broke.")
            return 0

        return Duty(name, every, run)

    async def wait_for(self, name: str) -> None:
        async with asyncio.timeout(10), self._ran:
            await self._ran.wait_for(lambda: name in self.ran)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def upkeep(database: Database, *duties: Duty, clock: Any = None) -> Upkeep:
    made = Upkeep(database, retention_days=7, partition_days_ahead=2, clock=clock or Clock())
    made._duties = list(duties)
    return made


async def test_each_duty_runs_at_the_start_and_then_by_its_interval(database: Database) -> None:
    clock, recorder, stop = Clock(), Recorder(), asyncio.Event()
    kept = upkeep(
        database,
        recorder.duty("minutely", timedelta(minutes=1)),
        recorder.duty("hourly", timedelta(hours=1)),
        clock=clock,
    )

    for clock.now in (0.0, 30.0, 61.0, 3601.0):
        await kept.run_due(stop)

    assert recorder.ran == ["minutely", "hourly", "minutely", "minutely", "hourly"]


async def test_a_duty_that_fails_is_logged_and_tried_again_in_a_minute_while_the_others_go_on(
    database: Database,
) -> None:
    clock, recorder, stop = Clock(), Recorder("bad"), asyncio.Event()
    kept = upkeep(
        database, recorder.duty("bad", timedelta(hours=1)), recorder.duty("good", timedelta(hours=1)), clock=clock
    )

    with capture_logs() as logs:
        for clock.now in (0.0, 59.0, 61.0):
            await kept.run_due(stop)

    assert recorder.ran == ["bad", "good", "bad"]
    assert [(line["event"], line["duty"]) for line in logs] == [("upkeep_failed", "bad")] * 2


async def test_the_standing_duties_do_their_work_together(database: Database, connection: Connection) -> None:
    await webhooks.append(connection, [SignedWebhook(1, 1, b"{}")])
    kept = Upkeep(database, retention_days=7, partition_days_ahead=3)

    with capture_logs() as logs:
        await kept.run_due(asyncio.Event())

    assert [line["event"] for line in logs] == ["partitions_tended", "upkeep_done"]
    assert {duty.name for duty in kept._duties} == {
        "partitions",
        "kept_receipts",
        "idempotency_keys",
        "channel_jobs",
        "settled_doubts",
        "silent_streams",
        "webhook_errors",
        "dead_workers",
        "old_signals",
    }


async def test_one_process_works_at_a_time_and_another_takes_over_when_it_ends(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "_TICK_S", 0.01)
    first, second = Recorder(), Recorder()
    stop_first, stop_second = asyncio.Event(), asyncio.Event()
    day = timedelta(days=1)
    running = asyncio.create_task(upkeep(database, first.duty("first", day)).run(stop_first))
    await first.wait_for("first")
    other = asyncio.create_task(upkeep(database, second.duty("second", day)).run(stop_second))
    async with open_lock(database.url, schedule._LOCK, "a third") as lock:
        assert not await lock.take()
    assert second.ran == []

    stop_first.set()
    await running
    await second.wait_for("second")
    stop_second.set()
    await other


async def test_a_lock_is_held_once_taken_and_ends_with_its_session(url: str, database: Database) -> None:
    async with open_lock(url, 42, "one") as mine, open_lock(url, 42, "two") as theirs:
        assert [await mine.take(), await mine.take(), await theirs.take()] == [True, True, False]
    async with open_lock(url, 42, "two") as theirs:
        assert await theirs.take()


async def test_losing_the_lock_s_connection_only_makes_it_ask_again(
    database: Database, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "_TICK_S", 0.01)
    clock, recorder, stop = Clock(), Recorder(), asyncio.Event()
    kept = upkeep(database, recorder.duty("duty", timedelta(minutes=1)), clock=clock)
    running = asyncio.create_task(kept.run(stop))
    await recorder.wait_for("duty")

    await connection.execute("SET ROLE NONE")
    ended = await connection.fetchval(
        """SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
           WHERE application_name = 'pombo upkeep' AND datname = current_database()"""
    )
    assert ended == 1
    recorder.ran.clear()
    clock.now += 61
    await recorder.wait_for("duty")

    stop.set()
    await running


async def test_a_doubt_whose_message_is_settled_is_forgotten_and_a_real_one_is_not(
    database: Database, connection: Connection
) -> None:
    await connection.execute(
        """INSERT INTO outbox (workspace_id, id, channel_id, run_id, due_at, recipient, state, attempt, intent_at)
           VALUES (1, 7, 1, 1, 'infinity', '1', 'u', 1, now());
           INSERT INTO doubts (workspace_id, message_id, channel_id, since, run_id, class, recipient, kind, attempt,
                               intent_at, decide_at)
           SELECT 1, id, 1, now() - age, 1, 2, '1', 'session', 1, now() - age, now()
           FROM (VALUES (7, interval '1 hour'), (8, interval '1 hour'), (9, interval '0')) AS d (id, age)"""
    )
    assert await settled_doubts.run_once(database) == 1
    assert await connection.fetch("SELECT message_id FROM doubts ORDER BY 1") == [(7,), (9,)]


async def test_old_events_are_deleted_whether_or_not_an_api_has_given_them_positions(
    database: Database, connection: Connection
) -> None:
    for name in ("acme", "other"):
        workspace_id = await add_workspace(database, name)
        await events.append(connection, [Event(workspace_id, "conversations:all", "x", "{}") for _ in range(3)])
    await connection.execute("UPDATE events SET at = now() - interval '2 hours' WHERE id % 3 > 0")

    assert await old_events.run_once(database, timedelta(hours=1)) == 4
    assert await connection.fetchval("SELECT count(*) FROM events WHERE position IS NOT NULL") == 2
