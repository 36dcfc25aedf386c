"""Workers, their heartbeats and their channels.

A lease is valid while its worker's heartbeat is (`workers.expires_at`, the database's clock). Every change of owner
raises the epoch under a lock that waits for intents under way, so a former owner's later intents find nothing.
"""

from collections.abc import Sequence
from typing import NamedTuple

from pombo.domain.ids import WorkerId, WorkspaceId
from pombo.store.channels import LEASE_BELL
from pombo.store.database import Connection
from pombo.store.doubts import NOTE
from pombo.store.worker_lock import LIVING


class Lease(NamedTuple):
    workspace_id: int
    channel_id: int
    epoch: int


async def bound(connection: Connection) -> None:
    """For the connection that tends leases: what somebody else holds locked shall not keep it from its other duties."""
    await connection.execute("SET lock_timeout = '1s'")


async def register(connection: Connection, name: str, pid: int, lease_s: float, *, transient: bool = False) -> WorkerId:
    """A worker's new identity; one is never used again after it expired.

    A transient one (a single batch) takes what is free, and nobody hands over channels for its sake.
    """
    worker_id: WorkerId = await connection.fetchval(
        """INSERT INTO workers (name, pid, transient, expires_at)
           VALUES ($1, $2, $4, clock_timestamp() + $3 * interval '1 second') RETURNING id""",
        name,
        pid,
        lease_s,
        transient,
    )
    return worker_id


async def heartbeat(connection: Connection, worker_id: WorkerId, lease_s: float) -> bool:
    """False when the worker has expired already: it must begin anew under another id.

    It waits for half of the lease at most, so that there is time for another over a new connection.
    """
    done = await connection.execute(
        """UPDATE workers SET expires_at = clock_timestamp() + $2 * interval '1 second'
           WHERE id = $1 AND expires_at > clock_timestamp()""",
        worker_id,
        lease_s,
        timeout=lease_s / 2,
    )
    return done == "UPDATE 1"


async def publish(connection: Connection, worker_id: WorkerId, stats: str) -> None:
    """`stats` is a JSON document; /stats reads it."""
    await connection.execute(
        """INSERT INTO worker_stats (worker_id, stats) VALUES ($1, $2)
           ON CONFLICT (worker_id) DO UPDATE SET stats = excluded.stats, updated_at = clock_timestamp()""",
        worker_id,
        stats,
    )


# An even split: ceil(channels / live workers) each. The free ones are locked without waiting, so that two workers
# share them out between them; one locked by an intent under way is taken at the next round.
_ACQUIRE = """
WITH live AS (
    SELECT count(*) FILTER (WHERE NOT transient) AS workers, bool_or(transient) FILTER (WHERE id = $1) AS am_transient
    FROM workers WHERE expires_at > clock_timestamp()
), share AS (
    SELECT ceil((SELECT count(*) FROM channel_leases)::numeric
                / CASE WHEN am_transient THEN 1 ELSE greatest(workers, 1) END)::bigint AS channels
    FROM live
), free AS (
    SELECT l.workspace_id, l.channel_id
    FROM channel_leases l
    WHERE (l.worker_id IS NULL
           OR NOT EXISTS (SELECT FROM workers w WHERE w.id = l.worker_id AND w.expires_at > clock_timestamp()))
      AND ($2::bigint IS NULL OR l.workspace_id = $2)
    ORDER BY l.workspace_id, l.channel_id
    LIMIT greatest((SELECT channels FROM share) - (SELECT count(*) FROM channel_leases WHERE worker_id = $1), 0)
    FOR UPDATE OF l SKIP LOCKED
)
UPDATE channel_leases l SET worker_id = $1, epoch = l.epoch + 1
FROM free f
WHERE l.workspace_id = f.workspace_id AND l.channel_id = f.channel_id
  AND EXISTS (SELECT FROM workers WHERE id = $1 AND expires_at > clock_timestamp())
RETURNING l.workspace_id, l.channel_id, l.epoch
"""


