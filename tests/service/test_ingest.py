"""Webhooks in Meta's shapes, from the queue to the delivery log and the figures."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from pombo.domain.channels import ChannelKind
from pombo.domain.outcomes import DeliveryState
from pombo.domain.sendkey import format_day, format_key
from pombo.ingest import ingester as ingester_module
from pombo.ingest.ingester import Ingester
from pombo.store import early_receipts, receipts, settlement, webhooks
from pombo.store.database import TRY_AGAIN, Connection, Database, connect
from pombo.store.errors import DatabaseUnavailable
from pombo.store.secrets import SecretBox
from pombo.store.settlement import Settled
from pombo.store.webhooks import SignedWebhook
from tests.delivery_log import House, Message, figures, row
from tests.locks import blocked_by

PAGE, NUMBER = "100", "106540352242922"
ACCEPTED, UNDELIVERED = DeliveryState.ACCEPTED.rank, DeliveryState.UNDELIVERED.rank
DELIVERED, READ = DeliveryState.DELIVERED.rank, DeliveryState.READ.rank
_ids = itertools.count(1)


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[Connection]:
    async with database.borrow() as borrowed:
        yield borrowed


@pytest.fixture
async def house(connection: Connection, box: SecretBox) -> House:
    return await House.build(connection, box)


@pytest.fixture
async def page(connection: Connection, house: House) -> int:
    return await house.channel(connection, PAGE, ChannelKind.MESSENGER)


@pytest.fixture
async def number(connection: Connection, house: House) -> int:
    return await house.channel(connection, NUMBER, ChannelKind.WHATSAPP)


@pytest.fixture
def ingester(database: Database) -> Ingester:
    return Ingester(database)


def milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def page_webhook(*events: dict[str, Any], page: str = PAGE) -> bytes:
    entry = {"id": page, "time": 1458692752478, "messaging": list(events)}
    return json.dumps({"object": "page", "entry": [entry]}).encode()


def echo(message: Message, mid: str | None = None, metadata: str | None = None) -> dict[str, Any]:
    return {
        "sender": {"id": PAGE},
        "recipient": {"id": message.recipient},
        "timestamp": milliseconds(message.intent_at) + 200,
        "message": {
            "is_echo": True,
            "app_id": 1517776481860111,
            "metadata": message.key if metadata is None else metadata,
            "mid": mid or message.provider_id,
            "text": "Hello",
        },
    }


def delivery(*messages: Message, seconds: float = 1) -> dict[str, Any]:
    """As Meta's sample: without `timestamp`."""
    return {
        "sender": {"id": messages[0].recipient},
        "recipient": {"id": PAGE},
        "delivery": {
            "mids": [message.provider_id for message in messages],
            "watermark": milliseconds(messages[0].intent_at + timedelta(seconds=seconds)),
        },
    }


def read(message: Message, seconds: float = 0) -> dict[str, Any]:
    until = milliseconds(message.intent_at + timedelta(seconds=seconds))
    return {
        "sender": {"id": message.recipient},
        "recipient": {"id": PAGE},
        "timestamp": until + 210,
        "read": {"watermark": until},
    }


def delivered_up_to(message: Message) -> dict[str, Any]:
    return read(message) | {"delivery": {"watermark": milliseconds(message.intent_at)}, "read": None}


def status(message: Message, name: str, seconds: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "id": message.provider_id,
        "status": name,
        "timestamp": str(int(message.intent_at.timestamp()) + seconds),
        "recipient_id": message.recipient,
        "biz_opaque_callback_data": message.key,
        "pricing": {"billable": True, "pricing_model": "PMP", "type": "regular", "category": "marketing"},
        **more,
    }


def failed(message: Message, seconds: int = 1) -> dict[str, Any]:
    error = {
        "code": 131026,
        "title": "Message undeliverable",
        "message": "Message undeliverable",
        "error_data": {"details": "Message Undeliverable."},
        "href": "https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes/",
    }
    return status(message, "failed", seconds, errors=[error])


