"""What is still to be sent: reading ahead, storing intents, and putting back what was proven not accepted.

    ready ──intent──▶ sending ──settlement──▶ (deliveries)
      ▲                  │ └──doubt──▶ uncertain ──settlement by evidence──▶ (deliveries)
      └──────retry───────┘

Reading writes nothing: the lease makes the lane the only reader of its channel. An intent is a heap-only update,
because no index names what it changes. Uncertain rows lie at due_at = infinity, out of every reader's way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pombo.domain.classes import MessageClass
from pombo.store import doubts
from pombo.store.database import Connection
from pombo.store.doubts import NOTE, DoubtKey

BEGINNING = (datetime(1970, 1, 1, tzinfo=UTC), 0)
"""A cursor before every message."""


class Reading(NamedTuple):
    """One stream to read: after which (due_at, id), how many at most."""

    workspace_id: int
    channel_id: int
    run_id: int
    after_due_at: datetime
    after_id: int
    limit: int


_READ_AHEAD = """
SELECT k.ordinality, o.due_at, o.id, o.attempt, o.uncounted, o.recipient, o.variables, o.content
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::timestamptz[], $5::bigint[], $6::integer[])
    WITH ORDINALITY AS k (workspace_id, channel_id, run_id, after_due_at, after_id, n)
CROSS JOIN LATERAL (
    SELECT o.due_at, o.id, o.attempt, o.uncounted, o.recipient, o.variables, o.content
    FROM outbox o
    WHERE o.workspace_id = k.workspace_id AND o.channel_id = k.channel_id AND o.run_id = k.run_id
      AND (o.due_at, o.id) > (k.after_due_at, k.after_id) AND o.due_at <= now()
      AND o.state = 'r'
    ORDER BY o.due_at, o.id
    LIMIT k.n
) o
"""


async def read_ahead(connection: Connection, readings: Sequence[Reading]) -> list[Any]:
    """Due messages of several streams, in order.

    Rows: (1-based index of the reading, due_at, id, attempt, uncounted, recipient, variables, content); the last two as
    JSON text or None.
    """
    return await connection.fetch(_READ_AHEAD, *map(list, zip(*readings, strict=True)))


# The lease rows are locked for key share: a takeover locks them for update, so it waits for this statement's commit,
# and this statement, when it comes second, finds the epoch raised and sends nothing. Leases are probed one by one and
# then looked up in an array, because a join of two lists whose sizes the planner cannot know is quadratic at its worst
# (500 channels: 97 ms instead of 4). `+ 0` keeps the planner to the primary key: while the outbox is not analyzed yet,
# it took the channel's index for as good, and read all of its messages for each one (1.5 s instead of 5 ms).
_INTENT = """
WITH leased AS (
    SELECT l.channel_id
    FROM unnest($6::bigint[], $7::bigint[], $8::bigint[]) AS c (workspace_id, channel_id, epoch)
    CROSS JOIN LATERAL (
        SELECT l.channel_id FROM channel_leases l
        WHERE l.workspace_id = c.workspace_id AND l.channel_id = c.channel_id AND l.epoch = c.epoch
          AND l.worker_id = $1
        FOR KEY SHARE
    ) l
    WHERE EXISTS (SELECT FROM workers WHERE id = $1 AND expires_at > clock_timestamp())
), sending AS (
    UPDATE outbox o SET state = 's', attempt = o.attempt + 1, epoch = ($8::bigint[])[w.lease], intent_at = now()
    FROM unnest($3::bigint[], $4::smallint[], $5::smallint[]) AS w (id, lease, attempt)
    WHERE o.workspace_id = ($6::bigint[])[w.lease] AND o.id = w.id AND o.state = 'r'
      AND o.attempt = coalesce(w.attempt, 0::smallint)
      AND o.channel_id + 0 = ANY (ARRAY (SELECT channel_id FROM leased))
    RETURNING o.workspace_id, o.id
), noted AS (
    INSERT INTO intents (worker_id, id, workspace_ids, message_ids)
    SELECT $1, $2, array_agg(workspace_id), array_agg(id) FROM sending HAVING count(*) > 0
)
SELECT now() AS at, (SELECT array_agg(id) FROM sending) AS ids
"""


# A statement of intents that the server has not ended by then (`bound`) was cut off from us.
INTENT_TIMEOUT_S = 9.0


async def bound(connection: Connection) -> None:
    """For the connection that stores intents: a statement that lost its client is over after 8 s at most."""
    await connection.execute("SET statement_timeout = '8s'")


async def store_intents(
    connection: Connection,
    worker_id: int,
    intent_id: int,
    messages: Sequence[tuple[int, int, int]],
    leases: Sequence[tuple[int, int, int]],
) -> tuple[datetime, list[int]]:
    """The intent for the messages that leave now, one autocommit statement; only the returned ids may leave.

    `leases` holds (workspace, channel, epoch) once for every channel in the batch, `messages` (message, number of its
    lease from 1, attempts so far). The time is that of the intent: its day (UTC) is part of the send key. A
    message whose id is not returned is no longer ours to send, not ready, or was tried since it was read.
    """
    ids, numbers, attempts = map(list, zip(*messages, strict=True))
    row = await connection.fetchrow(
        _INTENT,
        worker_id,
        intent_id,
        ids,
        numbers,
        # unnest fills up what is missing with NULL: in nearly all batches nothing was tried before.
        attempts if any(attempts) else [],
        *map(list, zip(*leases, strict=True)),
        timeout=INTENT_TIMEOUT_S,
    )
    assert row is not None
    return row["at"], row["ids"] or []


@dataclass(frozen=True, slots=True)
class Undecided:
    """An attempt that is over without settling its message: put back to be tried again, or doubtful."""

    workspace_id: int
    channel_id: int
    message_id: int
    attempt: int
    error_code: int
    error_subcode: int
    error_title: str
    delay_s: float = 0.0
    """For a retry: from now by the database's clock."""
    counts: bool = True
    """For a retry: whether the attempt counts against the limit."""
    message_class: int = MessageClass.BULK


