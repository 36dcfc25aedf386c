"""The one settlement: how a message leaves the outbox for the delivery log.

Sending (an answer of Meta's) and ingest (an echo or a status with our send key) use the same statement, so whichever
comes first moves the row and counts it; the other finds it gone and only compares provider ids. Counters come from
the rows that moved, as insert-only deltas: repeats and races change nothing.

Being accepted is evidence and holds whoever reports it and whatever attempt it names. A failure is taken only for the
attempt that the outbox row is at: a later attempt may be under way. Cancelling takes a message only while it waits, for
its first attempt or for another, or in doubt at the very attempt that is named. The log tells the attempts made, and
the time of the last one's intent.
"""

from collections.abc import Sequence
from datetime import date, datetime
from operator import itemgetter
from typing import NamedTuple

from pombo.domain.outcomes import DeliveryState
from pombo.store import campaign_replies, doubts
from pombo.store.database import Connection, atomic
from pombo.store.doubts import DoubtKey

ACCEPTED = DeliveryState.ACCEPTED.rank
FAILED = DeliveryState.FAILED.rank
CANCELLED = DeliveryState.CANCELLED.rank


class Settled(NamedTuple):
    """A message's outcome: accepted with Meta's id, failed with an error, or cancelled, at whatever attempt it is.

    One in doubt is cancelled by naming its attempt.
    """

    workspace_id: int
    channel_id: int
    message_id: int
    attempt: int
    day: date
    """The day of that attempt's intent."""
    state: int
    """ACCEPTED, FAILED or CANCELLED."""
    provider_id: str | None
    """None also when a person says that it was accepted; evidence brings the id later."""
    error_code: int | None = None
    error_subcode: int | None = None
    error_title: str | None = None


class Evidence(NamedTuple):
    """An echo or a status that carried our send key: Meta accepted that attempt."""

    workspace_id: int
    channel_id: int
    message_id: int
    attempt: int
    day: date
    provider_id: str
    at: datetime


_IN_ORDER = itemgetter(0, 2)  # workspace, message

# A message may wait, paused or in doubt, until the log has dropped the day of its intent: then it is logged today.
# Whoever looks for it by its send key looks from that day on.
_LOGGED_ON = """CASE WHEN (intent_at AT TIME ZONE 'UTC')::date BETWEEN (now() AT TIME ZONE 'UTC')::date - 1
                                                            AND (now() AT TIME ZONE 'UTC')::date + 1
                THEN (intent_at AT TIME ZONE 'UTC')::date ELSE (now() AT TIME ZONE 'UTC')::date END"""

# `+ 0`: see the intent (store.outbox).
_SETTLE = f"""
WITH outcome AS (
    SELECT workspace_id, channel_id, id, coalesce(attempt, 1::smallint) AS attempt,
           coalesce(state, 2::smallint) AS state, provider_id, error_code, error_subcode, error_title
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::smallint[], $5::smallint[], $6::text[], $7::integer[],
                $8::integer[], $9::text[])
        AS o (workspace_id, channel_id, id, attempt, state, provider_id, error_code, error_subcode, error_title)
), gone AS (
    DELETE FROM outbox b USING outcome o
    WHERE b.workspace_id = o.workspace_id AND b.id = o.id AND b.channel_id + 0 = o.channel_id
      AND (o.state = 2 AND b.attempt >= o.attempt OR o.state = 1 AND b.attempt = o.attempt AND b.state <> 'r'
           OR o.state = 0 AND (b.state = 'r' OR b.state = 'u' AND b.attempt = o.attempt))
    RETURNING b.workspace_id, b.id, b.run_id, b.channel_id, b.recipient, coalesce(b.intent_at, now()) AS intent_at,
              b.attempt, b.state AS was, CASE WHEN b.content IS NOT NULL THEN message_kind(b.content) END AS kind,
              o.state, o.provider_id, o.error_code, o.error_subcode, o.error_title
), logged AS (
    INSERT INTO deliveries (workspace_id, id, day, run_id, channel_id, intent_at, accepted_at, failed_at, error_code,
                            error_subcode, state, attempt, recipient, provider_id, error_title, kind)
    SELECT workspace_id, id, {_LOGGED_ON}, run_id, channel_id, intent_at,
           CASE WHEN state = 2 THEN clock_timestamp() END, CASE WHEN state = 1 THEN clock_timestamp() END,
           error_code, error_subcode, state, attempt, recipient, provider_id, error_title, kind
    FROM gone
), tried_again AS (
    DELETE FROM retries r USING gone g
    WHERE (g.attempt > 1 OR g.was = 'r') AND r.workspace_id = g.workspace_id AND r.message_id = g.id
), counted AS (
    INSERT INTO run_deltas (workspace_id, run_id, accepted, failed, cancelled, uncertain)
    SELECT workspace_id, run_id, count(*) FILTER (WHERE state = 2), count(*) FILTER (WHERE state = 1),
           count(*) FILTER (WHERE state = 0), -count(*) FILTER (WHERE was = 'u')
    FROM gone GROUP BY workspace_id, run_id
), replied AS (
    INSERT INTO reply_changes (workspace_id, message_id) SELECT workspace_id, id FROM gone WHERE run_id <= 0
), finished AS (
    DELETE FROM intents WHERE worker_id = $10 AND id = ANY ($11::bigint[])
)
SELECT CASE WHEN (SELECT count(*) FROM gone) < cardinality($3)
            THEN (SELECT coalesce(array_agg(id), '{{}}') FROM gone) END AS moved,
       (SELECT array_agg(ROW (workspace_id, id, attempt)) FROM gone WHERE was = 'u') AS doubtful
"""

