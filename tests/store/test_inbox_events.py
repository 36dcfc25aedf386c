"""Events of conversations and messages: whole rows, on the topics that browsers follow."""

import json

from pombo.store import event_log, inbox_events
from pombo.store.database import Connection, Database
from pombo.store.secrets import SecretBox
from tests.accounts import Account, add_account
from tests.told import told


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
        await inbox_events.append(connection, conversations=[(account.workspace_id, conversation_id)])
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
        first, *_ = named = [(account.workspace_id, each, conversation_id) for each in reversed(ids)]
        await inbox_events.append(connection, created=named)
        await inbox_events.append(connection, updated=[first[:2]])
        events = await told(connection)

    assert [(topic, name, row["text"]) for topic, name, row in events] == [
        (f"messages:{conversation_id}", "message.created", "two"),
        (f"messages:{conversation_id}", "message.created", "one"),
        (f"messages:{conversation_id}", "message.updated", "two"),
    ]


async def test_a_conversation_is_told_with_the_last_of_its_new_messages(database: Database, box: SecretBox) -> None:
    account = await add_account(database, box)
    workspace = account.workspace_id
    async with database.transaction() as connection:
        one = await add_conversation(connection, account)
        other = await connection.fetchval(
            """INSERT INTO conversations (workspace_id, channel_id, contact_id)
               SELECT workspace_id, $1, contact_id FROM conversations RETURNING id""",
            account.number,
        )
        ids = [
            await connection.fetchval(
                """INSERT INTO conversation_messages (workspace_id, conversation_id, channel_id, direction, author,
                                                      kind, at)
                   VALUES ($1, $2, $3, 'in', 'contact', 'text', now()) RETURNING id""",
                workspace,
                one,
                account.page,
            )
            for _ in range(2)
        ]
        created = [(workspace, each, one) for each in ids]
        await inbox_events.append(connection, created=created, conversations=[(workspace, one), (workspace, other)])
        await event_log.number(connection, 10)
        news = await event_log.read_new(connection, [workspace], 0, 10)

    assert [(event.position, event.topic, event.name, json.loads(event.data)["id"]) for event in news.events] == [
        (1, f"messages:{one}", "message.created", ids[0]),
        (2, f"messages:{one}", "message.created", ids[1]),
        (2, f"messages:{one}", "conversation.updated", one),
        (2, "conversations:all", "conversation.updated", one),
        (3, f"messages:{other}", "conversation.updated", other),
        (3, "conversations:all", "conversation.updated", other),
    ]
