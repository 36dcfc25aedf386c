"""Numbering the events, reading them by position, and forgetting old ones. Written they are by `store.events`.

`event_tail` is one row with the last position given. Numbering locks it, so that positions become visible in their
order, whoever numbers: a reader that has seen everything up to the tail has missed nothing; nothing lower will come.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from pombo.domain.ids import WorkspaceId
from pombo.domain.topics import CONVERSATION_UPDATED, heard_in
from pombo.store.database import Connection

NUMBERED_BELL = "pombo_numbered"
"""Rung by NOTIFY when events have got positions: the tailer's own, one for each batch."""

# Rows of one statement that deletes: some 20 ms.
_CHUNK = 5000


class StoredEvent(NamedTuple):
    """`data` is JSON text."""

    workspace_id: WorkspaceId
    position: int
    topic: str
    name: str
    at: datetime
    data: str


_COLUMNS = "workspace_id, position, topic, name, at, data, conversation"

# Plans are made while the table is nearly empty, and kept; those that then seem cheapest go on reading all of it when
# it is large. (Seen: 6 s in place of 5 ms, until the server next looked at the table.) And a bitmap would be made of
# all that waits, and of what no longer does.
_BY_INDEX = """
    SELECT set_config('enable_seqscan', 'off', $1), set_config('enable_hashjoin', 'off', $1),
           set_config('enable_mergejoin', 'off', $1), set_config('enable_bitmapscan', 'off', $1)
"""

# While nothing waits, the row is not locked and nothing is written. Two who number at once wait for each other; what
# the first has numbered, the second leaves alone (and skips the positions it meant for it).
_NUMBER = f"""
    WITH tail AS MATERIALIZED (
        SELECT position FROM event_tail WHERE EXISTS (SELECT FROM events WHERE position IS NULL) FOR UPDATE
    ), waiting AS MATERIALIZED (
        SELECT ctid, row_number() OVER (ORDER BY id) AS n
        FROM (SELECT ctid, id FROM events WHERE position IS NULL ORDER BY id LIMIT $1) w
    ), numbered AS (
        UPDATE events e SET position = t.position + w.n FROM tail t, waiting w
        WHERE e.ctid = w.ctid AND e.position IS NULL
        RETURNING e.position
    ), moved AS (
        UPDATE event_tail SET position = greatest(position, (SELECT max(position) FROM numbered))
        WHERE EXISTS (SELECT FROM numbered)
    )
    SELECT count(*), CASE WHEN count(*) > 0 THEN pg_notify('{NUMBERED_BELL}', '') END FROM numbered
"""


async def always_by_index(connection: Connection) -> None:
    """For the rest of the session: `number` and `read_new` find their rows by index, whatever the planner believes."""
    await connection.execute(_BY_INDEX, False)


async def number(connection: Connection, limit: int) -> int:
    """Gives positions to at most so many of the events that are visible by now, rings, and returns how many.

    A transaction of its own, durable when it returns: a position that a crash took back would be given twice.
    """
    numbered: int = await connection.fetchval(_NUMBER, limit)
    return numbered


async def tail(connection: Connection) -> int:
    position: int = await connection.fetchval("SELECT position FROM event_tail")
    return position


_READ_NEW = f"""
    SELECT t.upto, t.torn, {_COLUMNS} FROM (
        SELECT least(position, $2::bigint + $3::bigint) AS upto, ARRAY(
            SELECT workspace_id FROM event_horizons WHERE workspace_id = ANY ($1::bigint[]) AND position > $2
        ) AS torn FROM event_tail
    ) t
    LEFT JOIN events e ON e.workspace_id = ANY ($1::bigint[]) AND e.position > $2 AND e.position <= t.upto
    ORDER BY position
"""


class News(NamedTuple):
    upto: int
    """All there is up to this position has been read."""
    events: list[StoredEvent]
    torn: list[WorkspaceId]
    """Workspaces that may have lost some: deleted before they were read."""