async def acquire(connection: Connection, worker_id: WorkerId, workspace_id: WorkspaceId | None = None) -> list[Lease]:
    """Takes free and orphaned channels (of one workspace, if named) up to an even share; returns the new leases."""
    return [Lease(*row) for row in await connection.fetch(_ACQUIRE, worker_id, workspace_id)]


async def keep_learned_rates(connection: Connection, rates: Sequence[tuple[Lease, float | None]]) -> None:
    """For the channels' next owners."""
    await connection.execute(
        """UPDATE channel_leases l SET learned_rate = r.rate
           FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::float8[])
               AS r (workspace_id, channel_id, epoch, rate)
           WHERE l.workspace_id = r.workspace_id AND l.channel_id = r.channel_id AND l.epoch = r.epoch""",
        [lease.workspace_id for lease, _ in rates],
        [lease.channel_id for lease, _ in rates],
        [lease.epoch for lease, _ in rates],
        [rate for _, rate in rates],
    )


async def learned_rates(connection: Connection, worker_id: WorkerId) -> dict[tuple[int, int], float]:
    """By (workspace, channel): messages/s that a former owner found to be possible, where it is below the channel's."""
    rows = await connection.fetch(
        """SELECT workspace_id, channel_id, learned_rate FROM channel_leases
           WHERE worker_id = $1 AND learned_rate IS NOT NULL""",
        worker_id,
    )
    return {(workspace_id, channel_id): rate for workspace_id, channel_id, rate in rows}


async def even_rate(connection: Connection, total: float) -> float:
    """What each live worker may have of a rate for all of them together."""
    live: int = await connection.fetchval("SELECT count(*) FROM workers WHERE expires_at > clock_timestamp()")
    return total / max(1, live)


# One at a time: otherwise two that come at once would both take what is left.
_TAKE_RATE_SLICE = """
WITH turn AS MATERIALIZED (
    SELECT pg_advisory_xact_lock($4)
), others AS (
    SELECT coalesce(sum(w.rate_slice), 0) AS taken
    FROM turn, workers w WHERE w.id <> $1 AND w.expires_at > clock_timestamp()
)
UPDATE workers SET rate_slice = greatest(0, least($3::float8, $2::float8 - (SELECT taken FROM others)))
WHERE id = $1 RETURNING rate_slice
"""
_RATE_LOCK = 0x726174657330
"""Any constant shared by all Pombos ("rates0" in ASCII)."""


async def take_rate_slice(connection: Connection, worker_id: WorkerId, total: float, even: float) -> float:
    """The worker's slice of `total`: `even`, or less while others still hold more than that; possibly 0."""
    rate: float | None = await connection.fetchval(_TAKE_RATE_SLICE, worker_id, total, even, _RATE_LOCK)
    return rate or 0.0


async def surplus(connection: Connection, worker_id: WorkerId) -> int:
    """How many channels the worker holds above an even share: it should hand these over."""
    count: int = await connection.fetchval(
        """SELECT greatest(0, (SELECT count(*) FROM channel_leases WHERE worker_id = $1)
             - ceil((SELECT count(*) FROM channel_leases)::numeric / greatest(
                 (SELECT count(*) FROM workers WHERE expires_at > clock_timestamp() AND NOT transient), 1)))::bigint""",
        worker_id,
    )
    return count


async def owned(connection: Connection, worker_id: WorkerId) -> list[Lease]:
    rows = await connection.fetch(
        "SELECT workspace_id, channel_id, epoch FROM channel_leases WHERE worker_id = $1", worker_id
    )
    return [Lease(*row) for row in rows]


async def stamp(connection: Connection, worker_id: WorkerId) -> tuple[int, int, int]:
    """Changes when the worker's leases do, and is read in a moment however many they are."""
    row = await connection.fetchrow(
        "SELECT $1::bigint, count(*), coalesce(sum(epoch), 0)::bigint FROM channel_leases WHERE worker_id = $1",
        worker_id,
    )
    assert row is not None
    worker, count, epochs = row
    return worker, count, epochs


