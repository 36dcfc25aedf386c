"""Unread by agent: by the order in which messages come, whatever times Meta gives them."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from pombo.domain.channels import ChannelKind
from pombo.domain.ids import AgentId, WorkspaceId
from pombo.inbox.changing import Change, change
from pombo.ingest.ingester import Ingester
from pombo.store import agents, conversation_list
from pombo.store.conversation_list import BEGINNING, Filters
from pombo.store.database import Connection, Database
from pombo.store.secrets import SecretBox
from tests.delivery_log import House
from tests.inbox_story import NUMBER, PAGE, arrive, from_person, page, text, whatsapp


@dataclass(frozen=True, slots=True)
class Inbox:
    database: Database
    connection: Connection
    house: House
    workspace_id: WorkspaceId
    ana: AgentId

    async def comes(self, *bodies: bytes) -> None:
        await arrive(self.connection, self.house, *bodies)
        while await Ingester(self.database).run_once():
            pass

    async def ids(self) -> list[int]:
        rows = await self.connection.fetch(
            "SELECT id FROM conversations WHERE workspace_id = $1 ORDER BY id", self.workspace_id
        )
        return [row["id"] for row in rows]

    async def reads(self, conversation_id: int, *, read: bool = True) -> None:
        async with self.database.tenant(self.workspace_id) as connection:
            await change(connection, self.workspace_id, conversation_id, Change(read=read), agent_id=self.ana)

    async def unread(self) -> list[int]:
        return await self.unread_by(self.ana)

    async def unread_by(self, agent_id: AgentId) -> list[int]:
        async with self.database.tenant(self.workspace_id) as connection:
            found = await conversation_list.list_page(
                connection, self.workspace_id, Filters(unread_by=agent_id), BEGINNING, 50
            )
        return found.ids


@pytest.fixture
async def inbox(database: Database, box: SecretBox) -> AsyncIterator[Inbox]:
    async with database.borrow() as connection:
        house = await House.build(connection, box)
        await house.channel(connection, PAGE)
        await house.channel(connection, NUMBER, ChannelKind.WHATSAPP)
        workspace_id = WorkspaceId(house.workspace_id)
        yield Inbox(database, connection, house, workspace_id, await agents.add_agent(connection, workspace_id, "Ana"))


async def test_a_message_that_comes_late_is_unread_though_later_ones_were_read(inbox: Inbox) -> None:
    await inbox.comes(page(from_person(20, message={"mid": "m_2", "text": "second"})))
    (each,) = await inbox.ids()
    await inbox.reads(each)
    assert await inbox.unread() == []
    await inbox.comes(page(from_person(10, message={"mid": "m_1", "text": "first"})))
    assert await inbox.unread() == [each]


async def test_the_second_message_of_a_second_is_unread_after_the_first_was_read(inbox: Inbox) -> None:
    await inbox.comes(whatsapp(5, "wamid.1", "text", **text("one")))
    (each,) = await inbox.ids()
    await inbox.reads(each)
    await inbox.comes(whatsapp(5, "wamid.2", "text", **text("two")))
    assert await inbox.unread() == [each]


@pytest.mark.parametrize("first", [True, False, None])
@pytest.mark.parametrize("second", [True, False, None])
async def test_a_merge_leaves_unread_what_was_unread_of_either(
    inbox: Inbox, first: bool | None, second: bool | None
) -> None:
    """Read by Ana, marked as unread, or as it came."""
    await inbox.comes(whatsapp(10, "wamid.1", "text", user=None, **text("by number")))
    await inbox.comes(whatsapp(20, "wamid.2", "text", phone=None, **text("by id")))
    for each, read in zip(await inbox.ids(), (first, second), strict=True):
        if read is not None:
            await inbox.reads(each, read=read)
    await inbox.comes(whatsapp(30, "wamid.3", "reaction", reaction={"message_id": "wamid.0", "emoji": "❤"}))
    (kept,) = await inbox.ids()
    assert await inbox.unread() == ([] if first and second else [kept])


async def test_a_new_agent_has_read_what_came_before_and_nothing_of_what_comes_late(inbox: Inbox) -> None:
    await inbox.comes(page(from_person(20, message={"mid": "m_2", "text": "second"})))
    ben = await agents.add_agent(inbox.connection, inbox.workspace_id, "Ben")
    assert await inbox.unread_by(ben) == []
    await inbox.comes(page(from_person(10, message={"mid": "m_1", "text": "first"})))
    assert await inbox.unread_by(ben) == await inbox.ids()
