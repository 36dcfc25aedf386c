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

All functions want a transaction (`apply_pending` opens its own): they set how it plans and commits.
"""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

from pombo.domain.events import StatusReceipt
from pombo.store.channel_evidence import Heard
from pombo.store.database import Connection
from pombo.store.planning import columns, plan_by_index
from pombo.store.settlement import Evidence, Settled


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
    status: StatusReceipt | None = None
    """What said so, for what else it says."""


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
    """The earliest day at which it can lie in the delivery log; None: yesterday."""


class Located(NamedTuple):
    """A receipt and its message."""

    receipt: Receipt
    id: int
    day: date
    recipient: str
    """As the message was addressed."""


class _Move(NamedTuple):
    """A located message and what it shall become."""

    workspace_id: int
    id: int
    day: date
    state: int
    at: datetime
    error_code: int | None = None
    error_title: str | None = None


# Statements that read `deliveries` take each message by itself (LATERAL, with OFFSET 0 as a fence), by index
# (`planning`). `+ 0` keeps the planner from an index that is good for nothing but the channel.
_LOCATE_BY_KEY = """
SELECT r.n, d.id, d.day, d.recipient
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::date[]) WITH ORDINALITY
    AS r (workspace_id, channel_id, id, day, n)
CROSS JOIN LATERAL (
    SELECT id, day, recipient FROM deliveries
    WHERE workspace_id = r.workspace_id AND id = r.id AND day >= r.day AND day BETWEEN $5 AND $6
      AND channel_id + 0 = r.channel_id
    OFFSET 0
) d
"""

_ALREADY_SETTLED = """
SELECT e.n, d.run_id, d.intent_at, d.attempt, d.kind
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::date[], $5::text[]) WITH ORDINALITY
    AS e (workspace_id, channel_id, id, day, provider_id, n)
CROSS JOIN LATERAL (
    SELECT run_id, intent_at, attempt, kind FROM deliveries
    WHERE workspace_id = e.workspace_id AND id = e.id AND day >= e.day AND day BETWEEN $6 AND $7
      AND channel_id + 0 = e.channel_id AND state >= 2
      AND (provider_id = e.provider_id OR second_provider_id = e.provider_id)
    OFFSET 0
) d
"""

_LOCATE_BY_PROVIDER_ID = """
SELECT r.n, d.id, d.day, d.recipient
FROM unnest($1::bigint[], $2::bigint[], $3::text[]) WITH ORDINALITY
    AS r (workspace_id, channel_id, provider_id, n)
CROSS JOIN LATERAL (
    SELECT id, day, recipient FROM deliveries
    WHERE workspace_id = r.workspace_id AND provider_id = r.provider_id AND day BETWEEN $4 AND $5
      AND channel_id + 0 = r.channel_id
    OFFSET 0
) d
"""

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

# Rows are locked in order of their ids and read anew under the lock, so `was` is what each row really was. They are
# updated by way of a conflict that always happens: it goes by the primary key, where an UPDATE's join would be the
# planner's choice.
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
    ORDER BY workspace_id, id, day
), found AS MATERIALIZED (
    SELECT i.*, d.state AS was, d.run_id, d.channel_id, d.intent_at, d.attempt, d.recipient
    FROM incoming i
    CROSS JOIN LATERAL (
        SELECT * FROM deliveries d
        WHERE d.workspace_id = i.workspace_id AND d.id = i.id AND d.day = i.day AND d.day BETWEEN $8 AND $9
          AND d.state >= 2
          AND (d.state < i.state OR d.delivered_at > i.delivered_at OR d.read_at > i.read_at
               OR d.state = 3 AND d.failed_at > i.failed_at)
        OFFSET 0
        FOR UPDATE
    ) d
), moved AS (
    INSERT INTO deliveries AS d (workspace_id, id, day, run_id, channel_id, intent_at, state, attempt, recipient,
                                 delivered_at, read_at, failed_at, error_code, error_title)
    SELECT workspace_id, id, day, run_id, channel_id, intent_at, greatest(was, state), attempt, recipient,
           delivered_at, read_at, failed_at, error_code, error_title
    FROM found
    ON CONFLICT (workspace_id, id, day) DO UPDATE SET
        state = excluded.state,
        delivered_at = least(d.delivered_at, excluded.delivered_at),
        read_at = least(d.read_at, excluded.read_at),
        failed_at = CASE WHEN excluded.state = 3 THEN excluded.failed_at END,
        error_code = CASE WHEN excluded.state = 3 THEN excluded.error_code END,
        error_subcode = NULL,
        error_title = CASE WHEN excluded.state = 3 THEN excluded.error_title END
), replied AS (
    INSERT INTO reply_changes (workspace_id, message_id)
    SELECT workspace_id, id FROM found WHERE run_id <= 0 AND was < state
)
INSERT INTO run_deltas (workspace_id, run_id, delivered, read, undelivered)
SELECT workspace_id, run_id,
       count(*) FILTER (WHERE was < 4 AND state >= 4),
       count(*) FILTER (WHERE was < 5 AND state = 5),
       count(*) FILTER (WHERE was < 3 AND state = 3) - count(*) FILTER (WHERE was = 3 AND state > 3)
FROM found WHERE was < state
GROUP BY workspace_id, run_id
"""

