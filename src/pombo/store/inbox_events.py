"""Conversations and their messages as JSON, and the events that tell open browsers of them.

The same SQL expression makes what HTTP answers and what an event carries: the whole row, never a difference. So a
browser keeps rows by id, replaces one when the other's `version` is higher, and holds what it would get by asking anew.
Whoever changes a row raises its `version` in the same statement (a contact's name or address is shown by its
conversations: raise theirs), then calls one of these in the same transaction: an event shows rows as they are by then.
"""

from collections.abc import Sequence

from pombo.domain.topics import CONVERSATIONS
from pombo.store import events
from pombo.store.database import Connection
from pombo.store.events import Event

CONVERSATION_JSON = """jsonb_build_object(
    'id', c.id, 'version', c.version, 'channelId', c.channel_id,
    'contact', jsonb_build_object('id', p.id, 'externalId', p.external_id, 'name', p.name, 'profile', p.profile,
                                  'optedOutAt', p.opted_out_at),
    'status', c.status, 'snoozedUntil', c.snoozed_until, 'assigneeId', c.assignee_id, 'labelIds', c.label_ids,
    'unread', c.unread, 'lastMessageAt', c.last_message_at, 'lastInboundAt', c.last_inbound_at,
    'lastInboundId', c.last_inbound_id, 'preview', c.preview, 'createdAt', c.created_at,
    'reads', coalesce((SELECT jsonb_object_agg(r.agent_id, r.until) FROM conversation_reads r
                       WHERE r.workspace_id = c.workspace_id AND r.conversation_id = c.id), '{}'))"""
"""Of `conversations c` joined with `contacts p`."""

MESSAGE_JSON = """jsonb_build_object(
    'id', m.id, 'version', m.version, 'conversationId', m.conversation_id, 'channelId', m.channel_id,
    'direction', m.direction, 'author', m.author, 'agentId', m.agent_id, 'runId', m.run_id,
    'messageId', m.message_id, 'providerId', m.provider_id, 'kind', m.kind, 'text', m.text, 'content', m.content,
    'replyTo', m.reply_to, 'reactions', m.reactions, 'editedAt', m.edited_at, 'revokedAt', m.revoked_at,
    'state', m.state,
    'error', CASE WHEN m.error_code IS NOT NULL OR m.error_title IS NOT NULL
                  THEN jsonb_build_object('code', m.error_code, 'title', m.error_title) END,
    'media', CASE WHEN m.content ? 'attachments' THEN coalesce((
        SELECT jsonb_agg(jsonb_build_object('id', f.id, 'place', f.place, 'state', f.state, 'size', f.size,
                                            'contentType', f.content_type, 'fileName', f.file_name) ORDER BY f.place)
        FROM media f WHERE f.workspace_id = m.workspace_id AND f.conversation_message_id = m.id), '[]')
        ELSE '[]' END,
    'at', m.at)"""
"""Of `conversation_messages m`."""

_CONVERSATIONS = f"""
INSERT INTO events (workspace_id, topic, name, data)
SELECT c.workspace_id, 'messages:' || c.id, 'conversation.updated', {CONVERSATION_JSON}
FROM unnest($1::bigint[], $2::bigint[]) AS changed (workspace_id, id)
JOIN conversations c USING (workspace_id, id)
JOIN contacts p ON p.workspace_id = c.workspace_id AND p.id = c.contact_id
"""

_MESSAGES = f"""
INSERT INTO events (workspace_id, topic, name, data)
SELECT m.workspace_id, 'messages:' || m.conversation_id, $3, {MESSAGE_JSON}
FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS changed (workspace_id, id, place)
JOIN conversation_messages m USING (workspace_id, id)
ORDER BY changed.place
"""

Ids = Sequence[tuple[int, int]]
"""(workspace, id) of rows that changed, each once."""


async def conversations_updated(connection: Connection, ids: Ids) -> None:
    """New ones too."""
    await _append(connection, _CONVERSATIONS, ids)


async def messages_created(connection: Connection, ids: Ids) -> None:
    await _append(connection, _MESSAGES, ids, "message.created")


async def messages_updated(connection: Connection, ids: Ids) -> None:
    await _append(connection, _MESSAGES, ids, "message.updated")


async def _append(connection: Connection, statement: str, ids: Ids, *more: str) -> None:
    if ids:
        await connection.execute(statement, [workspace for workspace, _ in ids], [each for _, each in ids], *more)


async def append_row(connection: Connection, workspace_id: int, name: str, row: str) -> None:
    """Of labels and canned replies, which everybody with an open inbox shows. `row` is JSON text."""
    await events.append(connection, [Event(workspace_id, CONVERSATIONS, name, row)])
