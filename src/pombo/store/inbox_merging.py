"""Two contacts of a channel become one, with one conversation: Meta has said that they are the same person."""

import json
from typing import NamedTuple

from pombo.domain.topics import messages_of
from pombo.store import events, inbox_events
from pombo.store.database import Connection
from pombo.store.events import Event


class Merged(NamedTuple):
    workspace_id: int
    contact_id: int
    """Who is left."""


# What the one that goes knows better than the one that stays.
_CONTACT = """
UPDATE contacts c SET
    attributes = o.attributes || c.attributes,
    last_inbound_at = greatest(c.last_inbound_at, o.last_inbound_at),
    created_at = least(c.created_at, o.created_at),
    name = CASE WHEN c.name IS NULL OR o.later AND c.name = c.profile ->> 'name' THEN coalesce(o.name, c.name)
           ELSE c.name END,
    profile = CASE WHEN o.later THEN (c.profile - 'username') || o.profile ELSE o.profile || c.profile END,
    opted_out_at = CASE WHEN o.decides THEN o.opted_out_at ELSE c.opted_out_at END,
    preference_at = greatest(c.preference_at, o.preference_at)
FROM (
    SELECT o.*, (coalesce((o.profile ->> 'namedAt')::timestamptz, '-infinity'), coalesce(o.profile ->> 'name', ''))
              > (coalesce((w.profile ->> 'namedAt')::timestamptz, '-infinity'), coalesce(w.profile ->> 'name', ''))
              AS later,
           (coalesce(o.preference_at, '-infinity'), o.opted_out_at IS NOT NULL)
              > (coalesce(w.preference_at, '-infinity'), w.opted_out_at IS NOT NULL) AS decides
    FROM contacts o, contacts w WHERE o.workspace_id = $1 AND o.id = $3 AND w.workspace_id = $1 AND w.id = $2
) o
WHERE c.workspace_id = $1 AND c.id = $2
"""

# Their addresses stay known when they were never seen, only imported.
_ADDRESSES = """
INSERT INTO identities (workspace_id, channel_id, identity, contact_id)
SELECT workspace_id, channel_id, external_id, $2 FROM contacts WHERE workspace_id = $1 AND id IN ($2, $3)
ON CONFLICT (workspace_id, channel_id, identity) DO NOTHING
"""

_CONVERSATIONS = """
SELECT contact_id, id FROM conversations WHERE workspace_id = $1 AND contact_id IN ($2, $3) ORDER BY id FOR UPDATE
"""

_CONVERSATION = """
UPDATE conversations c SET
    unread = c.unread + o.unread,
    status = CASE WHEN c.status = 'open' OR o.status = 'open' THEN 'open' ELSE c.status END,
    snoozed_until = CASE WHEN c.status = 'open' OR o.status = 'open' THEN NULL ELSE c.snoozed_until END,
    assignee_id = coalesce(c.assignee_id, o.assignee_id),
    last_inbound_id = greatest(c.last_inbound_id, o.last_inbound_id),
    label_ids = ARRAY(SELECT DISTINCT unnest(c.label_ids || o.label_ids) ORDER BY 1),
    created_at = least(c.created_at, o.created_at)
FROM conversations o
WHERE c.workspace_id = $1 AND c.id = $2 AND o.workspace_id = $1 AND o.id = $3
"""

# Of either what was unread stays so; where nothing was, all is read. While both are still as they were.
_READS = """
INSERT INTO conversation_reads (workspace_id, conversation_id, agent_id, until)
SELECT $1, $2, r.agent_id, least(CASE WHEN c.last_inbound_id > r.kept THEN r.kept END,
                                 CASE WHEN o.last_inbound_id > r.other THEN r.other END,
                                 greatest(c.last_inbound_id, o.last_inbound_id))
FROM (
    SELECT agent_id, coalesce(k.until, a.seen_until, 0) AS kept, coalesce(g.until, a.seen_until, 0) AS other
    FROM (SELECT agent_id, until FROM conversation_reads WHERE workspace_id = $1 AND conversation_id = $2) k
    FULL JOIN (SELECT agent_id, until FROM conversation_reads WHERE workspace_id = $1 AND conversation_id = $3) g
        USING (agent_id)
    LEFT JOIN agents a ON a.workspace_id = $1 AND a.id = agent_id
) r
JOIN conversations c ON c.workspace_id = $1 AND c.id = $2
JOIN conversations o ON o.workspace_id = $1 AND o.id = $3
ON CONFLICT (workspace_id, conversation_id, agent_id) DO UPDATE SET until = excluded.until
"""


async def merge(connection: Connection, workspace_id: int, contact_id: int, other_id: int) -> Merged:
    """The other goes. The caller brings the conversation that is left up to date, and tells browsers of it."""
    both = workspace_id, contact_id, other_id
    await connection.execute(_ADDRESSES, *both)
    await connection.execute(_CONTACT, *both)
    for table in ("identities", "signals"):
        await connection.execute(
            f"UPDATE {table} SET contact_id = $2 WHERE workspace_id = $1 AND contact_id = $3", *both
        )
    conversations = dict(await connection.fetch(_CONVERSATIONS, *both))
    if other_id in conversations:
        if contact_id in conversations:
            await _merge_conversations(connection, workspace_id, conversations[contact_id], conversations[other_id])
        else:
            await connection.execute(
                "UPDATE conversations SET contact_id = $2 WHERE workspace_id = $1 AND contact_id = $3", *both
            )
    await connection.execute("DELETE FROM contacts WHERE workspace_id = $1 AND id = $2", workspace_id, other_id)
    return Merged(workspace_id, contact_id)


async def _merge_conversations(connection: Connection, workspace_id: int, kept_id: int, other_id: int) -> None:
    both = workspace_id, kept_id, other_id
    moved = await connection.fetch(
        """UPDATE conversation_messages SET conversation_id = $2, version = version + 1
           WHERE workspace_id = $1 AND conversation_id = $3 RETURNING workspace_id, id""",
        *both,
    )
    await connection.execute(_READS, *both)
    await connection.execute(_CONVERSATION, *both)
    await connection.execute("DELETE FROM conversations WHERE workspace_id = $1 AND id = $2", workspace_id, other_id)
    await inbox_events.append(connection, updated=[(row[0], row[1]) for row in moved])
    gone = json.dumps({"id": other_id, "mergedInto": kept_id})
    await events.append(connection, [Event(workspace_id, messages_of(other_id), "conversation.merged", gone)])