def number_webhook(*statuses: dict[str, Any], number: str = NUMBER) -> bytes:
    value = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "15550783881", "phone_number_id": number},
        "statuses": list(statuses),
    }
    entry = {"id": "102290129340398", "changes": [{"value": value, "field": "messages"}]}
    return json.dumps({"object": "whatsapp_business_account", "entry": [entry]}).encode()


async def arrive(connection: Connection, house: House, *bodies: bytes) -> None:
    await webhooks.append(connection, [SignedWebhook(house.workspace_id, house.app_id, body) for body in bodies])


async def ingest(ingester: Ingester, connection: Connection, house: House, *bodies: bytes) -> None:
    await arrive(connection, house, *bodies)
    await ingester.run_once()
    assert await connection.fetchval("SELECT count(*) FROM webhook_queue") == 0


async def outcome(connection: Connection, message: Message) -> None:
    """Sending's part: the answer of Meta's is written, then what was kept is applied."""
    accepted = Settled(
        message.workspace_id, message.channel_id, message.id, 1, message.day, ACCEPTED, message.provider_id
    )
    await settlement.settle(connection, [accepted])
    await early_receipts.apply_pending(connection, [accepted])


async def state(connection: Connection, message: Message) -> int | None:
    return (await row(connection, message)).get("state")


async def test_a_messenger_delivery_and_read_are_counted(
    ingester: Ingester, connection: Connection, house: House, page: int
) -> None:
    message = await house.accepted(connection, page)

    await ingest(ingester, connection, house, page_webhook(delivery(message)), page_webhook(read(message)))

    assert await state(connection, message) == READ
    assert await figures(connection, message.run_id) == {"delivered": 1, "read": 1}


async def test_the_statuses_of_a_whatsapp_message_are_counted(
    ingester: Ingester, connection: Connection, house: House, number: int
) -> None:
    message = await house.accepted(connection, number, "+16505551234")

    await ingest(ingester, connection, house, number_webhook(status(message, "sent"), status(message, "delivered", 3)))
    assert await state(connection, message) == DELIVERED
    await ingest(ingester, connection, house, number_webhook(status(message, "read", 60)))

    found = await row(connection, message)
    assert found["state"] == READ
    assert found["read_at"] - found["delivered_at"] == timedelta(seconds=57)
    assert await figures(connection, message.run_id) == {"delivered": 1, "read": 1}


async def test_a_failure_after_sent_is_undelivered_with_metas_reason(
    ingester: Ingester, connection: Connection, house: House, number: int
) -> None:
    message = await house.accepted(connection, number)

    await ingest(ingester, connection, house, number_webhook(status(message, "sent"), failed(message, 5)))

    found = await row(connection, message)
    assert (found["state"], found["error_code"], found["error_title"]) == (UNDELIVERED, 131026, "Message undeliverable")
    assert await figures(connection, message.run_id) == {"undelivered": 1}


async def test_a_delivery_without_message_ids_goes_by_its_watermark(
    ingester: Ingester, connection: Connection, house: House, page: int
) -> None:
    message, other = await house.accepted(connection, page), await house.accepted(connection, page, "other")

    await ingest(ingester, connection, house, page_webhook(delivered_up_to(message)))

    assert [await state(connection, message), await state(connection, other)] == [DELIVERED, ACCEPTED]


@pytest.mark.parametrize("waiting", ["s", "u"])
async def test_an_echo_with_our_key_settles_a_message_whose_answer_was_lost(
    ingester: Ingester, connection: Connection, house: House, page: int, waiting: str
) -> None:
    message = await house.prepare(connection, page)
    await house.queue(connection, message, waiting)

    await ingest(ingester, connection, house, page_webhook(echo(message)), page_webhook(echo(message)))

    found = await row(connection, message)
    assert (found["state"], found["provider_id"]) == (ACCEPTED, message.provider_id)
    assert (await figures(connection, message.run_id))["accepted"] == 1
    assert await connection.fetchval("SELECT count(*) FROM outbox") == 0