# Accepted messages whose outbox row was gone: in the delivery log already, by the other witness or as failed. Probed by
# key one by one, in order: the statistics of a partition made today mislead the planner into reading it whole.
_CONFIRM = """
WITH witness AS (
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::date[], $5::text[])
        AS w (workspace_id, channel_id, id, day, provider_id)
), found AS (
    SELECT d.workspace_id, d.id, d.day, d.run_id, d.state AS was, d.provider_id AS known, w.provider_id AS brought,
           d.provider_id <> w.provider_id AS again,
           d.provider_id <> w.provider_id AND d.second_provider_id IS NULL AS twice, d.channel_id, d.recipient
    FROM (SELECT * FROM witness ORDER BY workspace_id, id) w
    CROSS JOIN LATERAL (
        SELECT d.* FROM deliveries d
        WHERE d.workspace_id = w.workspace_id AND d.id = w.id
          AND d.day BETWEEN w.day AND (now() AT TIME ZONE 'UTC')::date + 1
          AND d.channel_id + 0 = w.channel_id
          AND (d.state < 2 OR d.provider_id IS DISTINCT FROM w.provider_id
               AND d.second_provider_id IS DISTINCT FROM w.provider_id)
        FOR UPDATE
    ) d
), corrected AS (
    UPDATE deliveries d SET
        provider_id = coalesce(d.provider_id, f.brought),
        second_provider_id = CASE WHEN f.twice THEN f.brought ELSE d.second_provider_id END,
        accepted_at = coalesce(d.accepted_at, clock_timestamp()),
        state = greatest(d.state, 2::smallint),
        failed_at = CASE WHEN f.was < 2 THEN NULL ELSE d.failed_at END,
        error_code = CASE WHEN f.was < 2 THEN NULL ELSE d.error_code END,
        error_subcode = CASE WHEN f.was < 2 THEN NULL ELSE d.error_subcode END,
        error_title = CASE WHEN f.was < 2 THEN NULL ELSE d.error_title END
    FROM found f
    WHERE d.workspace_id = f.workspace_id AND d.id = f.id AND d.day = f.day
), reported AS (
    INSERT INTO sent_twice (workspace_id, run_id, message_id, provider_id, first_provider_id, channel_id, recipient)
    SELECT workspace_id, run_id, id, brought, known, channel_id, recipient FROM found WHERE again
    ON CONFLICT DO NOTHING
), replied AS (
    INSERT INTO reply_changes (workspace_id, message_id) SELECT workspace_id, id FROM found WHERE run_id <= 0
), counted AS (
    INSERT INTO run_deltas (workspace_id, run_id, accepted, failed, cancelled, sent_twice)
    SELECT workspace_id, run_id, count(*) FILTER (WHERE was < 2), -count(*) FILTER (WHERE was = 1),
           -count(*) FILTER (WHERE was = 0), count(*) FILTER (WHERE twice)
    FROM found GROUP BY workspace_id, run_id
    HAVING count(*) FILTER (WHERE was < 2) > 0 OR count(*) FILTER (WHERE twice) > 0
)
SELECT workspace_id, id FROM found WHERE run_id > 0 AND known IS NULL
"""


async def settle(
    connection: Connection, outcomes: Sequence[Settled], worker_id: int | None = None, finished: Sequence[int] = ()
) -> None:
    """Settles a batch; also forgets the worker's `finished` intents, whose messages are all settled by now.

    At most one outcome per message. Outside a transaction each step commits by itself, which is as safe: the others
    only forget doubts that are over, and add what a witness knows.
    """
    # In one order for all who settle, whatever order webhooks come in, so that two never wait for each other.
    outcomes = sorted(outcomes, key=_IN_ORDER)
    # Built by comprehensions over what is needed: nearly all batches hold nothing but accepted messages at their first
    # attempt, and unnest fills missing elements with NULL, so that the rest need not be encoded at all.
    plain = all(o.state == ACCEPTED for o in outcomes)
    # The ids that moved, or None when all did: finding the rest here is cheaper than an anti-join in the statement.
    [(moved, doubtful)] = await connection.fetch(
        _SETTLE,
        [o.workspace_id for o in outcomes],
        [o.channel_id for o in outcomes],
        [o.message_id for o in outcomes],
        [] if all(o.attempt == 1 for o in outcomes) else [o.attempt for o in outcomes],
        [] if plain else [o.state for o in outcomes],
        [o.provider_id for o in outcomes],
        [] if plain else [o.error_code for o in outcomes],
        [] if plain else [o.error_subcode for o in outcomes],
        [] if plain else [o.error_title for o in outcomes],
        worker_id,
        finished,
    )
    await doubts.forget(connection, [DoubtKey(*key) for key in doubtful or ()])
    if moved is None:
        return
    gone = set(moved)
    witnesses = [o for o in outcomes if o.message_id not in gone and o.state == ACCEPTED]
    if not witnesses:
        return
    async with atomic(connection):
        named = await connection.fetch(
            _CONFIRM,
            [w.workspace_id for w in witnesses],
            [w.channel_id for w in witnesses],
            [w.message_id for w in witnesses],
            [w.day for w in witnesses],
            [w.provider_id for w in witnesses],
        )
        await campaign_replies.tell(connection, [tuple(row) for row in named])


async def settle_evidence(connection: Connection, evidence: Sequence[Evidence]) -> None:
    """Applies echoes and statuses that carry a send key; at most one per message."""
    await settle(
        connection,
        [
            Settled(e.workspace_id, e.channel_id, e.message_id, e.attempt, e.day, ACCEPTED, e.provider_id)
            for e in evidence
        ],
    )
