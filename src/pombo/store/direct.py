"""Direct messages: one to one recipient, of no run; an agent's reply, a confirmation, a step of a flow.

They are queued in the channel's streams with a `run_id` of 0 or less (`pombo.domain.classes.direct_stream`), whose
figures are kept as a run's are.
"""

from pombo.domain.classes import MessageClass, direct_stream
from pombo.domain.content import Content
from pombo.domain.ids import ChannelId, MessageId, WorkspaceId
from pombo.store.audience import DUE_BELL
from pombo.store.campaigns import encode_content
from pombo.store.database import Connection

# The stream's row is locked in any case, so that it is not closed at this moment. The bell rings with the commit.
_ENQUEUE = """
WITH opened AS (
    INSERT INTO streams AS s (workspace_id, channel_id, run_id, class) VALUES ($1, $2, $3, $4)
    ON CONFLICT (workspace_id, channel_id, run_id) DO UPDATE SET touched_at = now()
    WHERE s.touched_at < now() - interval '1 minute'
), counted AS (
    INSERT INTO run_deltas (workspace_id, run_id, total) VALUES ($1, $3, 1)
), queued AS (
    INSERT INTO outbox (workspace_id, id, channel_id, run_id, due_at, recipient, variables, content)
    VALUES ($1, nextval('message_ids'), $2, $3, clock_timestamp(), $5, $6, $7)
    RETURNING id
)
SELECT id, pg_notify($8, $9) FROM queued
"""

# Ten times what `_ENQUEUE` may leave untouched.
_CLOSE_SILENT = """
DELETE FROM streams s WHERE s.run_id <= 0 AND s.touched_at < now() - interval '10 minutes'
AND NOT EXISTS (SELECT FROM outbox o
                WHERE o.workspace_id = s.workspace_id AND o.channel_id = s.channel_id AND o.run_id = s.run_id)
"""


async def enqueue(
    connection: Connection,
    *,
    workspace_id: WorkspaceId,
    channel_id: ChannelId,
    message_class: MessageClass,
    recipient: str,
    content: Content,
    variables: str | None = None,
) -> MessageId:
    """Queues one message, due at once. `variables` is JSON text. In the caller's transaction."""
    message_id: MessageId = await connection.fetchval(
        _ENQUEUE,
        workspace_id,
        channel_id,
        direct_stream(message_class),
        message_class,
        recipient,
        variables,
        encode_content(content),
        DUE_BELL,
        f"{workspace_id}:{channel_id}:{message_class.value}",
    )
    return message_id


def parse_due(payload: str) -> tuple[int, int, MessageClass] | None:
    """(workspace, channel, class) that the bell rang for; None when it names no stream."""
    try:
        workspace_id, channel_id, message_class = map(int, payload.split(":"))
        return workspace_id, channel_id, MessageClass(message_class)
    except ValueError:
        return None


async def close_silent_streams(connection: Connection) -> int:
    """So that idle channels cost nothing; returns how many it closed."""
    return int((await connection.execute(_CLOSE_SILENT)).split()[1])