async def test_a_status_with_our_key_settles_and_moves_a_message_at_once(
    ingester: Ingester, connection: Connection, house: House, number: int
) -> None:
    message = await house.prepare(connection, number)
    await house.queue(connection, message)

    await ingest(ingester, connection, house, number_webhook(status(message, "read", 4), status(message, "sent")))

    assert await state(connection, message) == READ
    assert await figures(connection, message.run_id) == {"accepted": 1, "delivered": 1, "read": 1}


async def test_two_ids_for_one_message_in_one_batch_are_reported_as_sent_twice(
    ingester: Ingester, connection: Connection, house: House, page: int
) -> None:
    message = await house.prepare(connection, page)
    await house.queue(connection, message)

    await ingest(
        ingester, connection, house, page_webhook(echo(message, "m_one")), page_webhook(echo(message, "m_two"))
    )

    found = await row(connection, message)
    assert (found["provider_id"], found["second_provider_id"]) == ("m_one", "m_two")
    assert await figures(connection, message.run_id) == {"accepted": 1, "sent_twice": 1}


async def test_an_echo_of_a_message_that_counted_as_failed_makes_it_accepted(
    ingester: Ingester, connection: Connection, house: House, page: int
) -> None:
    message = await house.prepare(connection, page)
    await house.queue(connection, message)
    proven = Settled(message.workspace_id, page, message.id, 1, message.day, 1, None, 100, 0, "Refused")
    await settlement.settle(connection, [proven])

    await ingest(ingester, connection, house, page_webhook(echo(message)), page_webhook(read(message)))

    found = await row(connection, message)
    assert (found["state"], found["provider_id"], found["error_code"]) == (READ, message.provider_id, None)
    assert await figures(connection, message.run_id) == {"accepted": 1, "delivered": 1, "read": 1}


async def test_receipts_that_overtake_our_own_outcome_wait_for_it(
    ingester: Ingester, connection: Connection, house: House, page: int
) -> None:
    by_id = await house.prepare(connection, page, "one")
    by_watermark = await house.prepare(connection, page, "two")
    for message in (by_id, by_watermark):
        await house.queue(connection, message)
    await ingest(ingester, connection, house, page_webhook(delivery(by_id)), page_webhook(read(by_watermark)))
    assert await row(connection, by_id) == {}

    for message in (by_id, by_watermark):
        await outcome(connection, message)

    assert [await state(connection, by_id), await state(connection, by_watermark)] == [DELIVERED, READ]
    assert await figures(connection, by_id.run_id) == {"accepted": 1, "delivered": 1}
    assert await figures(connection, by_watermark.run_id) == {"accepted": 1, "delivered": 1, "read": 1}


async def test_receipts_that_overtake_the_echo_are_applied_with_it(
    ingester: Ingester, connection: Connection, house: House, page: int
) -> None:
    message = await house.prepare(connection, page)
    await house.queue(connection, message, "u")
    await ingest(ingester, connection, house, page_webhook(delivery(message)), page_webhook(read(message)))

    await ingest(ingester, connection, house, page_webhook(echo(message)))

    assert await state(connection, message) == READ


async def test_an_outcome_written_between_ingests_look_and_its_commit_is_seen_by_the_second_look(
    ingester: Ingester, connection: Connection, database: Database, house: House, page: int
) -> None:
    by_id = await house.prepare(connection, page, "one")
    by_watermark = await house.prepare(connection, page, "two")
    for message in (by_id, by_watermark):
        await house.queue(connection, message)
    await arrive(connection, house, page_webhook(delivery(by_id)), page_webhook(read(by_watermark)))

    async with database.borrow() as blocker:
        # The same key, uncommitted: ingest has looked at `deliveries` and now waits to keep the receipt.
        transaction = blocker.transaction()
        await transaction.start()
        kept = receipts.Receipt(by_id.workspace_id, page, by_id.provider_id, DELIVERED, by_id.intent_at)
        await early_receipts.keep(blocker, [kept], [])
        ingesting = asyncio.create_task(ingester.run_once())
        await blocked_by(connection, blocker)
        for message in (by_id, by_watermark):
            await outcome(connection, message)
        assert await state(connection, by_id) == ACCEPTED
        await transaction.rollback()
    await ingesting

    assert [await state(connection, by_id), await state(connection, by_watermark)] == [DELIVERED, READ]


