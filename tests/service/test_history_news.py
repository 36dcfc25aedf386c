"""What customers wrote while webhooks were away counts once, whether a sync or a webhook brings it first."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import pytest

from pombo.domain.outcomes import DeliveryState
from pombo.ingest.history import HistoryReader
from pombo.ingest.ingester import Ingester
from pombo.store import early_receipts, syncs
from pombo.store.database import Connection, Database
from pombo.store.receipts import Receipt
from pombo.store.secrets import SecretBox
from pombo.upkeep.kept_receipts import KeptReceipts
from tests.delivery_log import House
from tests.inbox_story import BASE, PAGE, PSID, arrive, from_person, milliseconds, page
from tests.locks import Died


class Said(NamedTuple):
    """By the contact, so many seconds after the story's beginning."""

    id: str
    after: float
    text: str = "Anyone?"


class Shop:
    """With a Page that was added a month ago."""

    def __init__(self, database: Database, connection: Connection, house: House, channel_id: int) -> None:
        self.connection = connection
        self.workspace_id = house.workspace_id
        self._database = database
        self._house = house
        self.channel_id = channel_id

    async def by_webhook(self, *messages: Said) -> None:
        await self.happens(*(from_person(m.after, message={"mid": m.id, "text": m.text}) for m in messages))

    async def happens(self, *events: dict[str, Any]) -> None:
        await arrive(self.connection, self._house, page(*events))
        while await Ingester(self._database).run_once():
            pass

    async def by_sync(self, *messages: Said, author: str = PSID) -> None:
        await syncs.start(self.connection, self.workspace_id, self.channel_id, 5)
        await self.connection.execute(
            "UPDATE channel_jobs SET state = 'fetched', result = $1 WHERE kind = 'conversations'",
            json.dumps({"page": {"data": [_thread(messages, author)]}}),
        )
        assert await HistoryReader(self._database).run_once()

    async def set_aside(self, status: str) -> None:
        await self.connection.execute(
            """UPDATE conversations SET status = $2, unread = 0,
                   snoozed_until = CASE WHEN $2 = 'snoozed' THEN now() + interval '1 day' END
               WHERE workspace_id = $1""",
            self.workspace_id,
            status,
        )

    async def state(self) -> tuple[str, int, int]:
        """Of the only conversation: status, unread, messages."""
        row = await self.connection.fetchrow(
            """SELECT status, unread, (SELECT count(*) FROM conversation_messages WHERE workspace_id = $1)
               FROM conversations WHERE workspace_id = $1""",
            self.workspace_id,
        )
        return tuple(row)

    async def was_sent_a_campaign(self) -> None:
        await self._house.accepted(self.connection, self.channel_id, PSID)
        await self.connection.execute("UPDATE deliveries SET intent_at = $1", BASE)

    async def responses(self) -> int:
        counted: int = await self.connection.fetchval("SELECT count(*) FROM run_responses")
        return counted

    async def signals(self) -> list[str]:
        rows = await self.connection.fetch(
            "SELECT key FROM signals WHERE workspace_id = $1 ORDER BY id", self.workspace_id
        )
        return [row["key"] for row in rows]


def _thread(messages: Sequence[Said], author: str) -> dict[str, Any]:
    def moment(after: float) -> str:
        return _at(after).strftime("%Y-%m-%dT%H:%M:%S+0000")

    shown = [
        {"id": m.id, "created_time": moment(m.after), "from": {"id": author}, "message": m.text}
        for m in sorted(messages, key=lambda m: -m.after)
    ]
    return {
        "id": "t_1",
        "updated_time": moment(max(m.after for m in messages)),
        "participants": {"data": [{"name": "Ana Lima", "id": PSID}, {"name": "Shop", "id": PAGE}]},
        "messages": {"data": shown},
    }


@pytest.fixture
async def shop(database: Database, box: SecretBox) -> Any:
    async with database.borrow() as connection:
        house = await House.build(connection, box)
        channel_id = await house.channel(connection)
        await connection.execute("UPDATE channels SET created_at = now() - interval '1 month'")
        yield Shop(database, connection, house, channel_id)