_DAY = timedelta(days=1)

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


async def sift(connection: Connection, evidence: Sequence[Evidence]) -> tuple[list[Evidence], list[Heard]]:
    """The evidence that tells something new, and what is heard of the rest.

    Most messages are in the log as accepted, under that very id, already. Of an attempt that was not the last one's the
    log does not tell the time, so nothing is heard of it.
    """
    if not evidence:
        return [], []
    today = await plan_by_index(connection)
    rows = await connection.fetch(
        _ALREADY_SETTLED,
        *columns([(e.workspace_id, e.channel_id, e.message_id, e.day, e.provider_id) for e in evidence]),
        min(e.day for e in evidence),
        today + _DAY,
    )
    known: set[int] = set()
    heard: list[Heard] = []
    for n, run_id, intent_at, attempt, kind in rows:
        known.add(n)
        witness = evidence[n - 1]
        if witness.attempt == attempt:
            heard.append(Heard(witness.workspace_id, witness.channel_id, run_id, intent_at, kind))
    return [e for n, e in enumerate(evidence, 1) if n not in known], heard


class Applied(NamedTuple):
    unmatched: list[Receipt]
    """Those of no message that is known yet."""
    found: list[tuple[int, int]]
    """(workspace, message) of the others, whether they moved or not."""
    renamed: list[Located]
    """Those of the receipts whose status calls the recipient otherwise than the message was addressed."""


async def apply(connection: Connection, receipts: Sequence[Receipt]) -> Applied:
    """Moves what it finds."""
    if not receipts:
        return Applied([], [], [])
    today = await plan_by_index(connection)
    located, unmatched = await _locate(connection, receipts, today)
    await _move(
        connection,
        [
            _Move(receipt.workspace_id, id, day, receipt.state, receipt.at, receipt.error_code, receipt.error_title)
            for receipt, id, day, _ in located
        ],
    )
    return Applied(
        unmatched, [(one.receipt.workspace_id, one.id) for one in located], [one for one in located if _renames(one)]
    )


