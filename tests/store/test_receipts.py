import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pombo.domain.outcomes import DeliveryState
from pombo.store import early_receipts, partitions, receipts
from pombo.store.database import Connection, Database, connect
from pombo.store.planning import plan_by_index
from pombo.store.receipts import Receipt, Watermark
from pombo.store.secrets import SecretBox
from pombo.store.settlement import Settled
from tests.delivery_log import House, Message, figures, row

ACCEPTED, UNDELIVERED = DeliveryState.ACCEPTED.rank, DeliveryState.UNDELIVERED.rank
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


def receipt(message: Message, state: int, at: datetime, **more: Any) -> Receipt:
    return Receipt(message.workspace_id, message.channel_id, message.provider_id, state, at, **more)


def watermark(message: Message, state: int, until: datetime) -> Watermark:
    return Watermark(message.workspace_id, message.channel_id, message.recipient, state, until)


async def apply(connection: Connection, *given: Receipt) -> list[Receipt]:
    async with connection.transaction():
        return (await receipts.apply(connection, given)).unmatched


async def catch_up(connection: Connection, given: list[Receipt], marks: list[Watermark]) -> None:
    async with connection.transaction():
        await early_receipts.catch_up(connection, given, marks)


async def apply_pending(connection: Connection, *messages: Message) -> None:
    accepted = [Settled(m.workspace_id, m.channel_id, m.id, 1, m.day, ACCEPTED, m.provider_id) for m in messages]
    await early_receipts.apply_pending(connection, accepted)


def just_after(message: Message, seconds: float = 1) -> datetime:
    """A time as Meta gives it: whole milliseconds."""
    at = message.intent_at + timedelta(seconds=seconds)
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


async def test_a_receipt_moves_its_message_up_and_counts_it_once(
    connection: Connection, house: House, channel: int
) -> None:
    message = await house.accepted(connection, channel)
    delivered = receipt(message, DELIVERED, just_after(message))

    assert await apply(connection, delivered) == []
    assert await apply(connection, delivered, delivered) == []

    assert (await row(connection, message))["state"] == DELIVERED
    assert await figures(connection, message.run_id) == {"delivered": 1}


async def test_a_read_receipt_implies_delivery(connection: Connection, house: House, channel: int) -> None:
    message = await house.accepted(connection, channel)
    at = just_after(message)

    await apply(connection, receipt(message, READ, at))

    found = await row(connection, message)
    assert (found["state"], found["delivered_at"], found["read_at"]) == (READ, at, at)
    assert await figures(connection, message.run_id) == {"delivered": 1, "read": 1}


async def test_a_late_lower_status_changes_only_the_time_it_tells(
    connection: Connection, house: House, channel: int
) -> None:
    message = await house.accepted(connection, channel)
    await apply(connection, receipt(message, READ, just_after(message, 9)))

    await apply(connection, receipt(message, DELIVERED, just_after(message, 2)))
    await apply(connection, receipt(message, UNDELIVERED, just_after(message, 3), error_code=131026))

    found = await row(connection, message)
    assert found["state"] == READ
    assert (found["delivered_at"], found["read_at"]) == (just_after(message, 2), just_after(message, 9))
    assert (found["failed_at"], found["error_code"]) == (None, None)
    assert await figures(connection, message.run_id) == {"delivered": 1, "read": 1}


async def test_an_undelivered_message_keeps_its_error_until_it_is_delivered_after_all(
    connection: Connection, house: House, channel: int
) -> None:
    message = await house.accepted(connection, channel)
    at = just_after(message)

    await apply(connection, receipt(message, UNDELIVERED, at, error_code=131026, error_title="Undeliverable"))
    found = await row(connection, message)
    assert (found["state"], found["failed_at"]) == (UNDELIVERED, at)
    assert (found["error_code"], found["error_title"]) == (131026, "Undeliverable")
    assert await figures(connection, message.run_id) == {"undelivered": 1}

    await apply(connection, receipt(message, DELIVERED, just_after(message, 5)))
    found = await row(connection, message)
    assert (found["state"], found["failed_at"], found["error_code"]) == (DELIVERED, None, None)
    assert await figures(connection, message.run_id) == {"delivered": 1}