async def test_ids_of_messages_that_others_sent_harm_nothing(
    ingester: Ingester, connection: Connection, house: House, page: int, number: int
) -> None:
    ours = await house.accepted(connection, page)
    theirs = await house.prepare(connection, page, "psid of a chat by hand")
    by_whatsapp = await house.prepare(connection, number)
    foreign_key = status(by_whatsapp, "read", biz_opaque_callback_data="order-4711")

    await ingest(
        ingester,
        connection,
        house,
        page_webhook(echo(theirs, metadata="someone else's metadata"), delivery(theirs), read(theirs)),
        number_webhook(foreign_key, status(by_whatsapp, "delivered")),
    )

    assert await state(connection, ours) == ACCEPTED
    assert await connection.fetchval("SELECT count(*) FROM deliveries") == 1
    assert await connection.fetchval("SELECT count(*) FROM run_deltas") == 0
    assert await connection.fetchval("SELECT count(*) FROM pending_receipts") == 3


async def test_what_one_tenant_signs_never_touches_anothers_messages(
    ingester: Ingester, connection: Connection, house: House, page: int, number: int, box: SecretBox
) -> None:
    attacker = await House.build(connection, box, "attacker", "the attacker's secret")
    await attacker.channel(connection, "666", ChannelKind.MESSENGER)
    victims = [await house.accepted(connection, channel) for channel in (page, number)]
    waiting = await house.prepare(connection, page)
    await house.queue(connection, waiting, "u")
    bodies = [
        page_webhook(echo(waiting), delivery(victims[0]), read(victims[0])),
        number_webhook(status(victims[1], "read")),
        # The attacker's own Page, with the victim's ids and keys.
        page_webhook(echo(waiting), echo(victims[0], "m_x"), delivery(*victims), read(victims[0]), page="666"),
    ]

    await ingest(ingester, connection, attacker, *bodies)

    assert [await state(connection, victim) for victim in victims] == [ACCEPTED, ACCEPTED]
    assert await connection.fetchval("SELECT state FROM outbox WHERE id = $1", waiting.id) == b"u"
    assert await connection.fetchval("SELECT count(*) FROM deliveries WHERE second_provider_id IS NOT NULL") == 0


async def test_another_app_of_the_same_workspace_cannot_speak_for_a_channel(
    ingester: Ingester, connection: Connection, house: House, page: int, box: SecretBox
) -> None:
    message = await house.accepted(connection, page)
    sealed = box.seal(house.workspace_id, "x")
    other_app = await connection.fetchval(
        "INSERT INTO meta_apps (workspace_id, name, app_secret, verify_token) VALUES ($1, 'b', $2, $2) RETURNING id",
        house.workspace_id,
        sealed,
    )

    await ingest(ingester, connection, House(house.workspace_id, other_app, box), page_webhook(read(message)))

    assert await state(connection, message) == ACCEPTED


async def test_what_is_not_readable_is_noted_and_holds_up_nothing(
    ingester: Ingester, connection: Connection, house: House, page: int
) -> None:
    message = await house.accepted(connection, page)

    await ingest(
        ingester,
        connection,
        house,
        b"{not json",
        b"",
        b"[]",
        b'{"object":"instagram","entry":[{"id":"1"}]}',
        page_webhook({"sender": {"id": "psid"}, "message": {"mid": "m_1", "text": "\x00 hello"}}),
        page_webhook(read(message)),
    )

    assert await state(connection, message) == READ
    errors = await connection.fetch("SELECT error FROM webhook_errors ORDER BY id")
    assert len(errors) == 3
    assert all("WebhookFormatError" in error["error"] for error in errors)
    assert await connection.fetchval("SELECT count(*) FROM webhook_log") == 6


