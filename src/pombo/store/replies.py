"""Agents' replies: messages of a conversation that are sent, and what becomes of them, and of copied campaigns.

A reply is a conversation's message and a direct message in the outbox, written in one transaction. From then on the
outbox and the delivery log know its state, and the thread shows it:

    settlement, receipts, doubts ──same transaction──▶ reply_changes ──bell──▶ follow ──▶ conversation_messages, events

Of a run's messages only those that a conversation shows write to `reply_changes` (`campaign_replies.tell`), so bulk
pays a look into one index for a receipt. `follow` reads the state as it is by then, with the message locked: however
often and in whatever order it is called, the last call shows the truth.
"""

import json
from typing import Literal, NamedTuple

from pombo.domain.ids import AgentId, ChannelId, ConversationId, MessageId, WorkspaceId
from pombo.domain.replies import Reply
from pombo.store import inbox_events, message_changes
from pombo.store.conversations import Conversation
from pombo.store.database import Connection
from pombo.store.planning import plan_by_index

BELL = "pombo_replies"
"""Rung by the database when there is something to follow."""


class OwnMessage(NamedTuple):
    """A message to a contact, locked until the transaction ends."""

    id: int
    conversation_id: ConversationId
    author: str
    kind: str
    text: str | None
    content: str
    """JSON text."""
    state: str | None
    reply_to: str | None
    """Meta's id of the message that it quotes."""


class Uploaded(NamedTuple):
    """A reply that waited for its file: what Meta calls the file, or why it did not get there."""

    workspace_id: WorkspaceId
    id: int
    file: str | None
    error_code: int | None
    error_title: str | None


class Answer(NamedTuple):
    id: int
    agent_id: AgentId | None
    """None of one from outside of Pombo, or by a program's key."""


_ADD = """
INSERT INTO conversation_messages (workspace_id, conversation_id, channel_id, direction, author, agent_id, message_id,
                                   kind, text, content, reply_to, state, at)
VALUES ($1, $2, $3, 'out', $10, $4, $5, $6, $7, $8, $9, 'queued', clock_timestamp())
RETURNING id
"""

_NOTE_REPLY = """
UPDATE conversations c SET status = 'open', snoozed_until = NULL, assignee_id = $4, unread = $5,
    preview = left(coalesce(m.text, m.kind), 200), last_message_at = greatest(c.last_message_at, m.at),
    version = c.version + 1
FROM conversation_messages m
WHERE c.workspace_id = $1 AND c.id = $2 AND m.workspace_id = $1 AND m.id = $3
"""

# The newest suffice: nobody has overlooked a hundred messages. Replies of one conversation have rising ids, for each is
# written with the conversation locked. An answer from elsewhere (Meta's inbox, the WhatsApp app) has no message of
# ours; one that a sync brings of the past is older than what was seen.
_ANSWERED = """
SELECT id, agent_id FROM (
    SELECT id, author, kind, agent_id, message_id, at FROM conversation_messages
    WHERE workspace_id = $1 AND conversation_id = $2 ORDER BY at DESC, id DESC LIMIT 100
) newest
WHERE id > $3 AND (
    author = 'agent' AND kind <> 'note' AND agent_id IS DISTINCT FROM $4
    OR author = 'app' AND message_id IS NULL AND at >= coalesce(
        (SELECT at FROM conversation_messages WHERE workspace_id = $1 AND id = $3), '-infinity'))
ORDER BY id DESC LIMIT 1
"""

_LOCK = """
SELECT id, conversation_id, author, kind, text, content, state, reply_to FROM conversation_messages
WHERE workspace_id = $1 AND id = $2 FOR UPDATE
"""

_QUEUE_AGAIN = """
UPDATE conversation_messages SET message_id = $3, state = 'queued', provider_id = NULL, error_code = NULL,
    error_title = NULL, version = version + 1
WHERE workspace_id = $1 AND id = $2
"""

