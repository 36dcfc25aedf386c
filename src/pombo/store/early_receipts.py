"""Receipts that match nothing yet: Meta's receipt can overtake our own outcome, for which it is kept here.

Two sides then look for each other, and each writes and commits before it looks, so at least one sees the other:

    ingest    keep (pending_receipts, watermarks) │ commit │ catch_up     looks at deliveries
    sending   settle (deliveries)                 │ commit │ apply_pending looks at what is kept

A crash between the commit and the look is made good by upkeep, which looks again at what was kept of late.

All functions want a transaction (`apply_pending` opens its own): they set how it plans and commits.
"""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, NamedTuple

from pombo.store.database import Connection, atomic
from pombo.store.planning import columns, plan_by_index
from pombo.store.receipts import DAY, Move, Receipt, Watermark, find, move
from pombo.store.settlement import Settled


class AcceptedMessage(NamedTuple):
    workspace_id: int
    channel_id: int
    message_id: int
    provider_id: str
    since: date | None = None
    """The earliest day at which it can lie in the delivery log; None: yesterday."""


# A message that was accepted, lies below the mark and would gain from it. `until` is in whole milliseconds.
_BELOW_MARK = """d.intent_at < date_trunc('milliseconds', w.until) + interval '1 millisecond' AND d.state >= 2
    AND (d.state < w.state OR d.delivered_at > w.until OR w.state = 5 AND d.read_at > w.until)"""

_LOCATE_BY_WATERMARK = f"""
SELECT w.workspace_id, d.id, d.day, w.state, w.until
FROM (
    SELECT workspace_id, channel_id, recipient, state, least(until, now()) AS until
    FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::smallint[], $5::timestamptz[])
        AS w (workspace_id, channel_id, recipient, state, until)
) w
CROSS JOIN LATERAL (
    SELECT d.id, d.day FROM deliveries d
    WHERE d.workspace_id = w.workspace_id AND d.channel_id = w.channel_id AND d.recipient = w.recipient
      AND d.day <= $6 AND {_BELOW_MARK}
    OFFSET 0
) d
"""

# The messages are read first, whatever the planner thinks: the other way round, all marks of their channels would be.
_LOCATE_BY_KEPT_WATERMARK = f"""
WITH message AS MATERIALIZED (
    SELECT a.workspace_id, a.channel_id, d.*
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS a (workspace_id, channel_id, id)
    CROSS JOIN LATERAL (
        SELECT recipient, id, day, intent_at, state, delivered_at, read_at FROM deliveries
        WHERE workspace_id = a.workspace_id AND id = a.id AND day BETWEEN $4 AND $5
          AND channel_id + 0 = a.channel_id
        OFFSET 0
    ) d
)
SELECT d.workspace_id, d.id, d.day, w.state, w.until
FROM message d
JOIN watermarks w ON w.workspace_id = d.workspace_id AND w.channel_id = d.channel_id AND w.recipient = d.recipient
WHERE {_BELOW_MARK}
"""

_CHANNELS_WITH_WATERMARKS = """
SELECT c.workspace_id, c.channel_id FROM unnest($1::bigint[], $2::bigint[]) AS c (workspace_id, channel_id)
WHERE EXISTS (SELECT FROM watermarks w WHERE w.workspace_id = c.workspace_id AND w.channel_id = c.channel_id)
"""

# The first row of each in its index's order, so that no plan reads a table whole.
_CHANNELS_WITH_KEPT = """
SELECT c.workspace_id, c.channel_id FROM unnest($1::bigint[], $2::bigint[]) AS c (workspace_id, channel_id)
WHERE (SELECT true FROM pending_receipts p WHERE p.workspace_id = c.workspace_id AND p.channel_id = c.channel_id
       ORDER BY p.provider_id LIMIT 1)
   OR (SELECT true FROM watermarks w WHERE w.workspace_id = c.workspace_id AND w.channel_id = c.channel_id
       ORDER BY w.recipient LIMIT 1)
"""

