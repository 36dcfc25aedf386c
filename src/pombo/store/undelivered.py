"""Messages that a status reports as failed: whom and what their errors concern, told once for each."""

from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

from pombo.store import receipts
from pombo.store.database import Connection
from pombo.store.receipts import Located, Receipt


class Undelivered(NamedTuple):
    receipt: Receipt
    run_id: int
    recipient: str
    """As it was addressed; Meta's status may write it in another way."""
    template: tuple[str, str] | None
    """Name and language."""


# Probed one by one, as in `receipts`, and locked in order until the receipts have moved.
_NEWS = """
SELECT f.n, d.run_id, d.recipient, coalesce(d.kind, message_kind(r.content)) AS kind
FROM unnest($1::bigint[], $2::bigint[], $3::date[]) WITH ORDINALITY AS f (workspace_id, id, day, n)
CROSS JOIN LATERAL (
    SELECT run_id, recipient, kind FROM deliveries
    WHERE workspace_id = f.workspace_id AND id = f.id AND day = f.day AND day BETWEEN $4 AND $5 AND state = 2
    OFFSET 0
    FOR UPDATE
) d
LEFT JOIN runs r ON r.workspace_id = f.workspace_id AND r.id = d.run_id
"""


async def news(connection: Connection, failed: Sequence[Receipt]) -> list[Undelivered]:
    """Those whose messages are accepted and no more. Before `receipts.apply` moves them, in its transaction."""
    found = sorted(await receipts.locate(connection, failed), key=_place)
    if not found:
        return []
    days = [one.day for one in found]
    rows = await connection.fetch(
        _NEWS, [one.receipt.workspace_id for one in found], [one.id for one in found], days, min(days), max(days)
    )
    return [
        Undelivered(found[n - 1].receipt, run_id, recipient, _template(kind)) for n, run_id, recipient, kind in rows
    ]


def _place(located: Located) -> tuple[int, int, date]:
    return located.receipt.workspace_id, located.id, located.day


def _template(kind: str) -> tuple[str, str] | None:
    """Of what SQL's `message_kind` says."""
    what, _, named = kind.partition(" ")
    name, _, language = named.rpartition(" ")
    return (name, language) if what == "template" else None
