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


_KEEP = """
INSERT INTO message_changes AS c (workspace_id, channel_id, provider_id, change, by, at, number, text, content)
SELECT DISTINCT ON (workspace_id, channel_id, provider_id, change, by) *
FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::integer[],
            $8::text[], $9::jsonb[]) AS n (workspace_id, channel_id, provider_id, change, by, at, number, text, content)
ORDER BY workspace_id, channel_id, provider_id, change, by, at DESC, number DESC, coalesce(text, '') DESC, content DESC
ON CONFLICT (workspace_id, channel_id, provider_id, change, by) DO UPDATE SET
    at = excluded.at, number = excluded.number, text = excluded.text, content = excluded.content, received_at = now()
WHERE (excluded.at, excluded.number, coalesce(excluded.text, ''), excluded.content)
    > (c.at, c.number, coalesce(c.text, ''), c.content)
"""

# Who edits or takes back a message is who wrote it. Of what was taken back nothing is kept.
_SHOW = """
WITH message AS (
    SELECT m.workspace_id, m.id, edit.at AS edited_at, revoke.at AS revoked_at, edit.text AS new_text,
           edit.content AS new_content, coalesce(reaction.shown, '{}') AS reactions
    FROM unnest($1::bigint[], $2::bigint[], $3::text[]) AS t (workspace_id, channel_id, provider_id)
    JOIN conversation_messages m USING (workspace_id, channel_id, provider_id)
    LEFT JOIN message_changes edit
        ON edit.workspace_id = m.workspace_id AND edit.channel_id = m.channel_id AND edit.provider_id = m.provider_id
        AND edit.change = 'edit' AND edit.by = CASE m.direction WHEN 'in' THEN 'contact' ELSE 'business' END
    LEFT JOIN message_changes revoke
        ON revoke.workspace_id = m.workspace_id AND revoke.channel_id = m.channel_id
        AND revoke.provider_id = m.provider_id
        AND revoke.change = 'revoke' AND revoke.by = CASE m.direction WHEN 'in' THEN 'contact' ELSE 'business' END
    LEFT JOIN LATERAL (
        SELECT jsonb_object_agg(c.by, c.text) AS shown FROM message_changes c
        WHERE c.workspace_id = m.workspace_id AND c.channel_id = m.channel_id AND c.provider_id = m.provider_id
          AND c.change = 'reaction' AND c.text IS NOT NULL
    ) reaction ON true
), shown AS (
    SELECT m.workspace_id, m.id, n.edited_at, n.revoked_at, n.reactions,
           CASE WHEN n.revoked_at IS NOT NULL THEN NULL WHEN n.edited_at IS NOT NULL THEN n.new_text ELSE m.text END
               AS text,
           CASE WHEN n.revoked_at IS NOT NULL THEN '{}' WHEN n.edited_at IS NOT NULL THEN m.content || n.new_content
                ELSE m.content END AS content
    FROM message n JOIN conversation_messages m USING (workspace_id, id)
)
UPDATE conversation_messages m SET
    text = s.text, content = s.content, edited_at = s.edited_at, revoked_at = s.revoked_at, reactions = s.reactions,
    version = m.version + 1
FROM shown s
WHERE m.workspace_id = s.workspace_id AND m.id = s.id
  AND (m.text, m.content, m.edited_at, m.revoked_at, m.reactions)
      IS DISTINCT FROM (s.text, s.content, s.edited_at, s.revoked_at, s.reactions)
RETURNING m.workspace_id, m.id, m.conversation_id
"""


async def keep(connection: Connection, changes: Sequence[Change]) -> None:
    if changes:
        await connection.execute(_KEEP, *columns(changes))


async def show(connection: Connection, messages: Collection[tuple[int, int, str]]) -> list[Changed]:
    """What is kept, in those of the messages (workspace, channel, Meta's id) that are there; returns which changed."""
    if not messages:
        return []
    return [Changed(*row) for row in await connection.fetch(_SHOW, *columns(messages))]
