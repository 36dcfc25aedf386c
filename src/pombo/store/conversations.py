"""Conversations as agents see and change them.

Rows are shown as JSON text, made by `pombo.store.inbox_events`, so that HTTP and events say the same.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from pombo.domain.channels import ChannelKind
from pombo.domain.ids import AgentId, ChannelId, ConversationId, WorkspaceId
from pombo.store.database import Connection
from pombo.store.inbox_events import CONVERSATION_JSON


class Conversation(NamedTuple):
    """What decisions are made from; locked until the transaction ends."""

    id: ConversationId
    version: int
    channel_id: ChannelId
    kind: ChannelKind
    recipient: str
    status: str
    snoozed_until: datetime | None
    assignee_id: AgentId | None
    label_ids: list[int]
    unread: int
    last_inbound_at: datetime | None
    last_inbound_id: int
    """Of the contact's last message that was news; 0 if none was."""
    now: datetime


_OF_RECIPIENT = """
SELECT c.id FROM identities i
JOIN conversations c ON c.workspace_id = i.workspace_id AND c.contact_id = i.contact_id AND c.channel_id = i.channel_id
WHERE i.workspace_id = $1 AND i.channel_id = $2 AND i.identity = $3
"""

_LOCK = "SELECT FROM conversations WHERE workspace_id = $1 AND id = $2 FOR UPDATE"

# A statement after the one that locked, and so may have waited: only a new one sees what others had changed meanwhile
# in other rows, such as the contact's number, which may be another person's now.
_READ = """
SELECT c.id, c.version, c.channel_id, ch.kind, p.external_id AS recipient, c.status, c.snoozed_until, c.assignee_id,
       c.label_ids, c.unread, c.last_inbound_at, c.last_inbound_id, clock_timestamp() AS now
FROM conversations c
JOIN contacts p ON p.workspace_id = c.workspace_id AND p.id = c.contact_id
JOIN channels ch ON ch.workspace_id = c.workspace_id AND ch.id = c.channel_id
WHERE c.workspace_id = $1 AND c.id = $2
"""

_SHOW = f"""
SELECT {CONVERSATION_JSON}
FROM unnest($2::bigint[]) WITH ORDINALITY AS wanted (id, place)
JOIN conversations c ON c.workspace_id = $1 AND c.id = wanted.id
JOIN contacts p ON p.workspace_id = c.workspace_id AND p.id = c.contact_id
ORDER BY wanted.place
"""

_WINDOW = """
SELECT ch.kind, c.last_inbound_at, clock_timestamp()
FROM conversations c JOIN channels ch ON ch.workspace_id = c.workspace_id AND ch.id = c.channel_id
WHERE c.workspace_id = $1 AND c.id = $2
"""

_SAVE = """
UPDATE conversations SET status = $3, snoozed_until = $4, assignee_id = $5, label_ids = $6, unread = $7,
    version = version + 1
WHERE workspace_id = $1 AND id = $2
"""

# What counts as read from the agent's beginning stays so, and so does what was read before: a request may be late.
_SET_READ = """
INSERT INTO conversation_reads AS r (workspace_id, conversation_id, agent_id, until)
VALUES ($1, $2, $3, greatest($4::bigint, least($5::bigint, (SELECT seen_until FROM agents
                                                            WHERE workspace_id = $1 AND id = $3))))
ON CONFLICT (workspace_id, conversation_id, agent_id) DO UPDATE SET until = excluded.until
WHERE r.until < excluded.until
"""

_SET_UNREAD = """
INSERT INTO conversation_reads AS r (workspace_id, conversation_id, agent_id, until) VALUES ($1, $2, $3, $4)
ON CONFLICT (workspace_id, conversation_id, agent_id) DO UPDATE SET until = excluded.until
WHERE r.until > excluded.until
"""

# Among the newest, for a thread may be long.
_NEWER = """
SELECT count(*) FROM (
    SELECT id, author FROM conversation_messages
    WHERE workspace_id = $1 AND conversation_id = $2 ORDER BY at DESC, id DESC LIMIT 1000
) newest
WHERE author = 'contact' AND id > $3
"""

