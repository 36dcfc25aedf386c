"""Receipts: how the delivery log learns what became of accepted messages.

A receipt names its message by our send key, by Meta's id, or (Messenger's watermarks) by recipient and time. It is
first located, which only reads, then all that was located moves in one statement. That statement is the only one
that changes a receipt's columns, and it computes maxima of states and minima of times: receipts may come twice, in
any order and through any worker, and end in the same rows and the same figures.

    accepted ──▶ undelivered ──▶ delivered ──▶ read        never backwards; read implies delivered

What matches nothing waits: Meta's receipt can overtake our own outcome. Two sides then look for each other, and each
writes and commits before it looks, so at least one sees the other:

    ingest    keep (pending_receipts, watermarks) │ commit │ catch_up     looks at deliveries
    sending   settle (deliveries)                 │ commit │ apply_pending looks at what is kept

A crash between the commit and the look is made good by upkeep, which looks again at what was kept of late.

All functions want a transaction: they switch off plans that read whole tables for its duration, since PostgreSQL would
keep such a plan from the time when today's partition was still empty.
"""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Any, NamedTuple

import asyncpg

from pombo.store.database import Connection

TRY_AGAIN = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
"""Two transactions were in each other's way: the same again, from the start, goes through."""


class Receipt(NamedTuple):
    """One message's new state; a rank above ACCEPTED."""

    workspace_id: int
    channel_id: int
    provider_id: str
    state: int
    at: datetime
    error_code: int | None = None
    error_title: str | None = None
    message_id: int | None = None
    """Ours, with the day of the attempt's intent, when the receipt carried the send key."""
    day: date | None = None


class Watermark(NamedTuple):
    """All that the channel sent to the recipient up to `until` (milliseconds, as Meta counts) is in `state`."""

    workspace_id: int
    channel_id: int
    recipient: str
    state: int
    until: datetime


class AcceptedMessage(NamedTuple):
    workspace_id: int
    channel_id: int
    message_id: int
    provider_id: str
    since: date | None = None
    """The earliest day it can lie at in the delivery log; None: yesterday."""


class _Move(NamedTuple):
    """A located message and what it shall become."""

    workspace_id: int
    id: int
    day: date
    state: int
    at: datetime
    error_code: int | None = None
    error_title: str | None = None


_BY_INDEX = """
SELECT set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),
       set_config('enable_mergejoin', 'off', true)
"""

# Days that can hold anything: partitions are made ahead, and each would cost a probe per message. A clock's minute
# around midnight is why tomorrow counts.
_TODAY = "(now() AT TIME ZONE 'UTC')::date"
_UNTIL_TOMORROW = f"d.day <= {_TODAY} + 1"
_NEWEST_DAYS = f"d.day BETWEEN {_TODAY} - 1 AND {_TODAY} + 1"
_OLDER_DAYS = f"d.day < {_TODAY} - 1"

_LOCATE_BY_KEY = f"""
SELECT r.n, d.id, d.day
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::date[]) WITH ORDINALITY
    AS r (workspace_id, channel_id, id, day, n)
JOIN deliveries d ON d.workspace_id = r.workspace_id AND d.id = r.id AND d.channel_id = r.channel_id
                 AND d.day >= r.day AND {_UNTIL_TOMORROW}
"""

_LOCATE_BY_PROVIDER_ID = """
SELECT r.n, d.id, d.day
FROM unnest($1::bigint[], $2::bigint[], $3::text[]) WITH ORDINALITY
    AS r (workspace_id, channel_id, provider_id, n)
JOIN deliveries d ON d.workspace_id = r.workspace_id AND d.channel_id = r.channel_id AND d.provider_id = r.provider_id
                 AND """
_LOCATE_AMONG_NEWEST = _LOCATE_BY_PROVIDER_ID + _NEWEST_DAYS
_LOCATE_AMONG_OLDER = _LOCATE_BY_PROVIDER_ID + _OLDER_DAYS

# A message that was accepted, lies below the mark and would gain from it. `until` is in whole milliseconds.
_BELOW_MARK = """d.intent_at < date_trunc('milliseconds', w.until) + interval '1 millisecond' AND d.state >= 2
    AND (d.state < w.state OR d.delivered_at > w.until OR w.state = 5 AND d.read_at > w.until)"""

