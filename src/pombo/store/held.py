"""Held messages, for people: doubts that outlived their grace, and what a person decides about them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple, assert_never

from pombo.domain.doubt import HoldReason
from pombo.domain.ids import ChannelId, RunId, WorkspaceId
from pombo.store import doubts, settlement
from pombo.store.database import Connection
from pombo.store.doubts import DoubtKey
from pombo.store.settlement import ACCEPTED, CANCELLED, Settled

_DROPPED_TITLE = "Dropped by hand while it was in doubt."
# A statement's messages: some 20 ms near the outbox.
CHUNK = 1000


class DoubtAction(StrEnum):
    RESEND = "resend"
    """Sent again, at the risk of twice."""
    MARK_SENT = "mark_sent"
    """Accepted, though nothing has told of it; evidence that comes later brings Meta's id."""
    DROP = "drop"
    """Cancelled; evidence that comes later corrects it."""


class Selection(NamedTuple):
    """Which held messages of the workspace; None is no limit."""

    channel_id: int | None = None
    run_id: int | None = None
    message_ids: Sequence[int] | None = None


@dataclass(frozen=True, slots=True)
class HeldMessage:
    message_id: int
    channel_id: ChannelId
    run_id: RunId
    recipient: str
    attempt: int
    intent_at: datetime
    since: datetime
    """When it became doubtful."""
    reason: HoldReason
    held_since: datetime
    error_title: str | None
    """What came in place of an answer."""


# Each message is looked up by itself (OFFSET 0 is a fence), or the planner may read the outbox whole for a page.
_WHICH = """
FROM doubts d
CROSS JOIN LATERAL (
    SELECT error_title FROM outbox
    WHERE workspace_id = d.workspace_id AND id = d.message_id AND state = 'u' AND attempt = d.attempt
    OFFSET 0 {lock}
) o
WHERE d.workspace_id = $1 AND d.held IS NOT NULL AND d.message_id > $2
  AND (d.channel_id = $3 OR $3 IS NULL) AND (d.run_id = $4 OR $4 IS NULL)
  AND (d.message_id = ANY ($5::bigint[]) OR $5 IS NULL)
ORDER BY d.message_id LIMIT $6
"""

_LIST = f"""
SELECT d.message_id, d.channel_id, d.run_id, d.recipient, d.attempt, d.intent_at, d.since, d.held, d.held_since,
       o.error_title
{_WHICH.format(lock="")}
"""

_LOCK = f"""
SELECT d.message_id, d.attempt, d.channel_id, d.intent_at
{_WHICH.format(lock="FOR UPDATE")}
"""


async def list_held(
    connection: Connection, workspace_id: WorkspaceId, selection: Selection, after: int, limit: int
) -> list[HeldMessage]:
    """In order of their ids; `after` is the last of the page seen."""
    rows = await connection.fetch(_LIST, workspace_id, after, *selection, limit)
    return [
        HeldMessage(**{"reason": HoldReason(row["held"]), **{k: v for k, v in row.items() if k != "held"}})
        for row in rows
    ]


async def resolve(
    connection: Connection, workspace_id: WorkspaceId, action: DoubtAction, selection: Selection, after: int = 0
) -> tuple[int, int | None]:
    """Does so to the next `CHUNK` of the selection; how many, and the `after` of the next call, None at the end.

    In a transaction of a worker's connection: their rows stay locked, so that nobody else decides meanwhile.
    """
    rows = await connection.fetch(_LOCK, workspace_id, after, *selection, CHUNK)
    match action:
        case DoubtAction.RESEND:
            keys = [DoubtKey(workspace_id, row["message_id"], row["attempt"]) for row in rows]
            await doubts.send_again(connection, keys)
        case DoubtAction.MARK_SENT:
            await _settle(connection, workspace_id, rows, ACCEPTED)
        case DoubtAction.DROP:
            await _settle(connection, workspace_id, rows, CANCELLED, _DROPPED_TITLE)
        case _:
            assert_never(action)
    return len(rows), rows[-1]["message_id"] if len(rows) == CHUNK else None


async def _settle(
    connection: Connection,
    workspace_id: WorkspaceId,
    rows: Sequence[dict[str, Any]],
    state: int,
    title: str | None = None,
) -> None:
    settled = [
        Settled(
            workspace_id, row["channel_id"], row["message_id"], row["attempt"],
            row["intent_at"].astimezone(UTC).date(), state, None, None, None, title,
        )
        for row in rows
    ]  # fmt: skip
    if settled:
        await settlement.settle(connection, settled)


@dataclass(frozen=True, slots=True)
class SentTwice:
    """A message that Meta accepted more than once."""

    message_id: int
    channel_id: ChannelId
    run_id: RunId
    recipient: str
    provider_ids: list[str]
    """All that are known, in the order in which they were found."""
    found_at: datetime


async def list_sent_twice(
    connection: Connection, workspace_id: WorkspaceId, selection: Selection, after: int, limit: int
) -> list[SentTwice]:
    """In order of their ids; `after` is the last of the page seen. Of the selection, channel and run."""
    rows = await connection.fetch(
        """SELECT message_id, min(channel_id), run_id, min(recipient),
                  min(first_provider_id) || array_agg(provider_id ORDER BY found_at, provider_id), min(found_at)
           FROM sent_twice
           WHERE workspace_id = $1 AND ($2::bigint IS NULL OR channel_id = $2) AND ($3::bigint IS NULL OR run_id = $3)
             AND message_id > $4
           GROUP BY message_id, run_id ORDER BY message_id LIMIT $5""",
        workspace_id,
        selection.channel_id,
        selection.run_id,
        after,
        limit,
    )
    return [SentTwice(*row) for row in rows]
