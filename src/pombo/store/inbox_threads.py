"""Conversations and what comes into them from outside: one a contact and channel, each message once by Meta's id.

Counters and previews of a conversation come from the rows that were new, or from the thread as it then is, so that
repeats change nothing and neither does the order.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

from pombo.store.database import Connection
from pombo.store.planning import columns

PREVIEW_LENGTH = 200


class NewMessage(NamedTuple):
    workspace_id: int
    conversation_id: int
    channel_id: int
    provider_id: str
    author: str
    """contact, app or system."""
    kind: str
    text: str | None
    content: str
    """JSON text."""
    reply_to: str | None
    at: datetime


class Inserted(NamedTuple):
    workspace_id: int
    id: int
    conversation_id: int
    channel_id: int
    provider_id: str
    author: str
    at: datetime
    has_attachments: bool
    has_changes: bool
    """Kept in `message_changes` since before it came."""


_OPEN = """
INSERT INTO conversations (workspace_id, channel_id, contact_id)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS n (workspace_id, channel_id, contact_id)
ORDER BY 1, 2, 3
ON CONFLICT (workspace_id, channel_id, contact_id) DO NOTHING
"""

_FIND = """
SELECT w.workspace_id, w.contact_id, c.id
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS w (workspace_id, channel_id, contact_id)
CROSS JOIN LATERAL (
    SELECT id FROM conversations
    WHERE workspace_id = w.workspace_id AND contact_id = w.contact_id AND channel_id + 0 = w.channel_id OFFSET 0
) c
"""

# In the order of their time, which their ids then follow.
_INSERT = """
INSERT INTO conversation_messages (workspace_id, conversation_id, channel_id, direction, author, provider_id, kind,
                                   text, content, reply_to, state, at)
SELECT workspace_id, conversation_id, channel_id, CASE WHEN author = 'app' THEN 'out' ELSE 'in' END, author,
       provider_id, kind, text, content, reply_to, CASE WHEN author = 'app' THEN 'accepted' END, at
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::jsonb[],
            $9::text[], $10::timestamptz[]) WITH ORDINALITY
    AS n (workspace_id, conversation_id, channel_id, provider_id, author, kind, text, content, reply_to, at, place)
ORDER BY at, place
ON CONFLICT (workspace_id, channel_id, provider_id) DO NOTHING
RETURNING workspace_id, id, conversation_id, channel_id, provider_id, author, at, content ? 'attachments',
          EXISTS (SELECT FROM message_changes c
                  WHERE c.workspace_id = conversation_messages.workspace_id
                    AND c.channel_id = conversation_messages.channel_id
                    AND c.provider_id = conversation_messages.provider_id)