_LOCATE_BY_WATERMARK = f"""
SELECT d.workspace_id, d.id, d.day, w.state, w.until
FROM (
    SELECT workspace_id, channel_id, recipient, state, least(until, now()) AS until
    FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::smallint[], $5::timestamptz[])
        AS w (workspace_id, channel_id, recipient, state, until)
) w
JOIN deliveries d ON d.workspace_id = w.workspace_id AND d.channel_id = w.channel_id AND d.recipient = w.recipient
                 AND {_UNTIL_TOMORROW}
WHERE {_BELOW_MARK}
"""

_LOCATE_BY_KEPT_WATERMARK = f"""
SELECT d.workspace_id, d.id, d.day, w.state, w.until
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::date[]) AS a (workspace_id, channel_id, id, since)
JOIN deliveries d ON d.workspace_id = a.workspace_id AND d.id = a.id AND d.channel_id = a.channel_id
                 AND d.day >= coalesce(a.since, {_TODAY} - 1) AND {_UNTIL_TOMORROW}
JOIN watermarks w ON w.workspace_id = d.workspace_id AND w.channel_id = d.channel_id AND w.recipient = d.recipient
WHERE {_BELOW_MARK}
"""

_CHANNELS_WITH_WATERMARKS = """
SELECT c.workspace_id, c.channel_id FROM unnest($1::bigint[], $2::bigint[]) AS c (workspace_id, channel_id)
WHERE EXISTS (SELECT FROM watermarks w WHERE w.workspace_id = c.workspace_id AND w.channel_id = c.channel_id)
"""

# What waits is found by its key and locked in one order first, so that two that take the same never wait for each
# other; then each is taken with the day at which its message lies.
_TAKE_KEPT = f"""
WITH waiting AS (
    SELECT p.workspace_id, p.channel_id, p.provider_id, p.state, a.id, a.since
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::date[])
        AS a (workspace_id, channel_id, id, provider_id, since)
    JOIN pending_receipts p USING (workspace_id, channel_id, provider_id)
    ORDER BY p.workspace_id, p.channel_id, p.provider_id, p.state
    FOR UPDATE OF p
)
DELETE FROM pending_receipts p USING waiting w
JOIN deliveries d ON d.workspace_id = w.workspace_id AND d.id = w.id
                 AND d.day >= coalesce(w.since, {_TODAY} - 1) AND {_UNTIL_TOMORROW}
WHERE p.workspace_id = w.workspace_id AND p.channel_id = w.channel_id AND p.provider_id = w.provider_id
  AND p.state = w.state
RETURNING d.workspace_id, d.id, d.day, p.state, p.at, p.error_code, p.error_title
"""

_KEEP_RECEIPTS = """
INSERT INTO pending_receipts AS p (workspace_id, channel_id, provider_id, state, at, error_code, error_title)
SELECT DISTINCT ON (workspace_id, channel_id, provider_id, state) *
FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::smallint[], $5::timestamptz[], $6::integer[], $7::text[])
    AS r (workspace_id, channel_id, provider_id, state, at, error_code, error_title)
ORDER BY workspace_id, channel_id, provider_id, state, at
ON CONFLICT (workspace_id, channel_id, provider_id, state) DO UPDATE SET
    at = excluded.at, error_code = excluded.error_code, error_title = excluded.error_title
WHERE excluded.at < p.at
"""

# A mark in the future would cover messages that are not sent yet, so it ends now.
_KEEP_WATERMARKS = """
INSERT INTO watermarks AS m (workspace_id, channel_id, recipient, state, until)
SELECT workspace_id, channel_id, recipient, state, least(max(until), now())
FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::smallint[], $5::timestamptz[])
    AS w (workspace_id, channel_id, recipient, state, until)
GROUP BY workspace_id, channel_id, recipient, state
ORDER BY workspace_id, channel_id, recipient, state
ON CONFLICT (workspace_id, channel_id, recipient, state) DO UPDATE SET until = excluded.until, received_at = now()
WHERE excluded.until > m.until
"""