async def release(connection: Connection, worker_id: WorkerId, leases: list[Lease]) -> None:
    """Hands channels over; nothing of them may be in flight."""
    await connection.execute(
        """UPDATE channel_leases l SET worker_id = NULL, epoch = l.epoch + 1
           FROM unnest($2::bigint[], $3::bigint[]) AS r (workspace_id, channel_id)
           WHERE l.workspace_id = r.workspace_id AND l.channel_id = r.channel_id AND l.worker_id = $1""",
        worker_id,
        [lease.workspace_id for lease in leases],
        [lease.channel_id for lease in leases],
    )
    await connection.execute("SELECT pg_notify($1, '')", LEASE_BELL)


async def retire(connection: Connection, worker_id: WorkerId) -> None:
    """The end of a worker. What it should have left in flight after all is found by its intents, and adopted."""
    await connection.execute(
        "UPDATE channel_leases SET worker_id = NULL, epoch = epoch + 1 WHERE worker_id = $1", worker_id
    )
    await connection.execute("DELETE FROM workers WHERE id = $1", worker_id)
    await connection.execute("SELECT pg_notify($1, '')", LEASE_BELL)


# Intents of workers that are gone and hold no channel any more: others have taken them all and raised the epochs, so
# what is still `sending` at an older epoch than its channel's was left by the dead one, and may have gone out.
# Code 0 stands for "no answer of Meta's".
_ADOPT = f"""
WITH dead AS (
    SELECT i.worker_id, i.id, i.workspace_ids, i.message_ids
    FROM intents i
    WHERE NOT EXISTS (SELECT FROM workers w WHERE w.id = i.worker_id AND w.expires_at > clock_timestamp())
      AND NOT EXISTS (SELECT FROM channel_leases l WHERE l.worker_id = i.worker_id)
    ORDER BY i.worker_id, i.id
    LIMIT 100
    FOR UPDATE OF i SKIP LOCKED
), orphan AS (
    SELECT m.workspace_id, m.id, dead.worker_id
    FROM dead, unnest(dead.workspace_ids, dead.message_ids) AS m (workspace_id, id)
), doubtful AS (
    UPDATE outbox o SET state = 'u', due_at = 'infinity', error_code = 0, error_subcode = 0,
        error_title = 'The worker ended before the answer came.'
    FROM orphan m, channel_leases l
    WHERE o.workspace_id = m.workspace_id AND o.id = m.id AND o.state = 's'
      AND l.workspace_id = o.workspace_id AND l.channel_id = o.channel_id AND o.epoch < l.epoch
    RETURNING o.workspace_id, o.id, o.channel_id, o.run_id, o.recipient, o.content, o.attempt, o.intent_at, m.worker_id,
              CASE WHEN m.worker_id NOT IN ({LIVING}) THEN clock_timestamp() END AS ended_at
), noted AS ({NOTE}), counted AS (
    INSERT INTO run_deltas (workspace_id, run_id, uncertain)
    SELECT workspace_id, run_id, count(*) FROM doubtful GROUP BY workspace_id, run_id
), forgotten AS (
    DELETE FROM intents i USING dead d WHERE i.worker_id = d.worker_id AND i.id = d.id
)
SELECT count(*) FROM doubtful
"""


async def adopt_orphans(connection: Connection) -> int:
    """Turns what dead workers had in flight into doubts; returns how many messages."""
    count: int = await connection.fetchval(_ADOPT)
    return count


async def take_commands(connection: Connection, worker_id: WorkerId) -> list[tuple[int, int, str]]:
    """(workspace, channel, name) of the commands for this worker's channels; each is taken once."""
    rows = await connection.fetch(
        """DELETE FROM commands c USING channel_leases l
           WHERE l.workspace_id = c.workspace_id AND l.channel_id = c.channel_id AND l.worker_id = $1
           RETURNING c.workspace_id, c.channel_id, c.name""",
        worker_id,
    )
    return [tuple(row) for row in rows]
