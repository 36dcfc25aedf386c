"""How far webhooks have told of what was sent, by channel and kind of message.

A doubt may be decided when evidence has come back for something sent after it: see `pombo.domain.doubt`.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from pombo.store.database import Connection
from pombo.store.planning import columns


class Heard(NamedTuple):
    """A message for which evidence with our key has come."""

    workspace_id: int
    channel_id: int
    run_id: int
    intent_at: datetime
    kind: str | None = None
    """Of a direct message; a run's is told by its content."""


# The rows of all kinds are locked in one order, and late in their transaction: a busy channel's is everybody's.
_NOTE = """
INSERT INTO channel_evidence AS e (workspace_id, channel_id, kind, intent_at)
SELECT h.workspace_id, h.channel_id, coalesce(h.kind, message_kind(r.content)) AS kind, max(h.intent_at)
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::timestamptz[])
    AS h (workspace_id, channel_id, run_id, kind, intent_at)
LEFT JOIN runs r ON r.workspace_id = h.workspace_id AND r.id = h.run_id
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3
ON CONFLICT (workspace_id, channel_id, kind) DO UPDATE SET intent_at = excluded.intent_at
WHERE excluded.intent_at > e.intent_at
"""


async def note(connection: Connection, heard: Iterable[Heard]) -> None:
    """Costs a row a channel and kind."""
    newest: dict[tuple[int, int, int, str | None], datetime] = {}
    for message in heard:
        stream = *message[:3], message.kind
        if (known := newest.get(stream)) is None or known < message.intent_at:
            newest[stream] = message.intent_at
    if newest:
        await connection.execute(_NOTE, *columns(newest), list(newest.values()))