# The row of the intents is stored with them, in one statement: it tells whether that statement has committed, and for
# which messages. (Attempt numbers do not: the next attempt after one that never was has the same.) What comes back is
# due after its successors now, so a new owner must be told that it goes before them.
_REVOKE = """
WITH gone AS (
    DELETE FROM intents WHERE worker_id = $1 AND id = $2 RETURNING workspace_ids, message_ids
), ready AS (
    UPDATE outbox o SET state = 'r', due_at = now(), uncounted = o.uncounted + 1
    FROM gone, unnest(gone.workspace_ids, gone.message_ids) AS m (workspace_id, id)
    WHERE o.workspace_id = m.workspace_id AND o.id = m.id AND o.state = 's'
    RETURNING o.workspace_id, o.id, o.channel_id, o.run_id, o.recipient
)
INSERT INTO retries (workspace_id, message_id, channel_id, class, recipient)
SELECT r.workspace_id, r.id, r.channel_id,
       coalesce((SELECT class FROM streams s WHERE s.workspace_id = r.workspace_id AND s.channel_id = r.channel_id
                                               AND s.run_id = r.run_id), 2),
       r.recipient
FROM ready r
ON CONFLICT DO NOTHING
"""


async def revoke_intent(connection: Connection, worker_id: int, intent_id: int) -> None:
    """Of an intent statement whose answer was lost, so that nothing was sent: if it has committed, it is undone."""
    await connection.execute(_REVOKE, worker_id, intent_id)


# Both are facts about one attempt, so they hold whoever the channel's owner is by now, as long as the row is still at
# that attempt. A message that was in doubt meanwhile (its worker was taken for dead) leaves it again. Rows are locked
# first, so that `was` is what each really was, whatever a takeover does at the same time.
_RETRY = """
WITH proof AS (
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::float8[], $5::boolean[], $6::integer[],
                         $7::integer[], $8::text[], $9::smallint[])
        AS r (workspace_id, id, attempt, delay, counts, code, subcode, title, class)
), found AS (
    SELECT r.*, o.run_id, o.state AS was FROM proof r
    JOIN outbox o ON o.workspace_id = r.workspace_id AND o.id = r.id AND o.attempt = r.attempt
    WHERE o.state IN ('s', 'u')
    FOR UPDATE OF o
), counted AS (
    INSERT INTO run_deltas (workspace_id, run_id, uncertain)
    SELECT workspace_id, run_id, -count(*) FROM found WHERE was = 'u' GROUP BY workspace_id, run_id
), ready AS (
    UPDATE outbox o SET state = 'r', due_at = now() + f.delay * interval '1 second',
        uncounted = o.uncounted + CASE WHEN f.counts THEN 0 ELSE 1 END,
        error_code = f.code, error_subcode = f.subcode, error_title = f.title
    FROM found f
    WHERE o.workspace_id = f.workspace_id AND o.id = f.id
    RETURNING o.workspace_id, o.id, o.channel_id, f.class, o.recipient
), waiting AS (
    INSERT INTO retries (workspace_id, message_id, channel_id, class, recipient)
    SELECT workspace_id, id, channel_id, class, recipient FROM ready
    ON CONFLICT DO NOTHING
)
SELECT workspace_id, id, attempt FROM found WHERE was = 'u'
"""

