"""The copy of a campaign's message shows what the delivery log says of it, whoever writes that, and whenever."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from pombo.domain.outcomes import DeliveryState
from pombo.inbox.following import ReplyFollower
from pombo.ingest import answering
from pombo.ingest.ingester import Ingester
from pombo.store import early_receipts, settlement
from pombo.store.database import Connection, Database
from pombo.store.receipts import Receipt
from pombo.store.secrets import SecretBox
from pombo.store.settlement import ACCEPTED, Settled
from pombo.upkeep.kept_receipts import KeptReceipts
from tests.delivery_log import House, Message
from tests.inbox_story import BASE, arrive, from_person, milliseconds, page, page_echo, set_the_scene
from tests.locks import blocked

# An answer to the campaign, and a mark up to which its message was read.
HELLO = page(from_person(2, message={"mid": "m_1", "text": "Hello"}))
READ = page(from_person(9, read={"watermark": milliseconds(5)}))


@dataclass(frozen=True, slots=True)
class Scene:
    database: Database
    connection: Connection
    house: House
    sent: Message
    """The campaign's message, accepted."""

    async def comes(self, body: bytes) -> None:
        async with self.database.borrow() as connection:
            await arrive(connection, self.house, body)
        assert await Ingester(self.database).run_once() == 1

    async def shows(self) -> list[str]:
        await ReplyFollower(self.database).run_once()
        rows = await self.connection.fetch("SELECT state FROM conversation_messages WHERE author = 'campaign'")
        return [row[0] for row in rows]

    def receipt(self, state: DeliveryState) -> Receipt:
        return Receipt(self.sent.workspace_id, self.sent.channel_id, "m_campaign", state.rank, BASE)

    def accepted(self) -> Settled:
        sent = self.sent
        return Settled(sent.workspace_id, sent.channel_id, sent.id, 1, sent.day, ACCEPTED, "m_campaign")


@pytest.fixture
async def scene(database: Database, box: SecretBox) -> AsyncIterator[Scene]:
    async with database.borrow() as connection:
        house = await House.build(connection, box)
        sent = await set_the_scene(connection, house)
        yield Scene(database, connection, house, sent[1])


def lingering(monkeypatch: pytest.MonkeyPatch) -> tuple[asyncio.Event, asyncio.Event]:
    """While the campaign's message is copied, the first event is set and the second waited for."""
    copying, go_on = asyncio.Event(), asyncio.Event()
    answer = answering.answer

    async def linger(connection: Connection, contacts: set[tuple[int, int, int]]) -> int:
        copied = await answer(connection, contacts)
        copying.set()
        await go_on.wait()
        return copied

    monkeypatch.setattr("pombo.ingest.ingester.answer", linger)
    return copying, go_on


async def test_a_receipt_that_comes_while_its_message_is_copied_is_shown(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    copying, go_on = lingering(monkeypatch)
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        tasks.create_task(scene.comes(HELLO))
        await copying.wait()
        tasks.create_task(scene.comes(READ))
        await blocked(scene.connection)
        go_on.set()

    assert await scene.shows() == ["read"]


async def test_an_id_that_comes_while_its_message_is_copied_is_the_copys_too(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an answer of Meta's that is late, of a message that was marked as sent."""
    await scene.connection.execute("UPDATE deliveries SET provider_id = NULL WHERE id = $1", scene.sent.id)
    copying, go_on = lingering(monkeypatch)

    async def answered() -> None:
        async with scene.database.borrow() as connection:
            await settlement.settle(connection, [scene.accepted()])

    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        tasks.create_task(scene.comes(HELLO))
        await copying.wait()
        tasks.create_task(answered())
        await blocked(scene.connection)
        go_on.set()

    assert await scene.shows() == ["accepted"]
    found = await scene.connection.fetchval("SELECT provider_id FROM conversation_messages WHERE author = 'campaign'")
    assert found == "m_campaign"


async def test_a_message_is_copied_as_a_receipt_that_is_being_applied_leaves_it(scene: Scene) -> None:
    await arrive(scene.connection, scene.house, HELLO)
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks, scene.database.transaction() as applying:
        await early_receipts.keep(applying, [scene.receipt(DeliveryState.DELIVERED)], [])
        await early_receipts.catch_up(applying, [scene.receipt(DeliveryState.DELIVERED)])
        tasks.create_task(Ingester(scene.database).run_once())
        await blocked(scene.connection)

    assert await scene.shows() == ["delivered"]


async def test_what_sending_and_upkeep_find_kept_for_a_copied_message_is_shown(scene: Scene) -> None:
    await scene.comes(HELLO)
    assert await scene.shows() == ["accepted"]

    await early_receipts.keep(scene.connection, [scene.receipt(DeliveryState.DELIVERED)], [])
    await early_receipts.apply_pending(scene.connection, [scene.accepted()])
    assert await scene.shows() == ["delivered"]

    read = scene.receipt(DeliveryState.READ)
    await early_receipts.keep(scene.connection, [read], [])
    await KeptReceipts().run_once(scene.database)
    assert await scene.shows() == ["read"]


async def test_a_read_mark_is_shown_once_and_a_repeated_one_by_nothing(scene: Scene) -> None:
    await scene.comes(HELLO)
    await scene.comes(READ)
    assert await scene.shows() == ["read"]
    told = await scene.connection.fetchval("SELECT count(*) FROM events")

    await scene.comes(READ)
    assert await scene.connection.fetchval("SELECT count(*) FROM reply_changes") == 0
    assert await scene.connection.fetchval("SELECT count(*) FROM events") == told


async def test_an_id_that_only_evidence_brings_is_the_copys_too(scene: Scene) -> None:
    """Of one that was marked as sent."""
    await scene.connection.execute("UPDATE deliveries SET provider_id = NULL WHERE id = $1", scene.sent.id)
    await scene.comes(HELLO)
    liked = {"mid": "m_campaign", "action": "react", "reaction": "love", "emoji": "\u2764"}
    await scene.comes(page(from_person(3, reaction=liked)))
    await scene.comes(page(page_echo(1, mid="m_campaign", text="Hello you", metadata=scene.sent.key)))

    assert await scene.shows() == ["accepted"]
    copy = await scene.connection.fetchrow(
        "SELECT provider_id, reactions FROM conversation_messages WHERE author = 'campaign'"
    )
    assert tuple(copy) == ("m_campaign", '{"contact": "\u2764"}')
