"""A run's audience on its way in: staged by COPY, then moved into the outbox in chunks.

    open_upload ─▶ stage ─▶ stage … ─▶ close_upload + runs.start_run  (one transaction: the run is there, or nothing is)
                                   └─▶ discard_upload                  (the request broke, or was not valid)

Staging takes a worker connection, because row-level security refuses COPY.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import asyncpg

from pombo.domain.ids import RunId, WorkspaceId
from pombo.store.database import Connection, atomic
from pombo.store.errors import NotFound

DUE_BELL = "pombo_due"
"""Rung by NOTIFY when messages have become due."""

# Rows deleted per statement when an upload is discarded: some 50 ms each, so that no transaction lasts.
_DISCARDED_LINES = 20_000


class StagedLine(NamedTuple):
    """One recipient. `line` is unique in the upload and says where it stood in what came in."""

    line: int
    channel_id: int
    recipient: str
    variables: str | None
    """A JSON object."""


class RejectedLine(NamedTuple):
    """A recipient that cannot be used, and why: a stable code, and a sentence."""

    line: int
    recipient: str
    code: str
    reason: str


class Moved(NamedTuple):
    """One chunk of an expansion: rows taken from the audience, and the position of the last."""

    taken: int
    last: int | None
    left_out: int
    """Of those taken: who is on the suppression list."""


async def open_upload(connection: Connection, workspace_id: WorkspaceId) -> RunId:
    """Begins an upload; its id will be its run's."""
    run_id: RunId = await connection.fetchval(
        "INSERT INTO uploads (workspace_id) VALUES ($1) RETURNING run_id", workspace_id
    )
    return run_id


async def stage(
    connection: Connection,
    workspace_id: WorkspaceId,
    run_id: RunId,
    lines: Sequence[StagedLine],
    rejects: Sequence[RejectedLine] = (),
) -> None:
    """Adds to an open upload. Raises NotFound when it was swept away."""
    touched = await connection.execute(
        "UPDATE uploads SET touched_at = clock_timestamp() WHERE workspace_id = $1 AND run_id = $2",
        workspace_id,
        run_id,
    )
    if touched != "UPDATE 1":
        raise NotFound(f"The upload {run_id} is gone: it was silent for too long.")
    if lines:
        await connection.copy_records_to_table(
            "audience",
            columns=["workspace_id", "run_id", "line", "channel_id", "recipient", "variables"],
            records=[(workspace_id, run_id, *line) for line in lines],
        )
    if rejects:
        await connection.copy_records_to_table(
            "run_rejects",
            columns=["workspace_id", "run_id", "line", "recipient", "code", "reason"],
            records=[(workspace_id, run_id, *reject) for reject in rejects],
        )


async def read_staged(
    connection: Connection, workspace_id: WorkspaceId, run_id: RunId, after_line: int, limit: int
) -> list[StagedLine]:
    """An upload's lines, in order."""
    rows = await connection.fetch(
        """SELECT line, channel_id, recipient, variables FROM audience
           WHERE workspace_id = $1 AND run_id = $2 AND line > $3 ORDER BY line LIMIT $4""",
        workspace_id,
        run_id,
        after_line,
        limit,
    )
    return [StagedLine(*row) for row in rows]


async def replace_staged(
    connection: Connection,
    workspace_id: WorkspaceId,
    run_id: RunId,
    former: Sequence[StagedLine],
    lines: Sequence[StagedLine],
    rejects: Sequence[RejectedLine],
) -> None:
    """Puts lines and rejects in the place of consecutive lines that were read. In a transaction; as `stage`."""
    await connection.execute(
        "DELETE FROM audience WHERE workspace_id = $1 AND run_id = $2 AND line BETWEEN $3 AND $4",
        workspace_id,
        run_id,
        former[0].line,
        former[-1].line,
    )
    await stage(connection, workspace_id, run_id, lines, rejects)


async def close_upload(connection: Connection, workspace_id: WorkspaceId, run_id: RunId) -> None:
    """The upload becomes a run's audience. Raises NotFound when it was swept away."""
    closed = await connection.execute(
        "DELETE FROM uploads WHERE workspace_id = $1 AND run_id = $2", workspace_id, run_id
    )
    if closed != "DELETE 1":
        raise NotFound(f"The upload {run_id} is gone: it was silent for too long.")