# What a takeover has made doubtful already is reported all the same: from then on nothing of the attempt can leave.
_DOUBT = f"""
WITH report AS (
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::integer[], $5::integer[], $6::text[])
        AS r (workspace_id, id, attempt, code, subcode, title)
), found AS (
    SELECT r.*, o.state AS was FROM report r
    JOIN outbox o ON o.workspace_id = r.workspace_id AND o.id = r.id AND o.attempt = r.attempt
    WHERE o.state IN ('s', 'u')
    FOR UPDATE OF o
), doubtful AS (
    UPDATE outbox o SET state = 'u', due_at = 'infinity', error_code = f.code, error_subcode = f.subcode,
        error_title = f.title
    FROM found f
    WHERE o.workspace_id = f.workspace_id AND o.id = f.id
    RETURNING o.workspace_id, o.id, o.channel_id, o.run_id, o.recipient, o.content, o.attempt, o.intent_at,
              NULL::bigint AS worker_id, clock_timestamp() AS ended_at, f.was
), noted AS ({NOTE})
INSERT INTO run_deltas (workspace_id, run_id, uncertain)
SELECT workspace_id, run_id, count(*) FROM doubtful WHERE was = 's' GROUP BY workspace_id, run_id
"""


async def put_back(connection: Connection, retries: Sequence[Undecided]) -> None:
    """Proven not accepted: ready again after each one's delay."""
    doubtful = await connection.fetch(
        _RETRY,
        [r.workspace_id for r in retries],
        [r.message_id for r in retries],
        [r.attempt for r in retries],
        [r.delay_s for r in retries],
        [r.counts for r in retries],
        [r.error_code for r in retries],
        [r.error_subcode for r in retries],
        [r.error_title for r in retries],
        [r.message_class for r in retries],
    )
    await doubts.forget(connection, [DoubtKey(*key) for key in doubtful])


async def doubt(connection: Connection, undecided: Sequence[Undecided]) -> None:
    """Perhaps accepted, and over: nothing of these attempts can leave any more."""
    await connection.execute(
        _DOUBT,
        [d.workspace_id for d in undecided],
        [d.message_id for d in undecided],
        [d.attempt for d in undecided],
        [d.error_code for d in undecided],
        [d.error_subcode for d in undecided],
        [d.error_title for d in undecided],
    )


class OpenStreams(NamedTuple):
    at: datetime | None
    """By the database's clock; None when there are none."""
    streams: list[tuple[int, int, int, int]]
    """Each one's workspace, channel, run and class."""


async def open_streams(connection: Connection, worker_id: int) -> OpenStreams:
    """Every open stream of the worker's channels, none of a halted workspace."""
    rows = await connection.fetch(
        """SELECT s.workspace_id, s.channel_id, s.run_id, s.class, clock_timestamp() FROM streams s
           JOIN channel_leases l USING (workspace_id, channel_id)
           WHERE l.worker_id = $1 AND s.state = 'open'
             AND NOT EXISTS (SELECT FROM halts h WHERE h.workspace_id = s.workspace_id)""",
        worker_id,
    )
    return OpenStreams(rows[0][4] if rows else None, [tuple(row)[:4] for row in rows])


async def run_content(connection: Connection, workspace_id: int, run_id: int) -> str | None:
    """The run's content as JSON text."""
    content: str | None = await connection.fetchval(
        "SELECT content FROM runs WHERE workspace_id = $1 AND id = $2", workspace_id, run_id
    )
    return content
