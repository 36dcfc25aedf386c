"""Calls to Meta that are no sends: profiles, media, history, typing. Rows that the channel's lease owner carries out.

    ready ──answer──▶ gone (its handler's transaction), or ──▶ fetched ──applied by ingest──▶ gone
      ▲ │
      │ └──refused for good, or too often or long──▶ failed (kept for a week)
      └──refused for now

Each may be carried out twice: by an owner that died before it could tell, or by two at a takeover. So what is under way
stands nowhere, and its answer counts only while the row is still there (`finish`).
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from pombo.store.database import Connection
from pombo.store.planning import columns

BELL = "pombo_jobs"
"""Rung when something is to be done at Meta."""
FETCHED_BELL = "pombo_fetched"
"""Rung when an answer waits for ingest."""


class NewJob(NamedTuple):
    workspace_id: int
    channel_id: int
    kind: str
    payload: str
    """JSON text."""
    dedupe_key: str | None = None
    expires_in_s: float | None = None
    due_in_s: float = 0.0


class Job(NamedTuple):
    workspace_id: int
    id: int
    channel_id: int
    kind: str
    payload: str
    attempts: int
    age_s: float


class FetchedJob(NamedTuple):
    workspace_id: int
    id: int
    channel_id: int
    kind: str
    payload: str
    result: str


_ADD = """
INSERT INTO channel_jobs (workspace_id, channel_id, kind, payload, dedupe_key, expires_at, due_at)
SELECT workspace_id, channel_id, kind, payload, dedupe_key,
       coalesce(clock_timestamp() + make_interval(secs => expires_in_s), 'infinity'),
       clock_timestamp() + make_interval(secs => due_in_s)
FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::jsonb[], $5::text[], $6::float8[], $7::float8[])
    AS n (workspace_id, channel_id, kind, payload, dedupe_key, expires_in_s, due_in_s)
ON CONFLICT (workspace_id, dedupe_key) WHERE state <> 'failed' DO NOTHING
"""

# A loose scan: from channel to channel that has any job, so that neither idle channels nor long queues cost anything.
# Each kind for itself, so that a thousand files of the past hold up no upload; what people wait for comes first.
_DUE = """
WITH RECURSIVE busy AS (
    (SELECT workspace_id, channel_id FROM channel_jobs WHERE state = 'ready' ORDER BY workspace_id, channel_id LIMIT 1)
    UNION ALL
    SELECT n.workspace_id, n.channel_id FROM busy b CROSS JOIN LATERAL (
        SELECT j.workspace_id, j.channel_id FROM channel_jobs j
        WHERE j.state = 'ready' AND (j.workspace_id, j.channel_id) > (b.workspace_id, b.channel_id)
        ORDER BY j.workspace_id, j.channel_id LIMIT 1
    ) n
)
SELECT j.* FROM busy b
JOIN channel_leases l ON l.workspace_id = b.workspace_id AND l.channel_id = b.channel_id AND l.worker_id = $1
CROSS JOIN unnest(ARRAY['sender_action', 'upload', 'profile', 'conversations', 'media']) WITH ORDINALITY AS k (kind, n)
CROSS JOIN LATERAL (
    SELECT j.workspace_id, j.id, j.channel_id, j.kind, j.payload, j.attempts,
           extract(epoch FROM clock_timestamp() - j.created_at)::float8
    FROM channel_jobs j
    WHERE j.workspace_id = b.workspace_id AND j.channel_id = b.channel_id AND j.kind = k.kind AND j.state = 'ready'
      AND j.due_at <= clock_timestamp() AND j.id <> ALL ($2::bigint[])
    ORDER BY j.due_at, j.id LIMIT $3
) j
ORDER BY k.n, j.workspace_id, j.channel_id, j.id
"""

_FINISH = "DELETE FROM channel_jobs WHERE workspace_id = $1 AND id = $2 AND state = 'ready' RETURNING id"

_FETCHED = """
WITH stored AS (
    UPDATE channel_jobs SET state = 'fetched', result = $3 WHERE workspace_id = $1 AND id = $2 AND state = 'ready'
    RETURNING id
)
SELECT pg_notify($4, '') FROM stored
"""

_RETRY = """
UPDATE channel_jobs SET attempts = attempts + $6, due_at = clock_timestamp() + make_interval(secs => $3),
    error_code = $4, error_title = $5
