"""Agents and ingest at one conversation at the same moment: whoever waits finds things as the other has left them."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from pombo.domain.channels import ChannelKind
from pombo.domain.ids import AgentId, WorkspaceId
from pombo.domain.opt_out import OptWords
from pombo.domain.replies import Reply
from pombo.inbox import replying
from pombo.inbox.replying import Sent, Wish
from pombo.ingest.conversing import converse
from pombo.ingest.gathering import PersonEvent, Place
from pombo.ingest.ingester import Ingester
from pombo.meta.webhooks import parse_webhook
from pombo.store import agents, inbox_people
from pombo.store.database import Connection, Database
from pombo.store.secrets import SecretBox
from tests.delivery_log import House
from tests.inbox_story import BOB, EVE, LENT_PHONE, NUMBER, PHONE, USER, arrive, text, whatsapp
from tests.locks import blocked


@dataclass(frozen=True, slots=True)
class Desk:
    database: Database
    connection: Connection
    house: House
    channel_id: int
    workspace_id: WorkspaceId
    ana: AgentId

    async def comes(self, *bodies: bytes) -> None:
        await arrive(self.connection, self.house, *bodies)
        while await Ingester(self.database).run_once():
            pass

    async def conversation(self) -> int:
        found: int = await self.connection.fetchval("SELECT id FROM conversations WHERE last_inbound_at IS NOT NULL")
        return found

    async def reply(self, conversation_id: int, said: str) -> Sent:
        async with self.database.tenant(self.workspace_id) as connection:
            return await replying.reply(connection, self.workspace_id, conversation_id, Wish(Reply(said)), self.ana)

    async def ingest(self, connection: Connection, body: bytes) -> None:
        place = Place(self.workspace_id, self.channel_id)
        said = [(place, event) for event in parse_webhook(body).events if isinstance(event, PersonEvent)]
        await inbox_people.lock_channels(connection, [place])
        await converse(connection, said, OptWords())

    @asynccontextmanager
    async def ingesting(self, body: bytes) -> AsyncIterator[None]:
        """Commits at the end."""
        async with self.database.transaction() as connection:
            await self.ingest(connection, body)
            yield

    async def waits(self, coroutine: Coroutine[Any, Any, Sent]) -> asyncio.Task[Sent]:
        task = asyncio.create_task(coroutine)
        await blocked(self.connection)
        assert not task.done()
        return task


@pytest.fixture
async def desk(database: Database, box: SecretBox) -> AsyncIterator[Desk]:
    async with database.borrow() as connection:
        house = await House.build(connection, box)
        channel_id = await house.channel(connection, NUMBER, ChannelKind.WHATSAPP)
        workspace_id = WorkspaceId(house.workspace_id)
        ana = await agents.add_agent(connection, workspace_id, "Ana")
        yield Desk(database, connection, house, channel_id, workspace_id, ana)


async def test_a_reply_does_not_follow_a_number_to_its_new_owner(desk: Desk) -> None:
    await desk.comes(whatsapp(1, "wamid.1", "text", user=EVE, phone=LENT_PHONE, **text("I am Eve")))
    each = await desk.conversation()
    async with desk.ingesting(whatsapp(9, "wamid.2", "text", user=BOB, phone=LENT_PHONE, **text("I am Bob"))):
        replying = await desk.waits(desk.reply(each, "Eve, your code is 1234"))
    assert (await replying).recipient == EVE
    assert await desk.connection.fetchval("SELECT recipient FROM outbox") == EVE


async def test_a_conversation_that_moves_to_another_contact_is_still_there(desk: Desk) -> None:
    await desk.connection.execute(
        "INSERT INTO contacts (workspace_id, channel_id, external_id) VALUES ($1, $2, $3)",
        desk.workspace_id,
        desk.channel_id,
        f"+{PHONE}",
    )
    await desk.comes(whatsapp(1, "wamid.1", "text", phone=None, user=USER, **text("Hi")))
    each = await desk.conversation()
    async with desk.ingesting(whatsapp(9, "wamid.2", "text", phone=PHONE, user=USER, **text("again"))):
        replying = await desk.waits(desk.reply(each, "Hello"))
    assert (await replying).recipient == f"+{PHONE}"


async def test_what_stands_last_in_the_thread_stands_in_the_list(desk: Desk) -> None:
    await desk.comes(whatsapp(1, "wamid.1", "text", **text("first")))
    each = await desk.conversation()

    async def comes(body: bytes) -> None:
        async with desk.database.transaction() as connection:
            await desk.ingest(connection, body)

    async with desk.database.tenant(desk.workspace_id) as connection:
        await replying.reply(connection, desk.workspace_id, each, Wish(Reply("Coming")), desk.ana)
        ingesting = asyncio.create_task(comes(whatsapp(9, "wamid.2", "text", **text("Anyone?"))))
        await blocked(desk.connection)
    await ingesting

    last = await desk.connection.fetchrow(
        "SELECT text, at FROM conversation_messages WHERE kind <> 'note' ORDER BY at DESC, id DESC LIMIT 1"
    )
    assert last["text"] == "Coming"
    listed = await desk.connection.fetchrow("SELECT preview, last_message_at, unread FROM conversations")
    assert tuple(listed) == (*last, 1)