async def discard_upload(connection: Connection, workspace_id: WorkspaceId, run_id: RunId) -> None:
    """Removes an upload and its lines, in steps; an interrupted removal is finished by the next. Not in a transaction.

    Its row goes last, so that what is left over can still be found. Does nothing to an upload that became a run.
    """
    for statement in _DISCARD:
        after: int | None = -1
        while after is not None:
            after = await connection.fetchval(statement, workspace_id, run_id, after, _DISCARDED_LINES)
    await connection.execute("DELETE FROM uploads WHERE workspace_id = $1 AND run_id = $2", workspace_id, run_id)


async def silent_uploads(connection: Connection, silence: timedelta) -> list[tuple[WorkspaceId, RunId]]:
    """Uploads that nothing was added to for so long: their process ended in the middle."""
    rows = await connection.fetch(
        "SELECT workspace_id, run_id FROM uploads WHERE touched_at < clock_timestamp() - $1::interval", silence
    )
    return [(row["workspace_id"], row["run_id"]) for row in rows]


async def list_rejects(
    connection: Connection, workspace_id: WorkspaceId, run_id: RunId, after_line: int, limit: int
) -> list[RejectedLine]:
    rows = await connection.fetch(
        """SELECT line, recipient, code, reason FROM run_rejects
           WHERE workspace_id = $1 AND run_id = $2 AND line > $3 ORDER BY line LIMIT $4""",
        workspace_id,
        run_id,
        after_line,
        limit,
    )
    return [RejectedLine(*row) for row in rows]


# The range begins after the cursor, so that the index entries of lines taken before are not waded through.
_TAKE_STAGED = """
    DELETE FROM audience
    WHERE workspace_id = $1 AND run_id = $2 AND line > $3
      AND line <= (SELECT max(line) FROM (SELECT line FROM audience
                                          WHERE workspace_id = $1 AND run_id = $2 AND line > $3
                                          ORDER BY line LIMIT $4) AS next)
    RETURNING line AS position, channel_id, recipient, variables"""

_DISCARD = [
    f"""WITH gone AS (
            DELETE FROM {lines} WHERE workspace_id = $1 AND run_id = $2 AND line > $3
            AND EXISTS (SELECT FROM uploads WHERE workspace_id = $1 AND run_id = $2)
            AND line <= (SELECT max(line) FROM (SELECT line FROM {lines}
                                                WHERE workspace_id = $1 AND run_id = $2 AND line > $3
                                                ORDER BY line LIMIT $4) AS next)
            RETURNING line
        ) SELECT max(line) FROM gone"""
    for lines in ("audience", "run_rejects")
]

_TAKE_CONTACTS = """
    SELECT id AS position, channel_id, external_id AS recipient, nullif(attributes, '{}') AS variables
    FROM contacts WHERE workspace_id = $1 AND channel_id = $6 AND id > $3 ORDER BY id LIMIT $4"""

