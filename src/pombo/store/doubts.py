"""Messages in doubt: noting them, what is known when their grace is over, and what was decided.

    sending ──NOTE──▶ uncertain ──settlement (evidence; failed, dropped or marked as sent)──▶ deliveries
                          └──send_again──▶ ready

A decision changes only a row that is still uncertain at that very attempt, in one statement. Evidence takes the same
row out of the outbox, so whichever comes first, the other finds it gone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date
from typing import Any, NamedTuple

from pombo.domain.doubt import DoubtPolicy, Facts, HoldReason
from pombo.domain.ids import WorkerId
from pombo.store.database import Connection
from pombo.store.planning import columns
from pombo.store.worker_lock import LIVING

NOTE = """
    INSERT INTO doubts AS d (workspace_id, message_id, channel_id, run_id, class, recipient, kind, attempt, intent_at,
                             since, worker_id, ended_at, decide_at)
    SELECT n.workspace_id, n.id, n.channel_id, n.run_id,
           coalesce(r.class, CASE WHEN n.run_id > 0 THEN 2 ELSE -n.run_id END), n.recipient,
           message_kind(coalesce(n.content, r.content)), n.attempt, n.intent_at, clock_timestamp(), n.worker_id,
           n.ended_at, clock_timestamp() + c.doubt_grace_s * interval '1 second'
    FROM doubtful n
    JOIN channels c ON c.workspace_id = n.workspace_id AND c.id = n.channel_id
    LEFT JOIN runs r ON r.workspace_id = n.workspace_id AND r.id = n.run_id
    ON CONFLICT (workspace_id, message_id) DO UPDATE SET
        attempt = excluded.attempt, intent_at = excluded.intent_at, worker_id = excluded.worker_id,
        since = CASE WHEN d.attempt = excluded.attempt THEN d.since ELSE excluded.since END,
        ended_at = excluded.ended_at, decide_at = excluded.decide_at, held = NULL, held_since = NULL
    WHERE d.attempt <= excluded.attempt
"""
"""Part of a statement whose CTE `doubtful` has the outbox's columns and: `worker_id`, null when that worker itself
reports the doubt; `ended_at`, since when nothing of the attempt can leave any more. A report may follow what a takeover
has noted: it knows better."""

# Grace begins when the worker is found ended. A lock that was lost for a moment, and is held again, proves nothing.
_FIND_ENDS = f"""
WITH changed AS (
    SELECT d.workspace_id, d.message_id, d.attempt, d.ended_at IS NULL AS has_ended
    FROM doubts d
    JOIN channel_leases l USING (workspace_id, channel_id)
    WHERE l.worker_id = $1 AND d.worker_id IS NOT NULL
      AND (d.ended_at IS NOT NULL) = (d.worker_id IN ({LIVING}))
)
UPDATE doubts d SET ended_at = CASE WHEN has_ended THEN clock_timestamp() END, held = NULL, held_since = NULL,
    decide_at = clock_timestamp() + c.doubt_grace_s * interval '1 second'
FROM changed n, channels c
WHERE d.workspace_id = n.workspace_id AND d.message_id = n.message_id AND d.attempt = n.attempt
  AND c.workspace_id = d.workspace_id AND c.id = d.channel_id
"""

# A backlog of webhooks this long is not looked through: its oldest may be from any time.
_LONG_BACKLOG = 10_000

_FACTS = f"""
WITH looked_at AS MATERIALIZED (
    SELECT d.* FROM doubts d
    JOIN channel_leases l USING (workspace_id, channel_id)
    WHERE l.worker_id = $1 AND CASE WHEN $2 THEN d.held IS NOT NULL ELSE d.held IS NULL AND d.decide_at <= now() END
      AND (d.workspace_id, d.message_id) > ($3, $4)
    ORDER BY d.workspace_id, d.message_id LIMIT $5
), heard AS MATERIALIZED (
    SELECT w.workspace_id,
           (SELECT CASE WHEN count(*) < {_LONG_BACKLOG} THEN min(received_at) ELSE timestamptz 'epoch' END
            FROM (SELECT received_at FROM webhook_queue q WHERE q.workspace_id = w.workspace_id
                  ORDER BY id LIMIT {_LONG_BACKLOG}) q) AS oldest_webhook,
           (SELECT max(at) FROM webhook_errors e WHERE e.workspace_id = w.workspace_id) AS last_given_up
    FROM (SELECT DISTINCT workspace_id FROM looked_at) w
)
SELECT d.workspace_id, d.message_id, d.channel_id, d.attempt, d.held, c.doubt_policy, o.id IS NULL AS is_over,
       now() AS now, d.intent_at, d.since, d.ended_at, d.decide_at, e.intent_at AS newest_evidence,
       h.oldest_webhook, h.last_given_up, o.attempt - o.uncounted < $6 AS attempts_left,
       coalesce(r.state IN ('cancelling', 'cancelled'), false) AS cancelled
FROM looked_at d
JOIN heard h USING (workspace_id)
JOIN channels c ON c.workspace_id = d.workspace_id AND c.id = d.channel_id
LEFT JOIN channel_evidence e
    ON e.workspace_id = d.workspace_id AND e.channel_id = d.channel_id AND e.kind = d.kind
LEFT JOIN runs r ON r.workspace_id = d.workspace_id AND r.id = d.run_id
LEFT JOIN outbox o
    ON o.workspace_id = d.workspace_id AND o.id = d.message_id AND o.state = 'u' AND o.attempt = d.attempt