# What waits is found by its key and locked in one order first, so that two that take the same never wait for each
# other; then each is taken with the day at which its message lies.
_TAKE_KEPT = """
WITH waiting AS (
    SELECT p.workspace_id, p.channel_id, p.provider_id, p.state, a.id
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[])
        AS a (workspace_id, channel_id, id, provider_id)
    JOIN pending_receipts p USING (workspace_id, channel_id, provider_id)
    ORDER BY p.workspace_id, p.channel_id, p.provider_id, p.state
    FOR UPDATE OF p
), located AS MATERIALIZED (
    SELECT w.*, d.day
    FROM waiting w
    CROSS JOIN LATERAL (
        SELECT day FROM deliveries
        WHERE workspace_id = w.workspace_id AND id = w.id AND day BETWEEN $5 AND $6
          AND channel_id + 0 = w.channel_id
        OFFSET 0
    ) d
)
DELETE FROM pending_receipts p USING located l
WHERE p.workspace_id = l.workspace_id AND p.channel_id = l.channel_id AND p.provider_id = l.provider_id
  AND p.state = l.state
RETURNING l.workspace_id, l.id, l.day, p.state, p.at, p.error_code, p.error_title
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


async def keep(connection: Connection, receipts: Sequence[Receipt], watermarks: Sequence[Watermark]) -> None:
    """Stores what `apply` matched with nothing, and every watermark, for messages settled later.

    After its commit the caller must `catch_up` with the same.
    """
    if receipts:
        await connection.execute(_KEEP_RECEIPTS, *columns([receipt[:7] for receipt in receipts]))
    if watermarks:
        await connection.execute(_KEEP_WATERMARKS, *columns(watermarks))


async def catch_up(
    connection: Connection,
    receipts: Sequence[Receipt] = (),
    watermarks: Sequence[Watermark] = (),
    settled: Sequence[AcceptedMessage] = (),
) -> None:
    """The look at `deliveries` that follows `keep`'s commit, and at what was kept for those just `settled`."""
    today = await plan_by_index(connection)
    tomorrow = today + DAY
    if settled:
        kept = await _channels_of(connection, _CHANNELS_WITH_KEPT, settled)
        settled = [message for message in settled if message[:2] in kept]
    located, _ = await find(connection, receipts, today)
    accepted = [
        *settled,
        *(AcceptedMessage(r.workspace_id, r.channel_id, id, r.provider_id, day) for r, id, day, _, _ in located),
    ]
    moves: list[Move] = []
    if accepted:
        first = min(message.since or today - DAY for message in accepted)
        keys = columns([message[:4] for message in accepted])
        moves += [Move(*row) for row in await connection.fetch(_TAKE_KEPT, *keys, first, tomorrow)]
    with_marks = await _channels_of(connection, _CHANNELS_WITH_WATERMARKS, settled)
    if with_marks:
        marked = [message for message in settled if message[:2] in with_marks]
        first = min(message.since or today - DAY for message in marked)
        keys = columns([message[:3] for message in marked])
        moves += [Move(*row) for row in await connection.fetch(_LOCATE_BY_KEPT_WATERMARK, *keys, first, tomorrow)]
    if watermarks:
        rows = await connection.fetch(_LOCATE_BY_WATERMARK, *columns(watermarks), tomorrow)
        moves += [Move(*row) for row in rows]
    await move(connection, moves)


async def apply_pending(connection: Connection, accepted: Sequence[Settled]) -> None:
    """Applies what was kept for messages just accepted; call it after the commit that put them into `deliveries`.

    A transaction of its own. Costs two index probes a channel where nothing waits, which is nearly always: Meta's
    receipts seldom come before our own outcome.
    """
    if kept := await _channels_of(connection, _CHANNELS_WITH_KEPT, accepted):
        settled = [AcceptedMessage(*o[:3], o.provider_id or "") for o in accepted if o[:2] in kept]
        async with atomic(connection):
            await catch_up(connection, settled=settled)


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


async def _channels_of(
    connection: Connection, statement: str, messages: Sequence[tuple[Any, ...]]
) -> set[tuple[int, int]]:
    """Of the channels of the messages (workspace, channel, …) those that the statement finds."""
    channels = {message[:2] for message in messages}
    return {tuple(row) for row in await connection.fetch(statement, *columns(channels))} if channels else set()