# Who is on the suppression list is left out of bulk runs and counted as rejected. The list is probed person by person
# and not joined, for it may be a thousand times longer than the chunk; a workspace without one skips it.
#
# What was due long ago is due from now on: before what was put back meanwhile, no reader would look for it.
#
# Whoever is in the run already, from an earlier chunk or an earlier line of this one, is a duplicate. `{on_conflict}`
# leaves them out; without it the insert takes half the time, and fails when there is one.
_MOVE = """
WITH chunk AS MATERIALIZED ({take}
), asks AS MATERIALIZED (
    SELECT class = 2 AND EXISTS (SELECT FROM suppressions WHERE workspace_id = $1) AS for_suppressions
    FROM runs WHERE workspace_id = $1 AND id = $2
), wanted AS MATERIALIZED (
    SELECT c.*, CASE WHEN (SELECT for_suppressions FROM asks) THEN (
        SELECT reason FROM suppressions
        WHERE workspace_id = $1 AND recipient = c.recipient
          AND kind = (SELECT kind FROM channels WHERE workspace_id = $1 AND id = c.channel_id)) END AS suppressed
    FROM chunk c
), numbered AS MATERIALIZED (
    SELECT nextval('message_ids') AS id, c.channel_id, c.recipient, c.variables
    FROM (SELECT * FROM wanted WHERE suppressed IS NULL ORDER BY position) AS c
), joined AS (
    INSERT INTO run_recipients (workspace_id, run_id, channel_id, recipient, message_id)
    SELECT $1, $2, channel_id, recipient, id FROM numbered
    {on_conflict}
    RETURNING message_id
), queued AS (
    INSERT INTO outbox (workspace_id, id, channel_id, run_id, due_at, recipient, variables)
    SELECT $1, n.id, n.channel_id, $2, greatest($5, now()), n.recipient, n.variables
    FROM numbered n JOIN joined j ON j.message_id = n.id
    RETURNING channel_id
), opened AS (
    INSERT INTO streams (workspace_id, channel_id, run_id, class)
    SELECT DISTINCT $1::bigint, q.channel_id, $2::bigint, r.class
    FROM queued q JOIN runs r ON r.workspace_id = $1 AND r.id = $2
    ON CONFLICT DO NOTHING
), rejected AS (
    INSERT INTO run_rejects (workspace_id, run_id, line, recipient, code, reason)
    SELECT $1, $2, position, recipient, 'suppressed', 'This person is on the suppression list: ' || suppressed
    FROM wanted WHERE suppressed IS NOT NULL
), counted AS (
    INSERT INTO run_deltas (workspace_id, run_id, total, duplicates, rejected)
    SELECT $1, $2, inserted, taken - inserted - left_out, left_out
    FROM (SELECT count(*) AS taken, count(suppressed) AS left_out FROM wanted) AS c,
         (SELECT count(*) AS inserted FROM queued) AS q
    WHERE taken > 0
)
SELECT count(*) AS taken, max(position) AS last, count(suppressed) AS left_out FROM wanted
"""
# The planner cannot know how many rows a chunk has; a guess of few would join it to itself by nested loops, which takes
# twenty times as long. Hashing is never slow here.
_NO_NESTED_LOOPS = "SET LOCAL enable_nestloop = off"
_MOVE_STAGED = _MOVE.format(take=_TAKE_STAGED, on_conflict="ON CONFLICT DO NOTHING")
_MOVE_CONTACTS = _MOVE.format(take=_TAKE_CONTACTS, on_conflict="")
_MOVE_REPEATED_CONTACTS = _MOVE.format(take=_TAKE_CONTACTS, on_conflict="ON CONFLICT DO NOTHING")


async def move_staged(
    connection: Connection, workspace_id: WorkspaceId, run_id: RunId, after_line: int, limit: int, due_at: datetime
) -> Moved:
    """Moves the next lines into the outbox, once a recipient; counts them and opens their streams."""
    await connection.execute(_NO_NESTED_LOOPS)
    return Moved(
        *await connection.fetchrow(_MOVE_STAGED, workspace_id, run_id, after_line, limit, due_at)  # type: ignore[misc]
    )


async def move_contacts(
    connection: Connection,
    workspace_id: WorkspaceId,
    run_id: RunId,
    channel_id: int,
    after_id: int,
    limit: int,
    due_at: datetime,
) -> Moved:
    """As `move_staged`, from one channel's contacts, with their attributes as variables."""
    await connection.execute(_NO_NESTED_LOOPS)
    arguments = (workspace_id, run_id, after_id, limit, due_at, channel_id)
    try:
        async with atomic(connection):
            row = await connection.fetchrow(_MOVE_CONTACTS, *arguments)
    except asyncpg.UniqueViolationError:
        # A channel has each contact once, so this is one that was deleted and added again while the run expanded.
        row = await connection.fetchrow(_MOVE_REPEATED_CONTACTS, *arguments)
    return Moved(*row)  # type: ignore[misc]


async def ring_due(connection: Connection) -> None:
    """Tells the lanes that there is something to read. Not in a hot transaction: NOTIFY commits one by one."""
    await connection.execute("SELECT pg_notify($1, '')", DUE_BELL)
