"""POST /api/send-message."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pombo.domain.channels import ChannelKind
from pombo.domain.classes import MessageClass
from pombo.domain.content import Text
from pombo.domain.events import Person, ThreadMessage
from pombo.domain.opt_out import OptWords
from pombo.inbox import direct
from pombo.ingest.conversing import converse
from pombo.ingest.gathering import Place
from pombo.store import contacts, inbox_people
from pombo.store.contacts import NewContact
from pombo.store.database import Database
from pombo.store.secrets import SecretBox
from tests.api_client import Api, running_api
from tests.conversations import add_conversation, add_person, ago
from tests.locks import blocked
from tests.told import told


@pytest.fixture
async def api(database: Database, box: SecretBox) -> AsyncIterator[Api]:
    async with running_api(database, box) as running:
        yield running


def message(api: Api, **changes: Any) -> dict[str, Any]:
    text = {"type": "text", "text": "On its way, {{ name }}"}
    return {"channelId": api.account.number, "recipient": "+351 912 345 678", "content": text} | changes


async def queued(api: Api) -> list[dict[str, Any]]:
    async with api.database.borrow() as connection:
        rows = await connection.fetch(
            """SELECT o.id, o.run_id, o.recipient, o.content->>'text' AS text, o.variables->>'name' AS name, s.class
               FROM outbox o JOIN streams s USING (workspace_id, channel_id, run_id) ORDER BY o.id"""
        )
    return [dict(row) for row in rows]


async def test_a_message_is_queued_as_a_reply_unless_it_says_otherwise(api: Api) -> None:
    reply = await api.http.post("/api/send-message", json=message(api, variables={"name": "Ana"}))
    other = await api.http.post("/api/send-message", json=message(api, **{"class": "transactional"}))

    assert (reply.status_code, other.status_code) == (202, 202)
    first, second = await queued(api)
    assert reply.json() == {
        "messageId": first["id"],
        "channelId": api.account.number,
        "recipient": "+351912345678",
        "status": "queued",
        "conversationId": other.json()["conversationId"],
        "id": reply.json()["id"],
    }
    assert (first["class"], first["run_id"], first["recipient"]) == (0, 0, "+351912345678")
    assert (first["text"], first["name"]) == ("On its way, {{ name }}", "Ana")
    assert (second["class"], second["run_id"]) == (1, -1)


async def test_a_repeated_request_with_its_key_queues_nothing_again(api: Api) -> None:
    headers = {"Idempotency-Key": "reply-1"}
    first = await api.http.post("/api/send-message", json=message(api), headers=headers)
    again = await api.http.post("/api/send-message", json=message(api), headers=headers)
    other = await api.http.post("/api/send-message", json=message(api, recipient="+351912345679"), headers=headers)

    assert again.json() == first.json()
    assert other.json()["error"]["code"] == "idempotency_conflict"
    assert len(await queued(api)) == 1


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"recipient": "12"}, 422, "recipients_invalid"),
        ({"channelId": 999}, 404, "channel_not_found"),
        ({"content": None}, 422, "content_missing"),
        ({"content": {"type": "text", "text": "x" * 4097}}, 422, "text_too_long"),
        ({"class": "bulk"}, 422, "validation_failed"),
        ({"variables": {"name": "\u0000"}}, 422, "text_invalid"),
    ],
)
async def test_what_cannot_be_sent_is_refused_and_nothing_is_queued(
    api: Api, changes: dict[str, Any], status: int, code: str
) -> None:
    answer = await api.http.post("/api/send-message", json=message(api, **changes))
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert await queued(api) == []


async def test_figures_of_direct_messages_are_counted(api: Api) -> None:
    await api.http.post("/api/send-message", json=message(api))
    shown = (await api.http.get("/stats/queue")).json()
    assert (shown["totals"]["total"], shown["totals"]["pending"]) == (1, 1)


async def test_a_message_to_somebody_who_has_a_conversation_is_shown_in_it(api: Api) -> None:
    each = await add_conversation(
        api.database, api.account.workspace_id, api.account.number, "+351912345678", status="closed"
    )
    before = (await api.http.get(f"/api/conversations/{each}")).json()["conversation"]

    asked = message(api, variables={"name": "Ana"}, **{"class": "transactional"})
    sent = (await api.http.post("/api/send-message", json=asked)).json()

    assert sent["conversationId"] == each
    newest = (await api.http.get(f"/api/messages/{each}")).json()["messages"][0]
    assert (newest["id"], newest["messageId"]) == (sent["id"], sent["messageId"])
    assert (newest["author"], newest["text"], newest["state"]) == ("app", "On its way, Ana", "queued")
    after = (await api.http.get(f"/api/conversations/{each}")).json()["conversation"]
    assert after["preview"] == "On its way, Ana"
    for key in ("status", "unread", "assigneeId"):
        assert after[key] == before[key]


async def test_a_program_s_first_message_begins_a_closed_conversation_that_browsers_hear_of(api: Api) -> None:
    asked = message(api, variables={"name": "Ana"})
    sent = [(await api.http.post("/api/send-message", json=asked)).json() for _ in range(2)]
    assert len({each["conversationId"] for each in sent}) == 1
    each = sent[0]["conversationId"]
    row = (await api.http.get(f"/api/conversations/{each}")).json()["conversation"]
    assert (row["status"], row["unread"], row["assigneeId"]) == ("closed", 0, None)
    assert (row["contact"]["externalId"], row["preview"]) == ("+351912345678", "On its way, Ana")
    thread = (await api.http.get(f"/api/messages/{each}")).json()["messages"]
    assert [(one["id"], one["author"], one["state"]) for one in thread] == [
        (one["id"], "app", "queued") for one in reversed(sent)
    ]
    async with api.database.borrow() as connection:
        rows = [data for _, _, data in await told(connection)]
    assert rows[-1] == row
    assert thread[0] in rows


@pytest.mark.parametrize("kind", ["number", "page"])
async def test_an_agent_begins_a_conversation_that_is_the_agent_s(api: Api, kind: str) -> None:
    ana = await add_person(api, "Ana")
    where = {"number": (api.account.number, "+351912345678"), "page": (api.account.page, "24012345678901")}[kind]
    asked = message(api, channelId=where[0], recipient=where[1])
    async with ana.http:
        sent = (await ana.http.post("/api/send-message", json=asked)).json()
    row = (await api.http.get(f"/api/conversations/{sent['conversationId']}")).json()["conversation"]
    assert (row["status"], row["unread"], row["assigneeId"]) == ("open", 0, ana.id)
    async with api.database.borrow() as connection:
        # WhatsApp tells names with messages, of a Page's contacts they are asked for.
        assert await connection.fetchval("SELECT count(*) FROM channel_jobs") == (kind == "page")


@pytest.mark.parametrize("assigned", [False, True])
async def test_an_agent_who_writes_first_again_opens_the_conversation(api: Api, assigned: bool) -> None:
    ana, rui = await add_person(api, "Ana"), await add_person(api, "Rui")
    each = await add_conversation(
        api.database, api.account.workspace_id, api.account.number, "+351912345678", status="closed"
    )
    await api.http.patch(f"/api/conversations/{each}", json={"assigneeId": rui.id if assigned else None})
    async with ana.http, rui.http:
        await ana.http.post("/api/send-message", json=message(api))
    row = (await api.http.get(f"/api/conversations/{each}")).json()["conversation"]
    # It answers nobody.
    assert (row["status"], row["unread"]) == ("open", 1)
    assert row["assigneeId"] == (rui.id if assigned else ana.id)


@pytest.mark.parametrize("known", ["imported", "merged"])
async def test_a_known_contact_s_conversation_begins_with_the_first_message(api: Api, known: str) -> None:
    number, address = api.account.number, "+351912345678"
    place = Place(api.account.workspace_id, number)
    async with api.database.transaction() as connection:
        await contacts.save_contacts(connection, api.account.workspace_id, [NewContact(number, address)])
        if known == "merged":
            # Meta has called the same person by a user id before.
            await converse(connection, [(place, says(Person("PT.77", (address,))))], OptWords())
    sent = (await api.http.post("/api/send-message", json=message(api))).json()
    async with api.database.borrow() as connection:
        assert await connection.fetchval("SELECT count(*) FROM contacts") == 1
        assert await connection.fetchval("SELECT array_agg(id) FROM conversations") == [sent["conversationId"]]


def says(person: Person) -> ThreadMessage:
    return ThreadMessage(ChannelKind.WHATSAPP, "2001", "wamid.1", person, ago(), "contact", "text", "Hello?")


@pytest.mark.parametrize("first", ["webhook", "message"])
async def test_the_first_webhook_and_the_first_message_at_the_same_moment_end_in_one_conversation(
    api: Api, first: str
) -> None:
    workspace, number, address = api.account.workspace_id, api.account.number, "+351912345678"
    said = [(Place(workspace, number), says(Person(address)))]

    async def hears() -> None:
        async with api.database.transaction(inbox_people.locking([(workspace, number)])) as connection:
            await converse(connection, said, OptWords())

    async def sends() -> None:
        assert (await api.http.post("/api/send-message", json=message(api))).status_code == 202

    async with api.database.transaction() as connection:
        if first == "webhook":
            await inbox_people.lock_channels(connection, [(workspace, number)])
            await converse(connection, said, OptWords())
            other = asyncio.create_task(sends())
        else:
            await direct.send(
                connection, workspace, number, address, Text("Hello"), message_class=MessageClass.TRANSACTIONAL
            )
            other = asyncio.create_task(hears())
        async with api.database.borrow() as watching:
            await blocked(watching)
    await other
    async with api.database.borrow() as connection:
        assert await connection.fetchval("SELECT count(*) FROM contacts") == 1
        row = await connection.fetchrow("SELECT id, status, unread FROM conversations")
        assert tuple(row)[1:] == ("open", 1)
        authors = "SELECT array_agg(author ORDER BY author) FROM conversation_messages WHERE conversation_id = $1"
        assert await connection.fetchval(authors, row["id"]) == ["app", "contact"]


async def test_who_has_a_conversation_is_written_to_while_the_channel_s_webhooks_are_applied(api: Api) -> None:
    workspace, number = api.account.workspace_id, api.account.number
    await add_conversation(api.database, workspace, number, "+351912345678")
    async with api.database.transaction() as connection:
        await inbox_people.lock_channels(connection, [(workspace, number)])
        async with asyncio.timeout(10):
            assert (await api.http.post("/api/send-message", json=message(api))).status_code == 202


async def test_text_that_cannot_be_rendered_is_shown_as_it_was_written(api: Api) -> None:
    each = await add_conversation(api.database, api.account.workspace_id, api.account.number, "+351912345678")
    text = "A share is {{ 6 | divided_by: people }}"
    asked = message(api, content={"type": "text", "text": text}, variables={"people": 0})
    assert (await api.http.post("/api/send-message", json=asked)).status_code == 202
    newest = (await api.http.get(f"/api/messages/{each}")).json()["messages"][0]
    assert newest["text"] == text