_TAKE_UPLOADED = """
DELETE FROM waiting_replies w USING (
    SELECT w.workspace_id, w.id, u.provider_id, j.error_code, j.error_title
    FROM waiting_replies w
    LEFT JOIN media_uploads u ON u.workspace_id = w.workspace_id AND u.media_id = w.media_id
        AND u.channel_id = w.channel_id AND u.expires_at > clock_timestamp()
    LEFT JOIN LATERAL (
        SELECT error_code, coalesce(error_title, 'The file could not be uploaded') AS error_title FROM channel_jobs j
        WHERE j.workspace_id = w.workspace_id AND j.dedupe_key = concat('upload ', w.media_id, ' ', w.channel_id)
          AND j.state = 'failed'
        ORDER BY j.failed_at DESC LIMIT 1
    ) j ON NOT EXISTS (
        SELECT FROM channel_jobs j
        WHERE j.workspace_id = w.workspace_id AND j.dedupe_key = concat('upload ', w.media_id, ' ', w.channel_id)
          AND j.state <> 'failed')
    WHERE u.provider_id IS NOT NULL OR j.error_title IS NOT NULL
    ORDER BY w.workspace_id, w.id LIMIT $1 FOR UPDATE OF w SKIP LOCKED
) t
WHERE w.workspace_id = t.workspace_id AND w.id = t.id
RETURNING w.workspace_id, w.id, t.provider_id, t.error_code, t.error_title
"""

_FAIL = """
UPDATE conversation_messages SET state = 'failed', error_code = $3, error_title = $4, version = version + 1
WHERE workspace_id = $1 AND id = $2
"""

# Others skip what one follower has taken; what is inserted meanwhile is taken next time.
_TAKE = """
DELETE FROM reply_changes c USING (
    SELECT workspace_id, id FROM reply_changes ORDER BY workspace_id, id LIMIT $1 FOR UPDATE SKIP LOCKED
) taken
WHERE c.workspace_id = taken.workspace_id AND c.id = taken.id
RETURNING c.workspace_id, c.message_id
"""

# Locked before the state is read, in another statement: so it is not older than the lock.
_LOCK_REPLIES = """
SELECT m.workspace_id, m.id FROM (
    SELECT DISTINCT * FROM unnest($1::bigint[], $2::bigint[]) AS c (workspace_id, message_id)
    ORDER BY workspace_id, message_id
) c
CROSS JOIN LATERAL (
    SELECT workspace_id, id FROM conversation_messages m
    WHERE m.workspace_id = c.workspace_id AND m.message_id = c.message_id
    OFFSET 0 FOR UPDATE
) m
"""

# Of a message that is in neither table any more (the log's retention is over) nothing new is known. A message's
# time in its thread is that of its writing or of its attempt: earlier partitions are not looked at.
_FOLLOW = """
UPDATE conversation_messages m SET state = n.state, provider_id = coalesce(n.provider_id, m.provider_id),
    error_code = n.error_code, error_title = n.error_title, version = m.version + 1
FROM (
    SELECT m.workspace_id, m.id, d.error_code, d.error_title,
           CASE WHEN NOT EXISTS (
               SELECT FROM conversation_messages o
               WHERE o.workspace_id = m.workspace_id AND o.channel_id = m.channel_id AND o.provider_id = d.provider_id)
           THEN d.provider_id END AS provider_id, d.state
    FROM unnest($1::bigint[], $2::bigint[]) AS r (workspace_id, id)
    JOIN conversation_messages m ON m.workspace_id = r.workspace_id AND m.id = r.id
    CROSS JOIN LATERAL (
        SELECT (ARRAY['failed', 'failed', 'accepted', 'failed', 'delivered', 'read'])[d.state + 1] AS state,
               d.provider_id, d.error_code,
               CASE WHEN d.state = 0 THEN 'Cancelled' ELSE d.error_title END AS error_title
        FROM deliveries d
        WHERE d.workspace_id = m.workspace_id AND d.id = m.message_id AND d.day >= (m.at AT TIME ZONE 'UTC')::date - 1
        UNION ALL
        SELECT CASE WHEN o.state = 'u' THEN 'uncertain' ELSE 'queued' END, NULL, NULL, NULL
        FROM outbox o WHERE o.workspace_id = m.workspace_id AND o.id = m.message_id
        LIMIT 1
    ) d
) n
WHERE m.workspace_id = n.workspace_id AND m.id = n.id
  AND (m.state, m.provider_id, m.error_code, m.error_title)
      IS DISTINCT FROM (n.state, coalesce(n.provider_id, m.provider_id), n.error_code, n.error_title)
RETURNING m.workspace_id, m.id, m.channel_id, m.provider_id
"""