ORDER BY d.workspace_id, d.message_id
"""

# Looked up one by one (OFFSET 0 is a fence): a plan made while there were few would read them all when there are many.
# One that another statement changes meanwhile may be passed over; the resolver comes to it again.
_EACH = """unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::text[]) AS f (workspace_id, id, attempt, reason)
CROSS JOIN LATERAL (
    SELECT ctid FROM doubts WHERE workspace_id = f.workspace_id AND message_id = f.id AND attempt = f.attempt OFFSET 0
) found
WHERE d.ctid = found.ctid AND d.attempt = f.attempt
"""

_FORGET = f"DELETE FROM doubts d USING {_EACH}"

_HOLD = f"""
UPDATE doubts d SET held = f.reason, held_since = coalesce(d.held_since, clock_timestamp()) FROM {_EACH}
"""

# A stream of direct messages may have been closed meanwhile. A run's is open as long as one of its is not settled.
_SEND_AGAIN = """
WITH again AS (
    UPDATE outbox o SET state = 'r', due_at = now()
    FROM unnest($1::bigint[], $2::bigint[], $3::smallint[]) AS f (workspace_id, id, attempt)
    WHERE o.workspace_id = f.workspace_id AND o.id = f.id AND o.state = 'u' AND o.attempt = f.attempt
    RETURNING o.workspace_id, o.id, o.channel_id, o.run_id
), gone AS (
    DELETE FROM doubts d USING again a WHERE d.workspace_id = a.workspace_id AND d.message_id = a.id
    RETURNING d.workspace_id, d.message_id, d.channel_id, d.class, d.recipient
), waiting AS (
    INSERT INTO retries (workspace_id, message_id, channel_id, class, recipient) SELECT * FROM gone
    ON CONFLICT DO NOTHING
), counted AS (
    INSERT INTO run_deltas (workspace_id, run_id, uncertain)
    SELECT workspace_id, run_id, -count(*) FROM again GROUP BY workspace_id, run_id
), opened AS (
    INSERT INTO streams (workspace_id, channel_id, run_id, class)
    SELECT DISTINCT workspace_id, channel_id, run_id, -run_id FROM again WHERE run_id <= 0
    ON CONFLICT (workspace_id, channel_id, run_id) DO UPDATE SET touched_at = now()
), rung AS (
    SELECT pg_notify('pombo_due', '') FROM (SELECT count(*) AS n FROM again) c WHERE n > 0
)
SELECT count(*), (SELECT count(*) FROM rung) FROM again
"""


class DoubtKey(NamedTuple):
    """One doubtful attempt."""

    workspace_id: int
    message_id: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Doubt:
    key: DoubtKey
    channel_id: int
    held: HoldReason | None
    policy: DoubtPolicy
    is_over: bool
    """Its message was settled, or sent again, in the very moment in which it was noted."""
    facts: Facts

    @property
    def day(self) -> date:
        """That of the attempt's intent."""
        return self.facts.intent_at.astimezone(UTC).date()


BEGINNING = (0, 0)
"""A cursor before every doubt."""


async def find_ends(connection: Connection, worker_id: WorkerId) -> None:
    """Of the workers that left doubts on this one's channels: who has ended, and who has not after all."""
    await connection.execute(_FIND_ENDS, worker_id)


async def facts(
    connection: Connection,
    worker_id: WorkerId,
    *,
    held: bool,
    attempts: int,
    after: tuple[int, int] = BEGINNING,
    limit: int = 500,
) -> list[Doubt]:
    """Of the worker's channels: the doubts whose grace is over, or those already held, after the cursor.

    Everything of one statement's snapshot: an echo is either applied in it, or its webhook is still in its queue.
    """
    rows = await connection.fetch(_FACTS, worker_id, held, *after, limit, attempts)
    return [_doubt(row) for row in rows]


def _doubt(row: Any) -> Doubt:
    return Doubt(
        DoubtKey(row["workspace_id"], row["message_id"], row["attempt"]),
        row["channel_id"],
        HoldReason(row["held"]) if row["held"] else None,
        DoubtPolicy(row["doubt_policy"]),
        row["is_over"],
        Facts(
            now=row["now"],
            intent_at=row["intent_at"],
            since=row["since"],
            ended_at=row["ended_at"],
            grace=row["decide_at"] - (row["ended_at"] or row["since"]),
            newest_evidence=row["newest_evidence"],
            oldest_webhook=row["oldest_webhook"],
            last_given_up=row["last_given_up"],
            attempts_left=bool(row["attempts_left"]),
            cancelled=row["cancelled"],
        ),
    )


async def forget(connection: Connection, doubts: Sequence[DoubtKey]) -> None:
    """Doubts that are over.

    Those of a statement that ended them need one of their own after it: it may have waited for the very statement that
    noted them, and sees no rows newer than itself. What a crash between the two leaves is forgotten after its grace.
    """
    if doubts:
        await connection.execute(_FORGET, *columns(doubts), [])


async def hold(connection: Connection, doubts: Sequence[tuple[DoubtKey, HoldReason]]) -> None:
    if doubts:
        keys = columns([key for key, _ in doubts])
        await connection.execute(_HOLD, *keys, [reason.value for _, reason in doubts])


async def send_again(connection: Connection, doubts: Sequence[DoubtKey]) -> int:
    """Ready again, the doubtful attempt counted; returns how many. What was settled meanwhile is left alone."""
    if not doubts:
        return 0
    count: int = await connection.fetchval(_SEND_AGAIN, *columns(doubts))
    return count
