"""Events of conversations and messages: whole rows, on the topics that browsers follow."""

import json
from typing import Any

from pombo.store import event_log, inbox_events
from pombo.store.database import Connection, Database
from pombo.store.secrets import SecretBox
from tests.accounts import Account, add_account


async def add_conversation(connection: Connection, account: Account) -> int:
    contact_id = await connection.fetchval(
        "INSERT INTO contacts (workspace_id, channel_id, external_id, name) VALUES ($1, $2, '77', 'Ana') RETURNING id",
        account.workspace_id,
        account.page,
    )
    conversation_id: int = await connection.fetchval(
        "INSERT INTO conversations (workspace_id, channel_id, contact_id, unread) VALUES ($1, $2, $3, 2) RETURNING id",
        account.workspace_id,
        account.page,
        contact_id,
    )
    return conversation_id


async def logged(connection: Connection) -> list[tuple[str, str, dict[str, Any]]]:
    rows = await connection.fetch("SELECT topic, name, data FROM events ORDER BY id")
    return [(row["topic"], row["name"], json.loads(row["data"])) for row in rows]


async def test_a_changed_conversation_is_told_whole_to_the_list_and_to_its_own_topic(
    database: Database, box: SecretBox
) -> None:
    account = await add_account(database, box)
    async with database.transaction() as connection:
        conversation_id = await add_conversation(connection, account)
        await connection.execute(
            "INSERT INTO conversation_reads VALUES ($1, $2, 5, 4711)",
            account.workspace_id,
            conversation_id,
        )
        await inbox_events.conversations_updated(connection, [(account.workspace_id, conversation_id)])
        await event_log.number(connection, 10)
        news = await event_log.read_new(connection, [account.workspace_id], 0, 10)

    assert [event.topic for event in news.events] == [f"messages:{conversation_id}", "conversations:all"]
    assert {event.name for event in news.events} == {"conversation.updated"}
    assert {event.position for event in news.events} == {1}
    row, same = (json.loads(event.data) for event in news.events)
    assert row == same
    assert row["id"] == conversation_id
    assert row["version"] == 1
    assert row["unread"] == 2
    assert row["contact"]["name"] == "Ana"
    assert row["reads"] == {"5": 4711}


async def test_messages_are_told_in_the_order_they_are_named(database: Database, box: SecretBox) -> None:
    account = await add_account(database, box)
    async with database.transaction() as connection:
        conversation_id = await add_conversation(connection, account)
        ids = [
            await connection.fetchval(
                """INSERT INTO conversation_messages (workspace_id, conversation_id, channel_id, direction, author,
                                                      kind, text, at)
                   VALUES ($1, $2, $3, 'in', 'contact', 'text', $4, now()) RETURNING id""",
                account.workspace_id,
                conversation_id,
                account.page,
                text,
            )
            for text in ("one", "two")
        ]
        named = [(account.workspace_id, each) for each in reversed(ids)]
        await inbox_events.messages_created(connection, named)
        await inbox_events.messages_updated(connection, named[:1])
        events = await logged(connection)

    assert [(topic, name, row["text"]) for topic, name, row in events] == [
        (f"messages:{conversation_id}", "message.created", "two"),
        (f"messages:{conversation_id}", "message.created", "one"),
        (f"messages:{conversation_id}", "message.updated", "two"),
    ]