_WAKE = """
UPDATE conversations c SET status = 'open', snoozed_until = NULL, version = version + 1
WHERE (c.workspace_id, c.id) IN (
    SELECT workspace_id, id FROM conversations WHERE status = 'snoozed' AND snoozed_until <= now()
    ORDER BY workspace_id, id LIMIT $1 FOR UPDATE SKIP LOCKED)
RETURNING workspace_id, id
"""


async def lock(connection: Connection, workspace_id: WorkspaceId, conversation_id: int) -> Conversation | None:
    if await connection.fetchrow(_LOCK, workspace_id, conversation_id) is None:
        return None
    row = await connection.fetchrow(_READ, workspace_id, conversation_id)
    if row is None:
        return None
    return Conversation(**{**row, "kind": ChannelKind(row["kind"])})


async def lock_of(
    connection: Connection, workspace_id: WorkspaceId, channel_id: ChannelId, recipient: str
) -> Conversation | None:
    """That of the contact who has this address, if there is one."""
    found: ConversationId | None = await connection.fetchval(_OF_RECIPIENT, workspace_id, channel_id, recipient)
    return None if found is None else await lock(connection, workspace_id, found)


async def show(connection: Connection, workspace_id: WorkspaceId, ids: Sequence[int]) -> list[str]:
    """JSON text of each, in this order; missing ones are left out."""
    return [row[0] for row in await connection.fetch(_SHOW, workspace_id, ids)]


async def window_facts(
    connection: Connection, workspace_id: WorkspaceId, conversation_id: int
) -> tuple[ChannelKind, datetime | None, datetime] | None:
    """Kind of the channel, when the contact wrote last, and now."""
    row = await connection.fetchrow(_WINDOW, workspace_id, conversation_id)
    return None if row is None else (ChannelKind(row[0]), row[1], row[2])


async def contact_variables(
    connection: Connection, workspace_id: WorkspaceId, conversation_id: int
) -> dict[str, Any] | None:
    """The contact's attributes and name, for texts with variables."""
    row = await connection.fetchrow(
        """SELECT p.attributes, p.name FROM conversations c
           JOIN contacts p ON p.workspace_id = c.workspace_id AND p.id = c.contact_id
           WHERE c.workspace_id = $1 AND c.id = $2""",
        workspace_id,
        conversation_id,
    )
    return None if row is None else {**json.loads(row["attributes"]), "name": row["name"]}


async def save(connection: Connection, workspace_id: WorkspaceId, changed: Conversation) -> None:
    """Status, snooze, assignee, labels and unread, under a new version."""
    await connection.execute(
        _SAVE,
        workspace_id,
        changed.id,
        changed.status,
        changed.snoozed_until,
        changed.assignee_id,
        changed.label_ids,
        changed.unread,
    )


async def set_read(
    connection: Connection,
    workspace_id: WorkspaceId,
    conversation: Conversation,
    agent_id: AgentId,
    until: int | None = None,
) -> bool:
    """Up to that message, or all of it; returns whether that is new."""
    if conversation.last_inbound_at is None:
        return False
    last = conversation.last_inbound_id
    read = last if until is None else min(until, last)
    done = await connection.execute(_SET_READ, workspace_id, conversation.id, agent_id, read, last)
    return not done.endswith(" 0")


async def set_unread(
    connection: Connection, workspace_id: WorkspaceId, conversation: Conversation, agent_id: AgentId
) -> bool:
    """The contact's last message, at least; returns whether that is new."""
    if conversation.last_inbound_at is None:
        return False
    until = conversation.last_inbound_id - 1
    done = await connection.execute(_SET_UNREAD, workspace_id, conversation.id, agent_id, until)
    return not done.endswith(" 0")


async def unread_after(
    connection: Connection, workspace_id: WorkspaceId, conversation: Conversation, until: int | None
) -> int:
    """How many messages nobody has read once somebody has read up to that one, or all of it."""
    if until is None or until >= conversation.last_inbound_id:
        return 0
    newer: int = await connection.fetchval(_NEWER, workspace_id, conversation.id, until)
    # The last one is newer in any case, and what a sync has brought of the past may be among those counted.
    return min(conversation.unread, max(newer, 1))


async def wake(connection: Connection, limit: int) -> list[tuple[int, int]]:
    """Opens those whose snooze is over, of all workspaces; returns (workspace, id) of each."""
    return [tuple(row) for row in await connection.fetch(_WAKE, limit)]