async def locate(connection: Connection, receipts: Sequence[Receipt]) -> list[Located]:
    """Those whose message is in the log."""
    return (await _locate(connection, receipts, await plan_by_index(connection)))[0]


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
) -> list[tuple[int, int]]:
    """The look at `deliveries` that follows `keep`'s commit, and at what was kept for those just `settled`.

    Returns (workspace, message) of those that it found something for.
    """
    today = await plan_by_index(connection)
    tomorrow = today + _DAY
    located, _ = await _locate(connection, receipts, today)
    accepted = [
        *settled,
        *(AcceptedMessage(r.workspace_id, r.channel_id, id, r.provider_id, day) for r, id, day, _ in located),
    ]
    moves: list[_Move] = []
    if accepted:
        first = min(message.since or today - _DAY for message in accepted)
        keys = columns([message[:4] for message in accepted])
        moves += [_Move(*row) for row in await connection.fetch(_TAKE_KEPT, *keys, first, tomorrow)]
    with_marks = await _channels_of(connection, _CHANNELS_WITH_WATERMARKS, settled)
    if with_marks:
        marked = [message for message in settled if message[:2] in with_marks]
        first = min(message.since or today - _DAY for message in marked)
        keys = columns([message[:3] for message in marked])
        moves += [_Move(*row) for row in await connection.fetch(_LOCATE_BY_KEPT_WATERMARK, *keys, first, tomorrow)]
    if watermarks:
        rows = await connection.fetch(_LOCATE_BY_WATERMARK, *columns(watermarks), tomorrow)
        moves += [_Move(*row) for row in rows]
    await _move(connection, moves)
    return [(move.workspace_id, move.id) for move in moves]


async def apply_pending(connection: Connection, accepted: Sequence[Settled]) -> None:
    """Applies what was kept for messages just accepted; call it after the commit that put them into `deliveries`.

    A transaction of its own. Costs two index probes a channel where nothing waits, which is nearly always: Meta's
    receipts seldom come before our own outcome.
    """
    if kept := await _channels_of(connection, _CHANNELS_WITH_KEPT, accepted):
        settled = [AcceptedMessage(*o[:3], o.provider_id or "") for o in accepted if o[:2] in kept]
        async with connection.transaction():
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


async def _locate(
    connection: Connection, receipts: Sequence[Receipt], today: date
) -> tuple[list[Located], list[Receipt]]:
    """Those found, and those not found."""
    tomorrow, yesterday = today + _DAY, today - _DAY
    keyed = [receipt for receipt in receipts if receipt.message_id is not None]
    named = [receipt for receipt in receipts if receipt.message_id is None]
    first = min((receipt.day for receipt in keyed if receipt.day is not None), default=yesterday)
    by_key, unmatched = await _find(
        connection,
        _LOCATE_BY_KEY,
        keyed,
        [(r.workspace_id, r.channel_id, r.message_id, r.day) for r in keyed],
        first,
        tomorrow,
    )
    newest, missing = await _find(
        connection, _LOCATE_BY_PROVIDER_ID, named, [r[:3] for r in named], yesterday, tomorrow
    )
    # Nearly all belong to yesterday or today; only what is left costs a probe in each older partition.
    older, foreign = await _find(
        connection, _LOCATE_BY_PROVIDER_ID, missing, [r[:3] for r in missing], date.min, yesterday - _DAY
    )
    return by_key + newest + older, unmatched + foreign


async def _find(
    connection: Connection,
    statement: str,
    receipts: Sequence[Receipt],
    rows: Sequence[tuple[Any, ...]],
    first: date,
    last: date,
) -> tuple[list[Located], list[Receipt]]:
    if not receipts:
        return [], []
    hits = await connection.fetch(statement, *columns(rows), first, last)
    found = {hit[0] for hit in hits}
    missing = [receipt for n, receipt in enumerate(receipts, 1) if n not in found]
    return [Located(receipts[n - 1], id, day, recipient) for n, id, day, recipient in hits], missing


def _renames(located: Located) -> bool:
    """Numbers alone: only they are written in several ways."""
    status, recipient = located.receipt.status, located.recipient
    if status is None or status.recipient is None or status.recipient == recipient:
        return False
    return recipient.startswith("+")


async def _channels_of(
    connection: Connection, statement: str, messages: Sequence[tuple[Any, ...]]
) -> set[tuple[int, int]]:
    """Of the channels of the messages (workspace, channel, …) those that the statement finds."""
    channels = {message[:2] for message in messages}
    return {tuple(row) for row in await connection.fetch(statement, *columns(channels))} if channels else set()


async def _move(connection: Connection, moves: Sequence[_Move]) -> None:
    if moves:
        days = [move.day for move in moves]
        await connection.execute(_MOVE, *columns(moves), min(days), max(days))