async def test_a_send_key_finds_the_message_of_a_later_attempt_and_day(
    connection: Connection, house: House, channel: int
) -> None:
    message = await house.accepted(connection, channel)
    keyed = receipt(
        message, DELIVERED, just_after(message), message_id=message.id, day=message.day - timedelta(days=1)
    )._replace(provider_id="the id of the first attempt")

    assert await apply(connection, keyed) == []

    assert (await row(connection, message))["state"] == DELIVERED


async def test_a_receipt_of_another_channel_or_workspace_touches_nothing(
    connection: Connection, house: House, channel: int, box: SecretBox
) -> None:
    message = await house.accepted(connection, channel)
    elsewhere = await house.channel(connection, "200")
    stranger = await House.build(connection, box, "stranger")
    at = just_after(message)
    by_key = {"message_id": message.id, "day": message.day}
    theirs = [
        Receipt(house.workspace_id, elsewhere, message.provider_id, READ, at),
        Receipt(house.workspace_id, elsewhere, message.provider_id, READ, at, **by_key),
        Receipt(stranger.workspace_id, channel, message.provider_id, READ, at),
        Receipt(stranger.workspace_id, channel, message.provider_id, READ, at, **by_key),
    ]

    unmatched = await apply(connection, *theirs)
    await early_receipts.keep(connection, unmatched, [Watermark(house.workspace_id, elsewhere, "psid", READ, at)])
    await catch_up(connection, unmatched, [Watermark(stranger.workspace_id, channel, "psid", READ, at)])

    assert set(unmatched) == set(theirs)
    assert (await row(connection, message))["state"] == ACCEPTED


async def test_a_message_of_an_older_day_is_found_by_its_provider_id(
    connection: Connection, house: House, channel: int, url: str
) -> None:
    owner = await connect(url, "pombo_owner")
    day = await owner.fetchval("SELECT (now() AT TIME ZONE 'UTC')::date - 5")
    await partitions._make(owner, "deliveries", f"deliveries_{day:%Y%m%d}", day)
    await owner.close()
    old = await house.accepted(connection, channel, days_ago=5)
    new = await house.accepted(connection, channel)

    given = [receipt(message, DELIVERED, just_after(message)) for message in (old, new)]
    foreign = given[0]._replace(provider_id="m_foreign")

    assert await apply(connection, *given, foreign) == [foreign]
    assert (await row(connection, old))["state"] == DELIVERED
    assert (await row(connection, new))["state"] == DELIVERED


async def test_a_watermark_moves_what_was_sent_to_its_recipient_before_it(
    connection: Connection, house: House, channel: int
) -> None:
    run = {"run_id": 77}
    before = await house.accepted(connection, channel, **run)
    other = await house.accepted(connection, channel, "another", **run)
    after = await house.prepare(connection, channel, **run)
    after.intent_at += timedelta(seconds=5)
    await house.accept(connection, after)
    # Meta counts whole milliseconds: the message's own millisecond belongs to the mark.
    until = just_after(before, 0)

    mark = watermark(before, READ, until)
    # Marks end now at the latest, so this one moves back to be in the past.
    await catch_up(connection, [], [mark, mark._replace(state=DELIVERED)])
    await catch_up(connection, [], [mark])

    assert [(await row(connection, message))["state"] for message in (before, other, after)] == [READ, 2, 2]
    assert await figures(connection, 77) == {"delivered": 1, "read": 1}


async def test_a_watermark_in_the_future_covers_nothing_that_is_sent_later(
    connection: Connection, house: House, channel: int
) -> None:
    first = await house.accepted(connection, channel)
    mark = watermark(first, READ, datetime(2999, 1, 1, tzinfo=UTC))
    await early_receipts.keep(connection, [], [mark])
    await catch_up(connection, [], [mark])

    later = await house.accepted(connection, channel)
    await apply_pending(connection, later)

    assert [(await row(connection, message))["state"] for message in (first, later)] == [READ, ACCEPTED]