async def test_a_webhook_that_cannot_be_applied_is_tried_five_times_while_the_others_go_on(
    ingester: Ingester, connection: Connection, house: House, page: int, url: str
) -> None:
    message = await house.accepted(connection, page)
    poison = await house.prepare(connection, page)
    # Nothing that the parser lets through is known to be refused by the database.
    owner = await connect(url, "pombo_owner")
    await owner.execute("ALTER TABLE pending_receipts ADD CONSTRAINT no_poison CHECK (provider_id <> 'm_poison')")
    await owner.close()
    spoilt = delivery(poison)
    spoilt["delivery"]["mids"] = ["m_poison"]
    await arrive(connection, house, page_webhook(spoilt), page_webhook(read(message)))

    with capture_logs() as logs:
        await ingester.run_once()
        assert await state(connection, message) == READ
        for attempt in range(1, 5):
            left = await connection.fetchrow("SELECT attempts, error, due_at > now() AS later FROM webhook_queue")
            assert (left["attempts"], left["later"]) == (attempt, True)
            assert "no_poison" in left["error"]
            assert await ingester.run_once() == 0
            await connection.execute("UPDATE webhook_queue SET due_at = now()")
            await ingester.run_once()

    assert [line["given_up"] for line in logs if line["event"] == "webhook_failed"] == [False] * 4 + [True]

    assert await connection.fetchval("SELECT count(*) FROM webhook_queue") == 0
    given_up = await connection.fetchrow("SELECT attempts, error FROM webhook_errors")
    assert given_up["attempts"] == 5
    assert "no_poison" in given_up["error"]


