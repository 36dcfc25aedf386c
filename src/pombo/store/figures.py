"""The figures of runs: insert-only deltas, folded into one row of totals a run.

Whoever settles or counts something inserts a delta and waits for nobody. Reading adds the deltas not yet folded, so a
figure is never late; folding only keeps that sum short.
"""

from dataclasses import dataclass
from datetime import datetime

from pombo.domain.ids import CampaignId, RunId, WorkspaceId
from pombo.store.database import Connection
from pombo.store.runs import RunState

_NUMBERS = (
    "total",
    "duplicates",
    "rejected",
    "accepted",
    "delivered",
    "read",
    "failed",
    "undelivered",
    "uncertain",
    "cancelled",
    "sent_twice",
    "replied",
    "clicked",
)

# Any constant shared by all Pombos ("folds" in ASCII). Two folders at once would only wait for each other's rows.
_FOLD_LOCK = 0x666F6C6473
# Deltas per fold: some 50 ms of work. A worker writes about 50 a second for each run that it sends.
_FOLD_LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class Figures:
    """Sums over one run or several. Cumulative: a read message counts in `accepted`, `delivered` and `read`."""

    total: int
    """The audience without duplicates and rejects; until it is all expanded, without the duplicates found so far."""
    duplicates: int
    rejected: int
    accepted: int
    delivered: int
    read: int
    failed: int
    """Proven not accepted."""
    undelivered: int
    """Accepted, but reported by Meta as failed later; a part of `accepted`."""
    uncertain: int
    """Now in doubt: neither accepted nor failed yet."""
    cancelled: int
    sent_twice: int
    replied: int
    """Recipients who have answered; each counts once a run, as in `clicked`."""
    clicked: int
    """Recipients who have tapped a button."""
    first_accepted_at: datetime | None
    last_accepted_at: datetime | None
    sending_seconds: float
    """From each run's first accepted message to its last, added up; at least 1 a run that has any."""
    in_flight: int
    """Handed to Meta just now, the answer is not in yet."""
    held: int
    """A part of `uncertain`: their grace is over, and they wait for evidence or a person."""

    @property
    def settled(self) -> int:
        return self.accepted + self.failed + self.cancelled

    @property
    def waiting(self) -> int:
        """Not yet handed to Meta, or to be tried again."""
        return max(0, self.total - self.settled - self.uncertain - self.in_flight)

    @property
    def rate(self) -> float:
        """Accepted messages/s while sending."""
        return self.accepted / self.sending_seconds if self.sending_seconds else 0.0


async def fold(connection: Connection) -> int:
    """Adds deltas to the totals of their runs; returns how many. In a transaction. 0 also when another one is at it."""
    folded: int = await connection.fetchval(_FOLD, _FOLD_LOCK, _FOLD_LIMIT)
    return folded


async def end_runs(connection: Connection) -> list[tuple[WorkspaceId, RunId, RunState]]:
    """Ends the runs of which every message is settled, and closes their streams. In a transaction."""
    rows = await connection.fetch(_END)
    return [(row["workspace_id"], row["run_id"], RunState(row["state"])) for row in rows]


async def workspace_figures(connection: Connection, workspace_id: WorkspaceId) -> Figures:
    return Figures(*await connection.fetchrow(_OF_WORKSPACE, workspace_id))  # type: ignore[misc]


async def campaign_figures(connection: Connection, workspace_id: WorkspaceId, campaign_id: CampaignId) -> Figures:
    return Figures(*await connection.fetchrow(_OF_CAMPAIGN, workspace_id, campaign_id))  # type: ignore[misc]


async def run_figures(connection: Connection, workspace_id: WorkspaceId, run_id: RunId) -> Figures:
    return Figures(*await connection.fetchrow(_OF_RUN, workspace_id, run_id))  # type: ignore[misc]


async def runs_by_state(connection: Connection, workspace_id: WorkspaceId) -> dict[str, int]:
    rows = await connection.fetch(
        "SELECT state, count(*) FROM runs WHERE workspace_id = $1 GROUP BY state ORDER BY state", workspace_id
    )
    return dict(rows)


_LIST = ", ".join(_NUMBERS)
_SUMS = ", ".join(f"coalesce(sum({name}), 0)::bigint AS {name}" for name in _NUMBERS)