async def test_a_watermark_never_accepts_what_failed(connection: Connection, house: House, channel: int) -> None:
    message = await house.accepted(connection, channel)
    await connection.execute("UPDATE deliveries SET state = 1, provider_id = NULL WHERE id = $1", message.id)

    await catch_up(connection, [], [watermark(message, READ, just_after(message))])

    assert (await row(connection, message))["state"] == 1


# The race of a receipt with the outcome of its own message. Ingest: look, keep, commit, look. Sending: settle, commit,
# look. Each test is one order of these steps; `neither` would lose the receipt if one of the second looks were missing.


async def test_a_receipt_kept_before_the_outcome_is_found_by_the_sender(
    connection: Connection, house: House, channel: int
) -> None:
    message = await house.prepare(connection, channel)
    given = [receipt(message, READ, just_after(message)), receipt(message, DELIVERED, just_after(message))]

    unmatched = await apply(connection, *given)
    assert unmatched == given
    await early_receipts.keep(connection, unmatched, [])
    await catch_up(connection, unmatched, [])
    await house.accept(connection, message)
    await apply_pending(connection, message)

    assert (await row(connection, message))["state"] == READ
    assert await figures(connection, message.run_id) == {"delivered": 1, "read": 1}
    assert await connection.fetchval("SELECT count(*) FROM pending_receipts") == 0


async def test_a_receipt_whose_keeping_commits_after_the_sender_looked_is_found_by_ingest(
    connection: Connection, database: Database, house: House, channel: int
) -> None:
    message = await house.prepare(connection, channel)
    given = receipt(message, READ, just_after(message))

    async with database.transaction() as ingest:
        unmatched = (await receipts.apply(ingest, [given])).unmatched
        await house.accept(connection, message)
        await early_receipts.keep(ingest, unmatched, [])
        await apply_pending(connection, message)
    assert (await row(connection, message))["state"] == ACCEPTED
    await catch_up(connection, unmatched, [])

    assert (await row(connection, message))["state"] == READ
    assert await connection.fetchval("SELECT count(*) FROM pending_receipts") == 0


async def test_a_watermark_kept_before_the_outcome_is_found_by_the_sender(
    connection: Connection, house: House, channel: int
) -> None:
    message = await house.prepare(connection, channel)
    mark = watermark(message, READ, just_after(message, 0))

    await early_receipts.keep(connection, [], [mark])
    await catch_up(connection, [], [mark])
    await house.accept(connection, message)
    await apply_pending(connection, message)

    assert (await row(connection, message))["state"] == READ


async def test_a_watermark_whose_keeping_commits_after_the_sender_looked_is_found_by_ingest(
    connection: Connection, database: Database, house: House, channel: int
) -> None:
    message = await house.prepare(connection, channel)
    mark = watermark(message, READ, just_after(message, 0))

    async with database.transaction() as ingest:
        await early_receipts.keep(ingest, [], [mark])
        await house.accept(connection, message)
        await apply_pending(connection, message)
    assert (await row(connection, message))["state"] == ACCEPTED
    await catch_up(connection, [], [mark])

    assert (await row(connection, message))["state"] == READ


async def test_both_sides_looking_at_once_count_a_receipt_once(
    connection: Connection, database: Database, house: House, channel: int
) -> None:
    messages = [await house.prepare(connection, channel, run_id=5) for _ in range(50)]
    given = [receipt(message, READ, just_after(message)) for message in messages]
    await early_receipts.keep(connection, given, [])
    for message in messages:
        await house.accept(connection, message)

    async def look(order: list[Message]) -> None:
        async with database.borrow() as other:
            await apply_pending(other, *order)

    async def look_again(order: list[Receipt]) -> None:
        async with database.borrow() as other:
            await catch_up(other, order, [])

    await asyncio.gather(look(messages), look_again(given[::-1]), look(messages[::-1]), look_again(given))

    assert await figures(connection, 5) == {"delivered": 50, "read": 50}
    assert await connection.fetchval("SELECT count(*) FROM pending_receipts") == 0