@pytest.mark.parametrize("status", ["closed", "snoozed"])
@pytest.mark.parametrize("first", ["sync", "webhook"])
async def test_a_message_opens_its_conversation_once_whichever_brings_it_first(
    shop: Shop, status: str, first: str
) -> None:
    old, new = Said("m_1", 0), Said("m_2", 60)
    await shop.by_webhook(old)
    await shop.set_aside(status)
    if first == "sync":
        await shop.by_sync(old, new)
        assert await shop.state() == ("open", 1, 2)
    await shop.by_webhook(new)
    assert await shop.state() == ("open", 1, 2)

    # Whatever comes again changes nothing, of what was read since either.
    await shop.set_aside(status)
    await shop.by_sync(old, new)
    await shop.by_webhook(new)
    assert await shop.state() == (status, 0, 2)
    assert await shop.signals() == ["m_1", "m_2"]


async def test_a_message_older_than_the_last_one_counts_too(shop: Shop) -> None:
    await shop.by_webhook(Said("m_2", 60))
    await shop.set_aside("closed")
    await shop.by_sync(Said("m_1", 0), Said("m_2", 60))
    assert await shop.state() == ("open", 1, 2)


async def test_who_writes_first_during_an_outage_is_unread(shop: Shop) -> None:
    await shop.by_sync(Said("m_1", -3 * 86400))
    assert await shop.state() == ("open", 1, 1)


async def test_a_tap_signals_once_though_a_sync_takes_it_for_a_text(shop: Shop) -> None:
    await shop.by_sync(Said("m_1", 0, "Get Started"))
    await shop.happens(from_person(0, postback={"mid": "m_1", "title": "Get Started", "payload": "START"}))
    assert await shop.signals() == ["m_1"]


async def test_what_was_written_before_the_channel_or_too_long_ago_is_no_news(shop: Shop) -> None:
    old = Said("m_1", -8 * 86400)
    await shop.by_sync(old)
    assert await shop.state() == ("closed", 0, 1)
    assert await shop.signals() == []

    await shop.connection.execute("UPDATE channels SET created_at = $1", _at(30))
    await shop.by_sync(old, Said("m_2", 0), Said("m_3", 60))
    assert await shop.state() == ("open", 1, 3)
    assert await shop.signals() == ["m_3"]


async def test_an_answer_to_a_campaign_counts_though_only_a_sync_brings_it(shop: Shop) -> None:
    await shop.was_sent_a_campaign()
    await shop.by_sync(Said("m_1", 60))
    assert await shop.responses() == 1
    await shop.by_webhook(Said("m_1", 60))
    assert await shop.responses() == 1


def _at(after: float) -> datetime:
    return BASE + timedelta(seconds=after)


async def test_a_receipt_that_was_kept_for_a_message_of_the_past_needs_no_second_look(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which a process that dies after its commit does not get to."""
    await shop.by_webhook(Said("m_1", 0))
    await shop.happens(from_person(2, delivery={"mids": ["m_2"], "watermark": milliseconds(2)}))

    async def die(*_: object) -> None:
        raise Died

    monkeypatch.setattr("pombo.ingest.history.apart", die)
    with pytest.raises(Died):
        await shop.by_sync(Said("m_2", -3600), author=PAGE)
    shown = await shop.connection.fetchval("SELECT state FROM conversation_messages WHERE author = 'app'")
    assert shown == "delivered"


async def test_a_receipt_that_nobody_looked_at_for_a_message_of_another_program_is_found_by_upkeep(
    shop: Shop, database: Database
) -> None:
    await shop.by_webhook(Said("m_1", 0))
    await shop.by_sync(Said("m_2", -3600), author=PAGE)
    kept = Receipt(shop.workspace_id, shop.channel_id, "m_2", DeliveryState.DELIVERED.rank, BASE)
    await early_receipts.keep(shop.connection, [kept], [])

    await KeptReceipts().run_once(database)
    shown = await shop.connection.fetchval("SELECT state FROM conversation_messages WHERE author = 'app'")
    assert shown == "delivered"