"""

_LOCK = """
SELECT FROM (SELECT * FROM unnest($1::bigint[], $2::bigint[]) AS t (workspace_id, id) ORDER BY workspace_id, id) t
CROSS JOIN LATERAL (
    SELECT FROM conversations WHERE workspace_id = t.workspace_id AND id = t.id OFFSET 0 FOR UPDATE
) c
"""

# Notes are the team's own; what Meta tells stands at the end only where nothing else does.
_TOUCH = f"""
WITH touched AS MATERIALIZED (
    SELECT t.*, c.contact_id
    FROM unnest($1::bigint[], $2::bigint[], $3::integer[], $4::bigint[])
        AS t (workspace_id, id, unread, last_inbound_id)
    CROSS JOIN LATERAL (
        SELECT contact_id FROM conversations WHERE workspace_id = t.workspace_id AND id = t.id OFFSET 0
    ) c
), last AS MATERIALIZED (
    SELECT t.*, p.last_inbound_at, coalesce(spoken.at, told.at) AS at,
           coalesce(spoken.preview, told.preview) AS preview
    FROM touched t
    CROSS JOIN LATERAL (
        SELECT last_inbound_at FROM contacts WHERE workspace_id = t.workspace_id AND id = t.contact_id OFFSET 0
    ) p
    LEFT JOIN LATERAL (
        SELECT m.at, left(coalesce(m.text, m.kind), {PREVIEW_LENGTH}) AS preview FROM conversation_messages m
        WHERE m.workspace_id = t.workspace_id AND m.conversation_id = t.id AND m.author <> 'system' AND m.kind <> 'note'
        ORDER BY m.at DESC, m.id DESC LIMIT 1
    ) spoken ON true
    LEFT JOIN LATERAL (
        SELECT m.at, left(coalesce(m.text, m.kind), {PREVIEW_LENGTH}) AS preview FROM conversation_messages m
        WHERE m.workspace_id = t.workspace_id AND m.conversation_id = t.id AND m.kind <> 'note' AND spoken.at IS NULL
        ORDER BY m.at DESC, m.id DESC LIMIT 1
    ) told ON true
)
UPDATE conversations c SET
    unread = c.unread + l.unread,
    status = CASE WHEN l.unread > 0 THEN 'open' ELSE c.status END,
    snoozed_until = CASE WHEN l.unread > 0 THEN NULL ELSE c.snoozed_until END,
    last_inbound_at = l.last_inbound_at,
    last_inbound_id = greatest(c.last_inbound_id, l.last_inbound_id),
    last_message_at = coalesce(l.at, c.last_message_at),
    preview = coalesce(l.preview, c.preview),
    version = c.version + 1
FROM last l
WHERE c.workspace_id = l.workspace_id AND c.id = l.id
"""


_CLOSE_OLD = """
UPDATE conversations c SET status = 'closed' FROM unnest($1::bigint[], $2::bigint[]) AS n (workspace_id, id)
WHERE c.workspace_id = n.workspace_id AND c.id = n.id
  AND c.created_at = now() AND c.last_message_at < now() - interval '1 day'
"""


async def close_old(connection: Connection, conversations: Collection[tuple[int, int]]) -> None:
    """Those made in this very transaction, of which a day has passed since the last message: nobody waits there."""
    if conversations:
        await connection.execute(_CLOSE_OLD, *columns(conversations))


async def open_conversations(
    connection: Connection, contacts: Collection[tuple[int, int, int]]
) -> dict[tuple[int, int], int]:
    """The conversation of each (workspace, channel, contact), made where there is none, by (workspace, contact)."""
    found = await find_conversations(connection, contacts)
    new = [contact for contact in contacts if (contact[0], contact[2]) not in found]
    if new:
        await connection.execute(_OPEN, *columns(new))
        found |= await find_conversations(connection, new)
    return found


async def find_conversations(
    connection: Connection, contacts: Collection[tuple[int, int, int]]
) -> dict[tuple[int, int], int]:
    """Of those that have one."""
    rows = await connection.fetch(_FIND, *columns(contacts)) if contacts else []
    return {(row[0], row[1]): row[2] for row in rows}


async def insert_messages(connection: Connection, messages: Sequence[NewMessage]) -> list[Inserted]:
    """Those that were not there yet, in the order of their time."""
    if not messages:
        return []
    rows = [Inserted(*row) for row in await connection.fetch(_INSERT, *columns(messages))]
    return sorted(rows, key=lambda row: row.id)


async def touch(
    connection: Connection, conversations: Collection[tuple[int, int]], news: Sequence[Inserted] = ()
) -> None:
    """Brings these (workspace, conversation) up to date with thread and contact.

    `news` are new messages of their contacts that count as unread, in the order of their ids.
    """
    if conversations:
        # By a statement of its own, for it may wait for an agent's reply: the next one sees that.
        await connection.execute(_LOCK, *columns(conversations))
        unread = Counter((row.workspace_id, row.conversation_id) for row in news)
        last = {(row.workspace_id, row.conversation_id): row.id for row in news}
        await connection.execute(_TOUCH, *columns([(*key, unread[key], last.get(key, 0)) for key in conversations]))