async def test_of_repeated_kept_receipts_the_earliest_time_is_kept(
    connection: Connection, house: House, channel: int
) -> None:
    message = await house.prepare(connection, channel)
    for seconds in (5, 3, 4):
        kept = receipt(message, DELIVERED, just_after(message, seconds))
        await early_receipts.keep(connection, [kept, kept], [])

    pages = await early_receipts.kept_receipts(connection, datetime(2000, 1, 1, tzinfo=UTC), None, 10)
    assert pages == [receipt(message, DELIVERED, just_after(message, 3))]
    assert await early_receipts.kept_receipts(connection, datetime(2000, 1, 1, tzinfo=UTC), pages[-1], 10) == []


async def test_workers_that_apply_the_same_receipts_in_other_orders_never_wait_for_each_other(
    connection: Connection, database: Database, house: House, channel: int
) -> None:
    messages = [await house.accepted(connection, channel, run_id=6) for _ in range(100)]

    async def work(state: int, order: list[Message]) -> None:
        async with database.borrow() as other:
            await apply(other, *(receipt(message, state, just_after(message)) for message in order))

    await asyncio.gather(
        work(READ, messages), work(DELIVERED, messages[::-1]), work(READ, messages[::-1]), work(DELIVERED, messages)
    )

    assert await figures(connection, 6) == {"delivered": 100, "read": 100}


@pytest.mark.parametrize("analyzed", [False, True])
async def test_every_message_is_found_by_its_own_index_even_in_a_partition_not_analyzed_yet(
    connection: Connection, house: House, channel: int, url: str, analyzed: bool
) -> None:
    await connection.execute(
        """INSERT INTO deliveries (workspace_id, id, day, run_id, channel_id, intent_at, state, attempt, recipient,
                                   provider_id)
           SELECT $1, n, (now() AT TIME ZONE 'UTC')::date, 1, $2, now(), 2, 1, 'psid' || n, 'm_' || n
           FROM generate_series(1, 3000) AS n""",
        house.workspace_id,
        channel,
    )
    if analyzed:
        owner = await connect(url, "pombo_owner")
        await owner.execute("ANALYZE deliveries")
        await owner.close()
    today = await connection.fetchval("SELECT (now() AT TIME ZONE 'UTC')::date")
    days = (today - timedelta(days=1), today + timedelta(days=1))
    some = range(1, 501)
    workspaces, channels, provider_ids = [house.workspace_id] * 500, [channel] * 500, [f"m_{n}" for n in some]
    now, dates, states = datetime.now(UTC), [today] * 500, [READ] * 500
    by_id, by_provider_id, by_recipient = (
        "_pkey",
        "_workspace_id_provider_id_idx",
        "_workspace_id_channel_id_recipient_",
    )
    cases: list[tuple[str, str, tuple[Any, ...]]] = [
        (receipts._ALREADY_SETTLED, by_id, (workspaces, channels, some, dates, provider_ids, *days)),
        (receipts._LOCATE_BY_KEY, by_id, (workspaces, channels, some, dates, *days)),
        (receipts._LOCATE_BY_PROVIDER_ID, by_provider_id, (workspaces, channels, provider_ids, *days)),
        (
            early_receipts._LOCATE_BY_WATERMARK,
            by_recipient,
            (workspaces, channels, [f"psid{n}" for n in some], states, [now] * 500, days[1]),
        ),
        (early_receipts._LOCATE_BY_KEPT_WATERMARK, by_id, (workspaces, channels, some, *days)),
        (early_receipts._TAKE_KEPT, by_id, (workspaces, channels, some, provider_ids, *days)),
        (receipts._MOVE, by_id, (workspaces, some, dates, states, [now] * 500, [], [], today, today)),
    ]
    for statement, index, arguments in cases:
        async with connection.transaction():
            await plan_by_index(connection)
            plan = "\n".join(line for (line,) in await connection.fetch(f"EXPLAIN {statement}", *arguments))
        assert f"Index Scan using deliveries_{today:%Y%m%d}{index}" in plan, plan
        assert f"Seq Scan on deliveries_{today:%Y%m%d}" not in plan, plan
        assert plan.count(f" on deliveries_{today:%Y%m%d} ") == 1, plan
