"""Every message of a run, as it stands: for comparing with somebody else's books."""

from collections.abc import AsyncIterator
from typing import NamedTuple

from pombo.store.database import Connection

_PAGE = 10_000


class Entry(NamedTuple):
    message_id: int
    channel: str
    """Meta's id."""
    recipient: str
    attempt: int
    state: int | None
    """DeliveryState.rank; None while it is in the outbox."""
    provider_id: str | None
    second_provider_id: str | None


async def every_message(connection: Connection, workspace_id: int) -> AsyncIterator[Entry]:
    """All messages of a workspace in order of their ids, read in pages so that no long transaction is held."""
    after = 0
    while True:
        rows = await connection.fetch(
            """SELECT m.id, c.external_id, m.recipient, m.attempt, m.state, m.provider_id, m.second_provider_id
               FROM (SELECT id, channel_id, recipient, attempt, state, provider_id, second_provider_id FROM deliveries
                     WHERE workspace_id = $1 AND id > $2
                     UNION ALL
                     SELECT id, channel_id, recipient, attempt, NULL, NULL, NULL FROM outbox
                     WHERE workspace_id = $1 AND id > $2
                     ORDER BY id LIMIT $3) m
               JOIN channels c ON c.workspace_id = $1 AND c.id = m.channel_id ORDER BY m.id""",
            workspace_id,
            after,
            _PAGE,
        )
        for row in rows:
            yield Entry(*row)
        if len(rows) < _PAGE:
            return
        after = rows[-1]["id"]


async def webhooks_waiting(connection: Connection) -> int:
    """Webhooks stored but not yet applied."""
    count: int = await connection.fetchval("SELECT count(*) FROM webhook_queue")
    return count


class InboxFigures(NamedTuple):
    answers: int
    reactions: int
    open: int
    """Conversations."""
    opted_out: int


async def inbox_figures(connection: Connection, workspace_id: int) -> InboxFigures:
    row = await connection.fetchrow(
        """SELECT (SELECT count(*) FROM conversation_messages WHERE workspace_id = $1 AND author = 'contact'),
                  (SELECT count(*) FROM message_changes
                   WHERE workspace_id = $1 AND change = 'reaction' AND by = 'contact' AND text IS NOT NULL),
                  (SELECT count(*) FROM conversations WHERE workspace_id = $1 AND status = 'open'),
                  (SELECT count(*) FROM contacts WHERE workspace_id = $1 AND opted_out_at IS NOT NULL)""",
        workspace_id,
    )
    assert row is not None
    return InboxFigures(*row)
