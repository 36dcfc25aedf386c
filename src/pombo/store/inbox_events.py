"""Conversations and their messages as JSON, and the events that tell open browsers of them.

The same SQL expression makes what HTTP answers and what an event carries: the whole row, never a difference. So a
browser keeps rows by id, replaces one when the other's `version` is higher, and holds what it would get by asking anew.
Whoever changes a row raises its `version` in the same statement (a contact's name or address is shown by its
conversations: raise theirs), then calls `append` in the same transaction: an event shows rows as they are by then.
"""

from collections.abc import Sequence

from pombo.domain.topics import CONVERSATION_UPDATED, CONVERSATIONS
from pombo.store import events
from pombo.store.database import Connection
from pombo.store.events import Event

CONVERSATION_JSON = """json_build_object(
    'id', c.id, 'version', c.version, 'channelId', c.channel_id,
    'contact', json_build_object('id', p.id, 'externalId', p.external_id, 'name', p.name, 'profile', p.profile,
                                  'optedOutAt', p.opted_out_at),
    'status', c.status, 'snoozedUntil', c.snoozed_until, 'assigneeId', c.assignee_id, 'labelIds', c.label_ids,
    'unread', c.unread, 'lastMessageAt', c.last_message_at, 'lastInboundAt', c.last_inbound_at,
    'lastInboundId', c.last_inbound_id, 'preview', c.preview, 'createdAt', c.created_at,
    'reads', coalesce((SELECT json_object_agg(r.agent_id, r.until) FROM conversation_reads r
                       WHERE r.workspace_id = c.workspace_id AND r.conversation_id = c.id), '{}'))"""
"""Of `conversations c` joined with `contacts p`."""

MESSAGE_JSON = """json_build_object(
    'id', m.id, 'version', m.version, 'conversationId', m.conversation_id, 'channelId', m.channel_id,
    'direction', m.direction, 'author', m.author, 'agentId', m.agent_id, 'runId', m.run_id,
    'messageId', m.message_id, 'providerId', m.provider_id, 'kind', m.kind, 'text', m.text, 'content', m.content,
    'replyTo', m.reply_to, 'reactions', m.reactions, 'editedAt', m.edited_at, 'revokedAt', m.revoked_at,
    'state', m.state,
    'error', CASE WHEN m.error_code IS NOT NULL OR m.error_title IS NOT NULL
                  THEN json_build_object('code', m.error_code, 'title', m.error_title) END,
    'media', CASE WHEN m.content ? 'attachments' THEN coalesce((
        SELECT json_agg(json_build_object('id', f.id, 'place', f.place, 'state', f.state, 'size', f.size,
                                            'contentType', f.content_type, 'fileName', f.file_name) ORDER BY f.place)
        FROM media f WHERE f.workspace_id = m.workspace_id AND f.conversation_message_id = m.id), '[]')
        ELSE '[]' END,
    'at', m.at)"""
"""Of `conversation_messages m`."""

_APPEND = f"""
INSERT INTO events (workspace_id, topic, name, data, conversation)
SELECT * FROM (
    SELECT m.workspace_id, 'messages:' || m.conversation_id, changed.name, {MESSAGE_JSON},
           CASE WHEN changed.with_conversation THEN (
               SELECT {CONVERSATION_JSON}
               FROM conversations c JOIN contacts p ON p.workspace_id = c.workspace_id AND p.id = c.contact_id
               WHERE c.workspace_id = m.workspace_id AND c.id = m.conversation_id) END
    FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::boolean[]) WITH ORDINALITY
        AS changed (workspace_id, id, name, with_conversation, place)
    JOIN conversation_messages m USING (workspace_id, id)
    ORDER BY changed.place
) messages
UNION ALL
SELECT c.workspace_id, 'messages:' || c.id, '{CONVERSATION_UPDATED}', {CONVERSATION_JSON}, NULL
FROM unnest($5::bigint[], $6::bigint[]) AS changed (workspace_id, id)
JOIN conversations c USING (workspace_id, id)
JOIN contacts p ON p.workspace_id = c.workspace_id AND p.id = c.contact_id
"""

Ids = Sequence[tuple[int, int]]
"""(workspace, id) of rows that changed, each once."""


async def append(
    connection: Connection,
    *,
    created: Sequence[tuple[int, int, int]] = (),
    updated: Ids = (),
    conversations: Ids = (),
) -> None:
    """Events of new messages (workspace, id, conversation), of updated ones, and of conversations that are either.

    A conversation that has changed by new messages is told of with the last of them.
    """
    last = {(workspace, conversation): id for workspace, id, conversation in created}
    changed = set(conversations)
    messages = [
        (workspace, id, "message.created", (workspace, conversation) in changed and last[workspace, conversation] == id)
        for workspace, id, conversation in created
    ]
    messages += [(*each, "message.updated", False) for each in updated]
    alone = [each for each in conversations if each not in last]
    if messages or alone:
        await connection.execute(_APPEND, *_columns(messages, 4), *_columns(alone, 2))


def _columns(rows: Sequence[tuple[object, ...]], width: int) -> list[list[object]]:
    return [[row[n] for row in rows] for n in range(width)]


async def append_row(connection: Connection, workspace_id: int, name: str, row: str) -> None:
    """Of labels and canned replies, which everybody with an open inbox shows. `row` is JSON text."""
    await events.append(connection, [Event(workspace_id, CONVERSATIONS, name, row)])
