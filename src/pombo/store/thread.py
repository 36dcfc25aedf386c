"""The messages of a conversation: what the contact wrote, replies, notes, and the campaign messages among them."""

from datetime import datetime
from typing import NamedTuple

from pombo.domain.ids import AgentId, ChannelId, ConversationId, WorkspaceId
from pombo.store.database import Connection
from pombo.store.inbox_events import MESSAGE_JSON


class Position(NamedTuple):
    at: datetime
    id: int


class ThreadPage(NamedTuple):
    messages: list[str]
    """JSON text of each, newest first."""
    newest: Position | None
    oldest: Position | None


class Quotable(NamedTuple):
    provider_id: str | None
    """None where Meta knows no such message: of a note, a queued reply, an event that has an id of our making only."""


_COLUMNS = f"SELECT m.at, m.id, {MESSAGE_JSON} AS data FROM conversation_messages m"
_OF = "m.workspace_id = $1 AND m.conversation_id = $2"
_NEWEST = f"{_COLUMNS} WHERE {_OF} ORDER BY m.at DESC, m.id DESC LIMIT $3"
_OLDER = f"{_COLUMNS} WHERE {_OF} AND (m.at, m.id) < ($4, $5) ORDER BY m.at DESC, m.id DESC LIMIT $3"
_NEWER = f"{_COLUMNS} WHERE {_OF} AND (m.at, m.id) > ($4, $5) ORDER BY m.at, m.id LIMIT $3"

_ADD_NOTE = """
INSERT INTO conversation_messages (workspace_id, conversation_id, channel_id, direction, author, agent_id, kind, text,
                                   at)
VALUES ($1, $2, $3, 'out', 'agent', $4, 'note', $5, clock_timestamp())
RETURNING id
"""


async def exists(connection: Connection, workspace_id: WorkspaceId, conversation_id: int) -> bool:
    found: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM conversations WHERE workspace_id = $1 AND id = $2)", workspace_id, conversation_id
    )
    return found


async def read_thread(
    connection: Connection,
    workspace_id: WorkspaceId,
    conversation_id: int,
    limit: int,
    *,
    older_than: Position | None = None,
    newer_than: Position | None = None,
) -> ThreadPage:
    """The newest, or those next to a position."""
    if newer_than is not None:
        rows = await connection.fetch(_NEWER, workspace_id, conversation_id, limit, *newer_than)
        rows.reverse()
    elif older_than is not None:
        rows = await connection.fetch(_OLDER, workspace_id, conversation_id, limit, *older_than)
    else:
        rows = await connection.fetch(_NEWEST, workspace_id, conversation_id, limit)
    positions = [Position(row["at"], row["id"]) for row in rows]
    return ThreadPage([row["data"] for row in rows], positions[0] if rows else None, positions[-1] if rows else None)


async def show_message(connection: Connection, workspace_id: WorkspaceId, message_id: int) -> str:
    """JSON text. The message must exist."""
    shown: str = await connection.fetchval(
        f"SELECT {MESSAGE_JSON} FROM conversation_messages m WHERE m.workspace_id = $1 AND m.id = $2",
        workspace_id,
        message_id,
    )
    return shown


async def quotable(
    connection: Connection, workspace_id: WorkspaceId, conversation_id: ConversationId, message_id: int
) -> Quotable | None:
    """None when the conversation has no such message."""
    row = await connection.fetchrow(
        """SELECT CASE WHEN author <> 'system' AND NOT starts_with(provider_id, kind || ':') THEN provider_id END
           FROM conversation_messages WHERE workspace_id = $1 AND conversation_id = $2 AND id = $3""",
        workspace_id,
        conversation_id,
        message_id,
    )
    return None if row is None else Quotable(row[0])


async def add_note(
    connection: Connection,
    workspace_id: WorkspaceId,
    conversation_id: ConversationId,
    channel_id: ChannelId,
    agent_id: AgentId | None,
    text: str,
) -> int:
    added: int = await connection.fetchval(_ADD_NOTE, workspace_id, conversation_id, channel_id, agent_id, text)
    return added