WHERE workspace_id = $1 AND id = $2 AND state = 'ready'
"""

_FAIL = """
UPDATE channel_jobs SET state = 'failed', failed_at = clock_timestamp(), attempts = attempts + 1, error_code = $3,
    error_title = $4
WHERE workspace_id = $1 AND id = $2 AND state = 'ready' RETURNING id
"""

_TAKE_FETCHED = """
DELETE FROM channel_jobs j USING (
    SELECT workspace_id, id FROM channel_jobs WHERE state = 'fetched' ORDER BY workspace_id, id LIMIT $1
    FOR UPDATE SKIP LOCKED
) t
WHERE j.workspace_id = t.workspace_id AND j.id = t.id
RETURNING j.workspace_id, j.id, j.channel_id, j.kind, j.payload, j.result
"""

_SWEEP = """
DELETE FROM channel_jobs
WHERE state = 'ready' AND expires_at < clock_timestamp()
   OR state = 'failed' AND failed_at < clock_timestamp() - interval '7 days'
"""


async def add(connection: Connection, jobs: Sequence[NewJob]) -> None:
    """In the transaction of what makes them necessary; the bell rings at its commit."""
    if jobs:
        await connection.execute(_ADD, *columns(jobs))
        await connection.execute("SELECT pg_notify($1, '')", BELL)


async def due(connection: Connection, worker_id: int, excluded: Collection[int], most: int) -> list[Job]:
    """Of the worker's channels, up to `most` of each kind, the longest due; without those under way."""
    return [Job(*row) for row in await connection.fetch(_DUE, worker_id, list(excluded), most)]


async def finish(connection: Connection, job: Job) -> bool:
    """Takes the job away; False where somebody else has. Then its answer must change nothing."""
    return await connection.fetchval(_FINISH, job.workspace_id, job.id) is not None


async def keep_answer(connection: Connection, job: Job, result: str) -> None:
    """For ingest."""
    await connection.execute(_FETCHED, job.workspace_id, job.id, result, FETCHED_BELL)


async def retry(
    connection: Connection, job: Job, delay_s: float, code: int | None, title: str, *, counts: bool = True
) -> None:
    await connection.execute(_RETRY, job.workspace_id, job.id, delay_s, code, title, int(counts))


async def fail(connection: Connection, job: Job, code: int | None, title: str) -> bool:
    """False where somebody else has ended it."""
    return await connection.fetchval(_FAIL, job.workspace_id, job.id, code, title) is not None


async def drop_expired(connection: Connection, jobs: Sequence[Job]) -> list[Job]:
    """Takes away those of the jobs whose time is over; returns the others."""
    if not jobs:
        return []
    rows = await connection.fetch(
        """DELETE FROM channel_jobs j USING unnest($1::bigint[], $2::bigint[]) AS d (workspace_id, id)
           WHERE j.workspace_id = d.workspace_id AND j.id = d.id AND j.state = 'ready'
             AND j.expires_at < clock_timestamp() RETURNING j.workspace_id, j.id""",
        [job.workspace_id for job in jobs],
        [job.id for job in jobs],
    )
    gone = {(row[0], row[1]) for row in rows}
    return [job for job in jobs if (job.workspace_id, job.id) not in gone]


async def take_fetched(connection: Connection, limit: int) -> list[FetchedJob]:
    """In a transaction that applies them; others skip them."""
    return [FetchedJob(*row) for row in await connection.fetch(_TAKE_FETCHED, limit)]


async def drop_fetched(connection: Connection, job: FetchedJob) -> bool:
    """Its answer cannot be applied. False where somebody else has taken it."""
    dropped = await connection.fetchval(
        "DELETE FROM channel_jobs WHERE workspace_id = $1 AND id = $2 AND state = 'fetched' RETURNING id",
        job.workspace_id,
        job.id,
    )
    return dropped is not None


async def sweep(connection: Connection) -> int:
    """Of all workspaces."""
    done = await connection.execute(_SWEEP)
    return int(done.rpartition(" ")[2])
