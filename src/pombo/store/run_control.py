"""Pausing, resuming and cancelling runs, and the panic button, in the tables.

    pause     runs: pausing ─▶ its streams: paused ─▶ each channel's owner drops the stream, sends what it had taken,
                                                      acknowledges ─▶ runs: paused
    resume    at once, whether acknowledged or not; a run not all expanded goes on expanding
    cancel    runs: cancelling ─▶ as pause; what waits is cancelled in chunks ─▶ runs: cancelled

Who asks writes and rings the bell, and never waits for a worker. A run's row is always written before its streams:
expanding locks the row for each chunk, so no chunk opens a stream after its run was paused.

A pause is complete without an owner's word where there is no owner, or where its lease has ended. A channel's next
owner reads its streams after it got the lease, so it finds them paused.

The panic button is apart from all this, a row in `halts`: it holds whatever the workspace has or gets, and releasing it
changes no run.
"""

from collections.abc import Sequence
from typing import NamedTuple

from pombo.domain.ids import RunId, WorkspaceId
from pombo.store import audience
from pombo.store.database import Connection
from pombo.store.runs import NEW_RUN_BELL, RunState

CONTROL_BELL = "pombo_control"
"""Rung by NOTIFY when a pause was acknowledged, or a run is to be cancelled."""

PAUSABLE = frozenset({RunState.PENDING, RunState.PROCESSING})
RESUMABLE = frozenset({RunState.PAUSING, RunState.PAUSED})
CANCELLABLE = PAUSABLE | RESUMABLE

_PAUSE = """
WITH locked AS (
    SELECT id FROM runs
    WHERE workspace_id = $1 AND id = ANY ($2::bigint[])
      AND (state IN ('pending', 'processing') OR state IN ('pausing', 'paused') AND $3::text IS NULL)
    ORDER BY id FOR UPDATE
)
UPDATE runs r SET state = CASE WHEN r.state = 'paused' THEN 'paused' ELSE 'pausing' END, pause_reason = $3
FROM locked l
WHERE r.workspace_id = $1 AND r.id = l.id
RETURNING r.id, r.channel_ids
"""

_PAUSE_STREAMS = """
UPDATE streams SET state = 'paused', acknowledged = false, pauses = pauses + 1
WHERE workspace_id = $1 AND channel_id = ANY ($2::bigint[]) AND run_id = ANY ($3::bigint[]) AND state = 'open'
"""

_RESUME = """
WITH locked AS (
    SELECT id FROM runs
    WHERE workspace_id = $1 AND id = ANY ($2::bigint[]) AND state IN ('pausing', 'paused')
      AND ($3::text IS NULL OR pause_reason = $3)
    ORDER BY id FOR UPDATE
)
UPDATE runs r SET pause_reason = NULL, resumed_at = now(),
    state = CASE WHEN r.expanded OR r.started_at IS NOT NULL THEN 'processing' ELSE 'pending' END
FROM locked l
WHERE r.workspace_id = $1 AND r.id = l.id
RETURNING r.id, r.channel_ids
"""

_RESUME_STREAMS = """
UPDATE streams SET state = 'open', acknowledged = false
WHERE workspace_id = $1 AND channel_id = ANY ($2::bigint[]) AND run_id = ANY ($3::bigint[]) AND state = 'paused'
"""

_CANCEL = """
WITH locked AS (
    SELECT id, expanded, audience_size FROM runs
    WHERE workspace_id = $1 AND id = ANY ($2::bigint[]) AND state IN ('pending', 'processing', 'pausing', 'paused')
    ORDER BY id FOR UPDATE
)
UPDATE runs r SET state = 'cancelling', pause_reason = NULL, expanded = true
FROM locked l
WHERE r.workspace_id = $1 AND r.id = l.id
RETURNING r.id, r.channel_ids, CASE WHEN l.expanded THEN 0 ELSE l.audience_size END AS expected
"""

# Who was not yet expanded counts as cancelled, so that the total stays what was asked for. Duplicates among them are
# not known and count too.
_CANCEL_UNEXPANDED = """
INSERT INTO run_deltas (workspace_id, run_id, total, cancelled)
SELECT $1, run_id, expected - known, expected - known
FROM unnest($2::bigint[], $3::bigint[]) AS r (run_id, expected)
CROSS JOIN LATERAL (
    SELECT coalesce(sum(total + duplicates), 0)::bigint AS known
    FROM (SELECT total, duplicates FROM run_totals t WHERE t.workspace_id = $1 AND t.run_id = r.run_id
          UNION ALL
          SELECT total, duplicates FROM run_deltas d WHERE d.workspace_id = $1 AND d.run_id = r.run_id) AS parts
) AS k
WHERE expected > known
"""


class _Affected(NamedTuple):
    run_ids: list[RunId]
    channel_ids: list[int]


def _affected(rows: Sequence[tuple[int, list[int], *tuple[object, ...]]]) -> _Affected:
    return _Affected([RunId(row[0]) for row in rows], sorted({channel for row in rows for channel in row[1]}))


async def pause_runs(
    connection: Connection, workspace_id: WorkspaceId, run_ids: Sequence[int], reason: str | None = None
) -> list[RunId]:
    """In a transaction. Pauses those of the runs that are pending or processing; returns which these were.

    `reason` tells people why, where Pombo itself pauses. Without one it is a person's doing, which also takes the
    reason away from runs that were paused for one already (they are returned too): `resume_runs` for that reason then
    leaves them alone.
    """
    runs = _affected(await connection.fetch(_PAUSE, workspace_id, list(run_ids), reason))
    if runs.run_ids:
        await connection.execute(_PAUSE_STREAMS, workspace_id, runs.channel_ids, runs.run_ids)
        await audience.ring_due(connection)
        await ring(connection)
    return runs.run_ids


async def resume_runs(
    connection: Connection, workspace_id: WorkspaceId, run_ids: Sequence[int], reason: str | None = None
) -> list[RunId]:
    """In a transaction. Resumes those of the runs that are pausing or paused (for that reason, if one is given)."""
    runs = _affected(await connection.fetch(_RESUME, workspace_id, list(run_ids), reason))
    if runs.run_ids:
        await connection.execute(_RESUME_STREAMS, workspace_id, runs.channel_ids, runs.run_ids)
        await audience.ring_due(connection)
        await connection.execute("SELECT pg_notify($1, '')", NEW_RUN_BELL)
    return runs.run_ids


async def cancel_runs(connection: Connection, workspace_id: WorkspaceId, run_ids: Sequence[int]) -> list[RunId]:
    """In a transaction. Begins to cancel those of the runs that are not over; returns which these were."""
    rows = await connection.fetch(_CANCEL, workspace_id, list(run_ids))
    runs = _affected(rows)
    if runs.run_ids:
        await connection.execute(_PAUSE_STREAMS, workspace_id, runs.channel_ids, runs.run_ids)
        await connection.execute(_CANCEL_UNEXPANDED, workspace_id, runs.run_ids, [row["expected"] for row in rows])
        await audience.ring_due(connection)
        await ring(connection)
    return runs.run_ids


async def ring(connection: Connection) -> None:
    await connection.execute("SELECT pg_notify($1, '')", CONTROL_BELL)