# Rows are locked in order of their ids and read anew under the lock, so `was` is what each row really was.
_MOVE = """
WITH incoming AS (
    SELECT workspace_id, id, day, max(state) AS state,
           min(at) FILTER (WHERE state >= 4) AS delivered_at,
           min(at) FILTER (WHERE state = 5) AS read_at,
           min(at) FILTER (WHERE state = 3) AS failed_at,
           (array_agg(error_code ORDER BY at) FILTER (WHERE state = 3))[1] AS error_code,
           (array_agg(error_title ORDER BY at) FILTER (WHERE state = 3))[1] AS error_title
    FROM unnest($1::bigint[], $2::bigint[], $3::date[], $4::smallint[], $5::timestamptz[], $6::integer[], $7::text[])
        AS r (workspace_id, id, day, state, at, error_code, error_title)
    GROUP BY workspace_id, id, day
), found AS (
    SELECT i.*, d.state AS was
    FROM incoming i
    JOIN deliveries d ON d.workspace_id = i.workspace_id AND d.id = i.id AND d.day = i.day
    WHERE d.state >= 2
      AND (d.state < i.state OR d.delivered_at > i.delivered_at OR d.read_at > i.read_at
           OR d.state = 3 AND d.failed_at > i.failed_at)
    ORDER BY d.workspace_id, d.id
    FOR UPDATE OF d
), moved AS (
    UPDATE deliveries d SET
        state = greatest(d.state, f.state),
        delivered_at = least(d.delivered_at, f.delivered_at),
        read_at = least(d.read_at, f.read_at),
        failed_at = CASE WHEN greatest(d.state, f.state) = 3 THEN least(d.failed_at, f.failed_at) END,
        error_code = CASE WHEN greatest(d.state, f.state) = 3 THEN f.error_code END,
        error_subcode = NULL,
        error_title = CASE WHEN greatest(d.state, f.state) = 3 THEN f.error_title END
    FROM found f
    WHERE d.workspace_id = f.workspace_id AND d.id = f.id AND d.day = f.day
    RETURNING d.workspace_id, d.run_id, f.was, d.state AS is_now
)
INSERT INTO run_deltas (workspace_id, run_id, delivered, read, undelivered)
SELECT workspace_id, run_id,
       count(*) FILTER (WHERE was < 4 AND is_now >= 4),
       count(*) FILTER (WHERE was < 5 AND is_now = 5),
       count(*) FILTER (WHERE was < 3 AND is_now = 3) - count(*) FILTER (WHERE was = 3 AND is_now > 3)
FROM moved WHERE was < is_now
GROUP BY workspace_id, run_id
"""


_KEPT_RECEIPTS = """
SELECT workspace_id, channel_id, provider_id, state, at, error_code, error_title
FROM pending_receipts
WHERE received_at >= $1 AND (workspace_id, channel_id, provider_id, state) > ($2, $3, $4, $5)
ORDER BY workspace_id, channel_id, provider_id, state LIMIT $6
"""

_KEPT_WATERMARKS = """
SELECT workspace_id, channel_id, recipient, state, until
FROM watermarks
WHERE received_at >= $1 AND (workspace_id, channel_id, recipient, state) > ($2, $3, $4, $5)
ORDER BY workspace_id, channel_id, recipient, state LIMIT $6
"""


async def apply(connection: Connection, receipts: Sequence[Receipt]) -> list[Receipt]:
    """Moves what it finds; returns the receipts that match no message yet."""
    await connection.execute(_BY_INDEX)
    located, unmatched = await _locate(connection, receipts)
    await _move(
        connection,
        [
            _Move(receipt.workspace_id, id, day, receipt.state, receipt.at, receipt.error_code, receipt.error_title)
            for receipt, id, day in located
        ],
    )
    return unmatched


async def keep(connection: Connection, receipts: Sequence[Receipt], watermarks: Sequence[Watermark]) -> None:
    """Stores what `apply` matched with nothing, and every watermark, for messages settled later.

    After its commit the caller must `catch_up` with the same.
    """
    if receipts:
        await connection.execute(_KEEP_RECEIPTS, *_columns([receipt[:7] for receipt in receipts]))
    if watermarks:
        await connection.execute(_KEEP_WATERMARKS, *_columns(watermarks))


async def catch_up(
    connection: Connection,
    receipts: Sequence[Receipt] = (),
    watermarks: Sequence[Watermark] = (),
    settled: Sequence[AcceptedMessage] = (),
) -> None:
    """The look at `deliveries` that follows `keep`'s commit, and at what was kept for those just `settled`."""
    await connection.execute(_BY_INDEX)
    located, _ = await _locate(connection, receipts)
    accepted = [
        *settled,
        *(AcceptedMessage(r.workspace_id, r.channel_id, id, r.provider_id, day) for r, id, day in located),
    ]
    moves = await _take_kept(connection, accepted)
    moves += await _marked(connection, settled)
    if watermarks:
        rows = await connection.fetch(_LOCATE_BY_WATERMARK, *_columns(watermarks))
        moves += [_Move(*row) for row in rows]
    await _move(connection, moves)


