"""Receipts: how the delivery log learns what became of accepted messages.

A receipt names its message by our send key, by Meta's id, or (Messenger's watermarks) by recipient and time. It is
first located, which only reads, then all that was located moves in one statement. That statement is the only one
that changes a receipt's columns, and it computes maxima of states and minima of times: receipts may come twice, in
any order and through any worker, and end in the same rows and the same figures.

    accepted ──▶ undelivered ──▶ delivered ──▶ read        never backwards; read implies delivered

What matches nothing waits (`early_receipts`).

All functions want a transaction: they set how it plans and commits.
"""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

from pombo.domain.events import StatusReceipt
from pombo.store import campaign_replies
from pombo.store.channel_evidence import Heard
from pombo.store.database import Connection
from pombo.store.planning import columns, plan_by_index
from pombo.store.settlement import Evidence


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


class Located(NamedTuple):
    """A receipt and its message."""

    receipt: Receipt
    id: int
    day: date
    recipient: str
    """As the message was addressed."""
    intent_at: datetime
    """When that was its recipient's address."""


class Move(NamedTuple):
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
SELECT r.n, d.id, d.day, d.recipient, d.intent_at
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::date[]) WITH ORDINALITY
    AS r (workspace_id, channel_id, id, day, n)
CROSS JOIN LATERAL (
    SELECT id, day, recipient, intent_at FROM deliveries
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
SELECT r.n, d.id, d.day, d.recipient, d.intent_at
FROM unnest($1::bigint[], $2::bigint[], $3::text[]) WITH ORDINALITY
    AS r (workspace_id, channel_id, provider_id, n)
CROSS JOIN LATERAL (
    SELECT id, day, recipient, intent_at FROM deliveries
    WHERE workspace_id = r.workspace_id AND provider_id = r.provider_id AND day BETWEEN $4 AND $5
      AND channel_id + 0 = r.channel_id
    OFFSET 0
) d
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
    SELECT workspace_id, id FROM found WHERE run_id <= 0 AND (was < state OR was = 3)
), counted AS (
    INSERT INTO run_deltas (workspace_id, run_id, delivered, read, undelivered)
    SELECT workspace_id, run_id,
           count(*) FILTER (WHERE was < 4 AND state >= 4),
           count(*) FILTER (WHERE was < 5 AND state = 5),
           count(*) FILTER (WHERE was < 3 AND state = 3) - count(*) FILTER (WHERE was = 3 AND state > 3)
    FROM found WHERE was < state
    GROUP BY workspace_id, run_id
)
SELECT workspace_id, id FROM found WHERE run_id > 0 AND (was < state OR was = 3)
"""

DAY = timedelta(days=1)


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
        today + DAY,
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
    renamed: list[Located]
    """Those of the receipts whose status calls the recipient otherwise than the message was addressed."""


async def apply(connection: Connection, receipts: Sequence[Receipt]) -> Applied:
    """Moves what it finds."""
    if not receipts:
        return Applied([], [])
    today = await plan_by_index(connection)
    located, unmatched = await find(connection, receipts, today)
    await move(
        connection,
        [
            Move(receipt.workspace_id, id, day, receipt.state, receipt.at, receipt.error_code, receipt.error_title)
            for receipt, id, day, _, _ in located
        ],
    )
    return Applied(unmatched, [one for one in located if _renames(one)])


async def locate(connection: Connection, receipts: Sequence[Receipt]) -> list[Located]:
    """Those whose message is in the log."""
    return (await find(connection, receipts, await plan_by_index(connection)))[0]


async def find(connection: Connection, receipts: Sequence[Receipt], today: date) -> tuple[list[Located], list[Receipt]]:
    """Those found, and those not found."""
    tomorrow, yesterday = today + DAY, today - DAY
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
        connection, _LOCATE_BY_PROVIDER_ID, missing, [r[:3] for r in missing], date.min, yesterday - DAY
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
    return [Located(receipts[n - 1], *message) for n, *message in hits], missing


def _renames(located: Located) -> bool:
    """Numbers alone: only they are written in several ways."""
    status, recipient = located.receipt.status, located.recipient
    if status is None or status.recipient is None or status.recipient == recipient:
        return False
    return recipient.startswith("+")


async def move(connection: Connection, moves: Sequence[Move]) -> None:
    """And leaves word of it in `reply_changes` where a conversation shows the message."""
    if not moves:
        return
    days = [move.day for move in moves]
    if of_runs := await connection.fetch(_MOVE, *columns(moves), min(days), max(days)):
        await campaign_replies.tell(connection, [tuple(row) for row in of_runs])