async def read_new(connection: Connection, workspaces: Sequence[WorkspaceId], after: int, most: int) -> News:
    """These workspaces' events after a position, in order: at most `most` positions."""
    rows = await connection.fetch(_READ_NEW, workspaces, after, most)
    events = _heard([row[2:] for row in rows if row["position"] is not None])
    return News(rows[0]["upto"], events, rows[0]["torn"])


async def can_replay(connection: Connection, workspace_id: WorkspaceId, after: int, upto: int, most: int) -> bool:
    """False when events after the cursor may be deleted, when they are more than `most`, or when it was never given."""
    await connection.execute(_BY_INDEX, True)
    possible: bool = await connection.fetchval(
        """SELECT $2 >= coalesce((SELECT position FROM event_horizons WHERE workspace_id = $1), 0)
              AND $2 <= (SELECT position FROM event_tail)
              AND (SELECT count(*) FROM (
                      SELECT FROM events WHERE workspace_id = $1 AND position > $2 AND position <= $3
                      LIMIT $4::bigint + 1
                  ) e) <= $4""",
        workspace_id,
        after,
        upto,
        most,
    )
    return possible


async def replay(
    connection: Connection, workspace_id: WorkspaceId, topics: Sequence[str], after: int, upto: int, limit: int
) -> tuple[int, list[StoredEvent]] | None:
    """The events of these topics among the next `limit` of the workspace, and how far they reach.

    None when some of them may have been deleted meanwhile.
    """
    await connection.execute(_BY_INDEX, True)
    rows = await connection.fetch(
        f"""SELECT h.kept, {_COLUMNS}
            FROM (SELECT $2 >= coalesce((SELECT position FROM event_horizons WHERE workspace_id = $1), 0) AS kept) h
            LEFT JOIN LATERAL (
                SELECT * FROM events WHERE workspace_id = $1 AND position > $2 AND position <= $3
                ORDER BY position LIMIT $4
            ) e ON true ORDER BY position""",
        workspace_id,
        after,
        upto,
        limit,
    )
    if not rows[0]["kept"]:
        return None
    reached = rows[-1]["position"] if len(rows) == limit else upto
    wanted = frozenset(topics)
    events = _heard([row[1:] for row in rows if row["position"] is not None])
    return reached, [event for event in events if event.topic in wanted]


def _heard(rows: Sequence[Sequence[Any]]) -> list[StoredEvent]:
    """An event once for each topic in which it is heard; a message's may bring its conversation's."""
    events: list[StoredEvent] = []
    for workspace_id, position, topic, name, at, data, conversation in rows:
        events += [StoredEvent(workspace_id, position, heard, name, at, data) for heard in heard_in(topic, name)]
        if conversation is not None:
            name = CONVERSATION_UPDATED
            events += [
                StoredEvent(workspace_id, position, heard, name, at, conversation) for heard in heard_in(topic, name)
            ]
    return events


async def forget(connection: Connection, workspace_id: WorkspaceId, age: timedelta) -> int:
    """Deletes a workspace's numbered events that are older, each chunk in a commit of its own; returns how many."""
    forgotten = 0
    while True:
        deleted: int = await connection.fetchval(
            f"""WITH gone AS (
                    DELETE FROM events WHERE workspace_id = $1 AND id = ANY (ARRAY(
                        SELECT id FROM events WHERE workspace_id = $1 AND position IS NOT NULL
                        ORDER BY position LIMIT {_CHUNK}
                    )) AND position IS NOT NULL AND at < clock_timestamp() - $2::interval
                    RETURNING position
                ), horizon AS (
                    INSERT INTO event_horizons SELECT $1, max(position) FROM gone HAVING count(*) > 0
                    ON CONFLICT (workspace_id) DO UPDATE SET position =
                        greatest(event_horizons.position, excluded.position)
                )
                SELECT count(*) FROM gone""",
            workspace_id,
            age,
        )
        forgotten += deleted
        if deleted < _CHUNK:
            return forgotten


async def workspaces_with_events(connection: Connection) -> list[WorkspaceId]:
    rows = await connection.fetch(
        "SELECT id FROM workspaces w WHERE EXISTS (SELECT FROM events e WHERE e.workspace_id = w.id) ORDER BY id"
    )
    return [WorkspaceId(row["id"]) for row in rows]