async def test_a_batch_that_meets_a_deadlock_is_applied_again(
    ingester: Ingester, connection: Connection, house: House, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = await house.accepted(connection, page)
    meetings = iter([TRY_AGAIN[0]("deadlock detected"), TRY_AGAIN[1]("could not serialize")])

    async def unlucky(*arguments: Any) -> Any:
        if error := next(meetings, None):
            raise error
        return await apply(*arguments)

    apply = receipts.apply
    monkeypatch.setattr(receipts, "apply", unlucky)
    await ingest(ingester, connection, house, page_webhook(delivery(message)))

    assert await state(connection, message) == DELIVERED


async def test_several_workers_share_the_queue_and_count_everything_once(
    database: Database, connection: Connection, house: House, number: int
) -> None:
    messages = [await house.prepare(connection, number, run_id=9) for _ in range(60)]
    for message in messages:
        await house.queue(connection, message)
    bodies = [
        number_webhook(*(status(message, name) for message in messages[start : start + 5]))
        for name in ("read", "sent", "delivered", "read")
        for start in range(0, 60, 5)
    ]
    await arrive(connection, house, *bodies)

    async def work() -> None:
        worker = Ingester(database)
        while await worker.run_once(limit=4):
            pass

    await asyncio.gather(*(work() for _ in range(3)))

    assert await figures(connection, 9) == {"accepted": 60, "delivered": 60, "read": 60}
    assert await connection.fetchval("SELECT count(*) FROM webhook_queue") == 0


async def test_the_loop_applies_what_arrives_when_it_is_rung_and_ends_when_it_is_stopped(
    database: Database, connection: Connection, house: House, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing but the bell may wake it.
    monkeypatch.setattr(ingester_module, "_POLL_S", 60.0)
    worker, stop = Ingester(database), asyncio.Event()
    async with database.listen({webhooks.BELL: lambda _: worker.bell.set()}):
        running = asyncio.create_task(worker.run(stop))
        for _ in range(3):
            message = await house.accepted(connection, page)
            await arrive(connection, house, page_webhook(read(message)))
            async with asyncio.timeout(10):
                while await state(connection, message) != READ:
                    pass
        stop.set()
        async with asyncio.timeout(10):
            await running


async def test_the_loop_goes_on_when_the_database_is_back(
    ingester: Ingester, connection: Connection, house: House, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingester_module, "_POLL_S", 0.001)
    message = await house.accepted(connection, page)
    await arrive(connection, house, page_webhook(read(message)))
    troubles: list[Exception] = [DatabaseUnavailable("gone"), RuntimeError("unforeseen"), DatabaseUnavailable("gone")]

    async def troubled(*arguments: Any) -> Any:
        if troubles:
            raise troubles.pop()
        return await take(*arguments)

    take = webhooks.take
    monkeypatch.setattr(webhooks, "take", troubled)
    stop = asyncio.Event()
    running = asyncio.create_task(ingester.run(stop))
    async with asyncio.timeout(10):
        while await state(connection, message) != READ:
            pass
    stop.set()
    await running


# The law that all of it stands on: any order, any repetition, any division into webhooks and batches, and the outcome
# written at any point among them, end in the same rows and the same figures.

_STATUSES = ["sent", "delivered", "read", "failed"]


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[list[str]], list[tuple[int, str]]]:
    """What happened to each of three messages, and the statuses in the order and number in which they arrive."""
    happened = [draw(st.lists(st.sampled_from(_STATUSES), unique=True, max_size=4)) for _ in range(3)]
    statuses = [(index, name) for index, names in enumerate(happened) for name in names]
    repeated = draw(st.lists(st.sampled_from(statuses), max_size=6)) if statuses else []
    return happened, draw(st.permutations(statuses + repeated))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    history=histories(),
    batches=st.lists(st.integers(1, 4), max_size=8),
    outcome_at=st.integers(0, 10),
    keyed=st.booleans(),
)
async def test_any_order_of_statuses_ends_in_the_same_rows_and_figures(
    ingester: Ingester,
    connection: Connection,
    house: House,
    number: int,
    history: tuple[list[list[str]], list[tuple[int, str]]],
    batches: list[int],
    outcome_at: int,
    keyed: bool,
) -> None:
    happened, arrivals = history
    run_id = 1000 + next(_ids)
    messages = [await house.prepare(connection, number, run_id=run_id) for _ in happened]
    for message in messages:
        await house.queue(connection, message)
    seconds = {"sent": 1, "failed": 2, "delivered": 3, "read": 4}

    def body(index: int, name: str) -> bytes:
        made = failed(messages[index], 2) if name == "failed" else status(messages[index], name, seconds[name])
        if not keyed:
            del made["biz_opaque_callback_data"]
        return number_webhook(made)

    async def apply(part: list[tuple[int, str]]) -> None:
        sizes = iter(batches)
        while part:
            size = next(sizes, 100)
            await ingest(ingester, connection, house, *(body(*arrival) for arrival in part[:size]))
            part = part[size:]

    await apply(arrivals[:outcome_at])
    for message in messages:
        await outcome(connection, message)
    await apply(arrivals[outcome_at:])

    expected = {"accepted": 3, "delivered": 0, "read": 0, "undelivered": 0}
    for message, names in zip(messages, happened, strict=True):
        found = await row(connection, message)
        second = message.intent_at.replace(microsecond=0)
        times = {name: second + timedelta(seconds=seconds[name]) for name in names}
        was_read, was_delivered = "read" in names, "read" in names or "delivered" in names
        is_undelivered = "failed" in names and not was_delivered
        assert (found["delivered_at"], found["read_at"], found["failed_at"]) == (
            times.get("delivered", times.get("read")),
            times.get("read"),
            times.get("failed") if is_undelivered else None,
        )
        assert found["error_code"] == (131026 if is_undelivered else None)
        expected["read"] += was_read
        expected["delivered"] += was_delivered
        expected["undelivered"] += is_undelivered
    assert await figures(connection, run_id) == {name: count for name, count in expected.items() if count}
    assert await connection.fetchval("SELECT count(*) FROM pending_receipts") == 0


async def test_a_key_of_an_attempt_that_was_never_made_proves_nothing(
    ingester: Ingester, connection: Connection, house: House, page: int
) -> None:
    message = await house.prepare(connection, page)
    await house.queue(connection, message)
    ahead = format_key(message.id, 2, format_day(message.day))

    await ingest(ingester, connection, house, page_webhook(echo(message, metadata=ahead)))

    assert await row(connection, message) == {}
