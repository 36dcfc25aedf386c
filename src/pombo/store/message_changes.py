"""Edits, revocations and reactions. The latest of each is kept by itself, whether its message is there or not, and the
message shows what is kept: so they may come in any order, before their message and more than once."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

from pombo.store.database import Connection
from pombo.store.planning import columns


class Change(NamedTuple):
    workspace_id: int
    channel_id: int
    provider_id: str
    """Of the message that is changed."""
    change: str
    by: str
    at: datetime
    number: int
    text: str | None
    content: str
    """JSON text."""


class Changed(NamedTuple):
    workspace_id: int
    id: int
    conversation_id: int


# WhatsApp counts whole seconds. Of a reaction and its removal within one the removal holds: nobody takes back what is
# not there. Which of two others holds means nothing, but it is the same in any order.
_KEEP = """
INSERT INTO message_changes AS c (workspace_id, channel_id, provider_id, change, by, at, number, text, content)
SELECT DISTINCT ON (workspace_id, channel_id, provider_id, change, by) *
FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::integer[],
            $8::text[], $9::jsonb[]) AS n (workspace_id, channel_id, provider_id, change, by, at, number, text, content)
ORDER BY workspace_id, channel_id, provider_id, change, by, at DESC, number DESC,
         (change = 'reaction' AND text IS NULL) DESC, coalesce(text, '') DESC, content DESC
ON CONFLICT (workspace_id, channel_id, provider_id, change, by) DO UPDATE SET
    at = excluded.at, number = excluded.number, text = excluded.text, content = excluded.content, received_at = now()
WHERE (excluded.at, excluded.number, excluded.change = 'reaction' AND excluded.text IS NULL,
       coalesce(excluded.text, ''), excluded.content)
    > (c.at, c.number, c.change = 'reaction' AND c.text IS NULL, coalesce(c.text, ''), c.content)
"""

# Nearly all messages are never changed.
_CHANGED = """
SELECT t.workspace_id, t.channel_id, t.provider_id
FROM unnest($1::bigint[], $2::bigint[], $3::text[]) AS t (workspace_id, channel_id, provider_id)
CROSS JOIN LATERAL (
    SELECT FROM message_changes
    WHERE workspace_id = t.workspace_id AND channel_id = t.channel_id AND provider_id = t.provider_id LIMIT 1
) c
"""

# Who edits or takes back a message is who wrote it. Of what was taken back nothing is kept.
_SHOW = """
WITH message AS MATERIALIZED (
    SELECT m.*, edit.at AS edited, revoke.at AS revoked, edit.text AS new_text, edit.content AS new_content,
           reaction.shown
    FROM unnest($1::bigint[], $2::bigint[], $3::text[]) AS t (workspace_id, channel_id, provider_id)
    CROSS JOIN LATERAL (
        SELECT workspace_id, channel_id, provider_id, id, text, content,
               CASE direction WHEN 'in' THEN 'contact' ELSE 'business' END AS writer
        FROM conversation_messages
        WHERE workspace_id = t.workspace_id AND channel_id = t.channel_id AND provider_id = t.provider_id
        OFFSET 0
    ) m
    LEFT JOIN LATERAL (
        SELECT at, text, content FROM message_changes
        WHERE workspace_id = m.workspace_id AND channel_id = m.channel_id AND provider_id = m.provider_id
          AND change = 'edit' AND by = m.writer
        OFFSET 0
    ) edit ON true
    LEFT JOIN LATERAL (
        SELECT at FROM message_changes
        WHERE workspace_id = m.workspace_id AND channel_id = m.channel_id AND provider_id = m.provider_id
          AND change = 'revoke' AND by = m.writer
        OFFSET 0
    ) revoke ON true
    CROSS JOIN LATERAL (
        SELECT coalesce(jsonb_object_agg(by, text), '{}') AS shown FROM message_changes
        WHERE workspace_id = m.workspace_id AND channel_id = m.channel_id AND provider_id = m.provider_id
          AND change = 'reaction' AND text IS NOT NULL
    ) reaction
), shown AS MATERIALIZED (
    SELECT workspace_id, id, edited, revoked, shown,
           CASE WHEN revoked IS NOT NULL THEN NULL WHEN edited IS NOT NULL THEN new_text ELSE text END AS text,
           CASE WHEN revoked IS NOT NULL THEN '{}' WHEN edited IS NOT NULL THEN content || new_content ELSE content END
               AS content
    FROM message
)
UPDATE conversation_messages m SET
    text = s.text, content = s.content, edited_at = s.edited, revoked_at = s.revoked, reactions = s.shown,
    version = m.version + 1
FROM shown s
WHERE m.workspace_id = s.workspace_id AND m.id = s.id
  AND (m.text, m.content, m.edited_at, m.revoked_at, m.reactions)
      IS DISTINCT FROM (s.text, s.content, s.edited, s.revoked, s.shown)
RETURNING m.workspace_id, m.id, m.conversation_id
"""


async def keep(connection: Connection, changes: Sequence[Change]) -> None:
    if changes:
        await connection.execute(_KEEP, *columns(changes))


async def show(connection: Connection, messages: Collection[tuple[int, int, str]]) -> list[Changed]:
    """What is kept, in those of the messages (workspace, channel, Meta's id) that are there; returns which changed."""
    if not messages:
        return []
    changed = [tuple(row) for row in await connection.fetch(_CHANGED, *columns(messages))]
    return [Changed(*row) for row in await connection.fetch(_SHOW, *columns(changed))] if changed else []