# An upsert, so that a delta is never lost for want of a row to add it to.
_FOLD = f"""
WITH allowed AS MATERIALIZED (
    SELECT pg_try_advisory_xact_lock($1) AS mine
), gone AS (
    DELETE FROM run_deltas
    WHERE ctid = ANY (ARRAY(SELECT ctid FROM run_deltas WHERE (SELECT mine FROM allowed) LIMIT $2))
    RETURNING workspace_id, run_id, {_LIST}, at
), folded AS (
    INSERT INTO run_totals AS t (workspace_id, run_id, {_LIST}, first_accepted_at, last_accepted_at)
    SELECT workspace_id, run_id, {_SUMS}, min(at) FILTER (WHERE accepted > 0), max(at) FILTER (WHERE accepted > 0)
    FROM gone GROUP BY workspace_id, run_id
    ON CONFLICT (workspace_id, run_id) DO UPDATE SET
        {", ".join(f"{name} = t.{name} + excluded.{name}" for name in _NUMBERS)},
        first_accepted_at = least(t.first_accepted_at, excluded.first_accepted_at),
        last_accepted_at = greatest(t.last_accepted_at, excluded.last_accepted_at)
)
SELECT count(*) FROM gone
"""

# Expanding the last chunk commits together with its delta, so a run that is expanded and has no delta has its total.
_END = """
WITH done AS (
    UPDATE runs r SET state = CASE r.state WHEN 'cancelling' THEN 'cancelled' ELSE 'completed' END,
        pause_reason = NULL, finished_at = clock_timestamp()
    FROM run_totals t
    WHERE t.workspace_id = r.workspace_id AND t.run_id = r.id
      AND r.state IN ('processing', 'pausing', 'paused', 'cancelling') AND r.expanded
      AND t.accepted + t.failed + t.cancelled = t.total
      AND NOT EXISTS (SELECT FROM run_deltas d WHERE d.workspace_id = r.workspace_id AND d.run_id = r.id)
      -- Lines of a cancelled run that are yet to be removed; of others there are none.
      AND NOT EXISTS (SELECT FROM audience a
                      WHERE a.workspace_id = r.workspace_id AND a.run_id = r.id AND a.line > r.expanded_to)
    RETURNING r.workspace_id, r.id AS run_id, r.channel_ids, r.state
), closed AS (
    DELETE FROM streams s USING done d
    WHERE s.workspace_id = d.workspace_id AND s.channel_id = ANY (d.channel_ids) AND s.run_id = d.run_id
)
SELECT workspace_id, run_id, state FROM done
"""


def _figures_of(runs: str, joined: str) -> str:
    """`runs` limits totals and deltas by their run_id; `joined` limits outbox and doubts, `o`, in the same way."""
    return f"""
WITH per_run AS (
    SELECT run_id, {_SUMS}, min(first_at) AS first_at, max(last_at) AS last_at
    FROM (
        SELECT run_id, {_LIST}, first_accepted_at AS first_at, last_accepted_at AS last_at
        FROM run_totals WHERE workspace_id = $1 {runs}
        UNION ALL
        SELECT run_id, {_LIST}, CASE WHEN accepted > 0 THEN at END, CASE WHEN accepted > 0 THEN at END
        FROM run_deltas WHERE workspace_id = $1 {runs}
    ) AS parts
    GROUP BY run_id
), in_flight AS (
    SELECT count(*) AS in_flight
    FROM intents i, unnest(i.workspace_ids, i.message_ids) AS m (workspace_id, id)
    JOIN outbox o ON o.workspace_id = m.workspace_id AND o.id = m.id
    WHERE m.workspace_id = $1 AND o.state = 's' {joined}
)
SELECT {_SUMS}, min(first_at), max(last_at),
       coalesce(sum(greatest(1, extract(epoch FROM last_at - first_at))) FILTER (WHERE last_at IS NOT NULL), 0)::float8,
       (SELECT in_flight FROM in_flight),
       (SELECT count(*) FROM doubts o WHERE o.workspace_id = $1 AND o.held IS NOT NULL {joined})
FROM (
    SELECT {_LIST.replace("total", "greatest(total, r.audience_size - duplicates) AS total", 1)}, first_at, last_at
    FROM per_run LEFT JOIN runs r ON r.workspace_id = $1 AND r.id = run_id AND NOT r.expanded
) AS expected
"""


_OF_WORKSPACE = _figures_of("", "")
_OF_RUN = _figures_of("AND run_id = $2", "AND o.run_id = $2")
_OF_CAMPAIGN = _figures_of(
    "AND run_id IN (SELECT id FROM runs WHERE workspace_id = $1 AND campaign_id = $2)",
    "AND o.run_id IN (SELECT id FROM runs WHERE workspace_id = $1 AND campaign_id = $2)",
)