async def wait_for_upload(
    connection: Connection, workspace_id: WorkspaceId, id: int, channel_id: ChannelId, media_id: int
) -> None:
    """The reply is sent when its file is at Meta (`take_uploaded`)."""
    await connection.execute(
        "INSERT INTO waiting_replies (workspace_id, id, channel_id, media_id) VALUES ($1, $2, $3, $4)",
        workspace_id,
        id,
        channel_id,
        media_id,
    )


async def take_uploaded(connection: Connection, limit: int) -> list[Uploaded]:
    """Replies whose file is at Meta, or will not get there; of all workspaces."""
    return [Uploaded(*row) for row in await connection.fetch(_TAKE_UPLOADED, limit)]


async def fail(connection: Connection, workspace_id: WorkspaceId, id: int, code: int | None, title: str) -> None:
    """It cannot be sent, and has no message in the outbox."""
    await connection.execute(_FAIL, workspace_id, id, code, title)


async def add_reply(
    connection: Connection,
    workspace_id: WorkspaceId,
    conversation: Conversation,
    said: Reply,
    *,
    agent_id: AgentId | None,
    message_id: MessageId | None,
    author: Literal["agent", "app"] = "agent",
) -> int:
    """Returns the conversation message's id; the conversation must be locked."""
    added: int = await connection.fetchval(
        _ADD,
        workspace_id,
        conversation.id,
        conversation.channel_id,
        agent_id,
        message_id,
        said.kind,
        said.shown_text,
        json.dumps(said.kept()),
        said.quoted,
        author,
    )
    return added


async def note_reply(
    connection: Connection,
    workspace_id: WorkspaceId,
    conversation_id: ConversationId,
    reply_id: int,
    assignee_id: AgentId | None,
    unread: int,
) -> None:
    """Answered: open, and at the top of the list."""
    await connection.execute(_NOTE_REPLY, workspace_id, conversation_id, reply_id, assignee_id, unread)


async def answered_since(
    connection: Connection,
    workspace_id: WorkspaceId,
    conversation_id: ConversationId,
    message_id: int,
    agent_id: AgentId | None,
) -> Answer | None:
    """The newest reply after that message by anybody but the agent: a colleague, or from outside of Pombo."""
    row = await connection.fetchrow(_ANSWERED, workspace_id, conversation_id, message_id, agent_id)
    return None if row is None else Answer(*row)


async def conversation_of(connection: Connection, workspace_id: WorkspaceId, message_id: int) -> ConversationId | None:
    """A merge of contacts may move the message to another as long as this one is not locked."""
    found: ConversationId | None = await connection.fetchval(
        "SELECT conversation_id FROM conversation_messages WHERE workspace_id = $1 AND id = $2",
        workspace_id,
        message_id,
    )
    return found


async def lock_message(connection: Connection, workspace_id: WorkspaceId, message_id: int) -> OwnMessage | None:
    row = await connection.fetchrow(_LOCK, workspace_id, message_id)
    return None if row is None else OwnMessage(*row)


async def queue_again(connection: Connection, workspace_id: WorkspaceId, id: int, message_id: MessageId | None) -> None:
    """Sent, or sent once more, as another message of the outbox; None while its file is on its way."""
    await connection.execute(_QUEUE_AGAIN, workspace_id, id, message_id)


async def follow(connection: Connection, limit: int) -> int:
    """Shows what became of messages; returns how many changes it took. In one transaction, which a crash may lose: the
    changes are there again then."""
    await plan_by_index(connection)
    taken = [tuple(row) for row in await connection.fetch(_TAKE, limit)]
    if not taken:
        return 0
    locked = [
        tuple(row)
        for row in await connection.fetch(_LOCK_REPLIES, [each[0] for each in taken], [each[1] for each in taken])
    ]
    if locked:
        changed = await connection.fetch(_FOLLOW, [each[0] for each in locked], [each[1] for each in locked])
        # Somebody may have reacted to it before its id was known.
        await message_changes.show(connection, [(row[0], row[2], row[3]) for row in changed if row[3] is not None])
        await inbox_events.append(connection, updated=[(row[0], row[1]) for row in changed])
    return len(taken)