async def apply_pending(
    connection: Connection,
    workspace_ids: Sequence[int],
    channel_ids: Sequence[int],
    message_ids: Sequence[int],
    provider_ids: Sequence[str],
) -> None:
    """Applies what was kept for messages just accepted; call it after the commit that put them into `deliveries`.

    The sequences run in parallel. Costs one index probe a message where nothing waits.
    """
    settled = map(AcceptedMessage, workspace_ids, channel_ids, message_ids, provider_ids)
    await catch_up(connection, settled=list(settled))


async def kept_receipts(connection: Connection, since: datetime, after: Receipt | None, limit: int) -> list[Receipt]:
    """A page of those kept since then, in order of their key, after the last of the former page."""
    cursor = (0, 0, "", 0) if after is None else after[:4]
    return [Receipt(*row) for row in await connection.fetch(_KEPT_RECEIPTS, since, *cursor, limit)]


async def kept_watermarks(
    connection: Connection, since: datetime, after: Watermark | None, limit: int
) -> list[Watermark]:
    """A page of those kept since then, in order of their key, after the last of the former page."""
    cursor = (0, 0, "", 0) if after is None else after[:4]
    return [Watermark(*row) for row in await connection.fetch(_KEPT_WATERMARKS, since, *cursor, limit)]


async def _locate(
    connection: Connection, receipts: Sequence[Receipt]
) -> tuple[list[tuple[Receipt, int, date]], list[Receipt]]:
    """(receipt, message id, day) of those found, and those not found."""
    keyed = [receipt for receipt in receipts if receipt.message_id is not None]
    named = [receipt for receipt in receipts if receipt.message_id is None]
    columns = [(r.workspace_id, r.channel_id, r.message_id, r.day) for r in keyed]
    by_key, unmatched = await _find(connection, _LOCATE_BY_KEY, keyed, columns)
    newest, missing = await _find(connection, _LOCATE_AMONG_NEWEST, named, [r[:3] for r in named])
    # Nearly all belong to today or yesterday; only what is left costs a probe in each older partition.
    older, foreign = await _find(connection, _LOCATE_AMONG_OLDER, missing, [r[:3] for r in missing])
    return by_key + newest + older, unmatched + foreign


async def _find(
    connection: Connection, statement: str, receipts: Sequence[Receipt], rows: Sequence[tuple[Any, ...]]
) -> tuple[list[tuple[Receipt, int, date]], list[Receipt]]:
    if not receipts:
        return [], []
    hits = await connection.fetch(statement, *_columns(rows))
    found = {n for n, _, _ in hits}
    missing = [receipt for n, receipt in enumerate(receipts, 1) if n not in found]
    return [(receipts[n - 1], id, day) for n, id, day in hits], missing


async def _take_kept(connection: Connection, accepted: Sequence[AcceptedMessage]) -> list[_Move]:
    if not accepted:
        return []
    return [_Move(*row) for row in await connection.fetch(_TAKE_KEPT, *_columns(accepted))]


async def _marked(connection: Connection, settled: Sequence[AcceptedMessage]) -> list[_Move]:
    """Those that a kept watermark covers. Most channels (all of WhatsApp's) have none, which is cheap to know."""
    channels = list({(message.workspace_id, message.channel_id) for message in settled})
    if not channels:
        return []
    marked = {tuple(row) for row in await connection.fetch(_CHANNELS_WITH_WATERMARKS, *_columns(channels))}
    messages = [
        (message.workspace_id, message.channel_id, message.message_id, message.since)
        for message in settled
        if (message.workspace_id, message.channel_id) in marked
    ]
    if not messages:
        return []
    return [_Move(*row) for row in await connection.fetch(_LOCATE_BY_KEPT_WATERMARK, *_columns(messages))]


async def _move(connection: Connection, moves: Sequence[_Move]) -> None:
    if moves:
        await connection.execute(_MOVE, *_columns(moves))


def _columns(rows: Iterable[tuple[Any, ...]]) -> list[list[Any]]:
    return list(map(list, zip(*rows, strict=True)))
