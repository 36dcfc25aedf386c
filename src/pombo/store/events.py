"""The log of what open browsers should see; each event is written in the transaction of its change.

Writers only append, without a position. One leased tailer gives positions to events as they become visible
(`pombo.realtime`), so that a reader's cursor never passes an event whose transaction commits late.
"""

from collections.abc import Sequence
from typing import NamedTuple

from pombo.store.database import Connection

BELL = "pombo_events"
"""Rung by NOTIFY after commits, coalesced; never within a hot transaction."""


class Event(NamedTuple):
    """`data` is JSON text: the whole new state of what changed (with its id and version), never a difference."""

    workspace_id: int
    topic: str
    name: str
    data: str


# Nobody waits for a ring to be durable, and others' commits wait while one is being made so.
_RING = "SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, '')"


async def ring(connection: Connection) -> None:
    """After the commit of what was appended, outside of any transaction: browsers hear of it at once."""
    await connection.execute(_RING, BELL)


async def append(connection: Connection, events: Sequence[Event]) -> None:
    """In the transaction of the change."""
    if events:
        await connection.execute(
            """INSERT INTO events (workspace_id, topic, name, data)
               SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::json[])""",
            *map(list, zip(*events, strict=True)),
        )
