"""Who is in a run, and what has become of each one's message: from the outbox, or from the delivery log."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pombo.domain.channels import ChannelKind
from pombo.domain.ids import ChannelId, MessageId, RunId, WorkspaceId
from pombo.store.database import Connection


@dataclass(frozen=True, slots=True)
class RunMessage:
    channel_id: ChannelId
    recipient: str
    message_id: MessageId
    kind: ChannelKind
    waiting: str | None
    """r ready, s sending, u uncertain while it is in the outbox; None once it has left."""
    settled: int | None
    """`DeliveryState.rank` in the delivery log; None before, and after the log's retention."""
    attempt: int
    provider_id: str | None
    accepted_at: datetime | None
    delivered_at: datetime | None
    read_at: datetime | None
    failed_at: datetime | None
    error_code: int | None
    error_subcode: int | None
    error_title: str | None


BEGINNING = (ChannelId(0), "")
"""A cursor before everybody."""

# A message's intent is never before its run, which leaves the older partitions of the log alone.
_PAGE = """
WITH page AS (
    SELECT channel_id, recipient, message_id FROM run_recipients
    WHERE workspace_id = $1 AND run_id = $2 AND (channel_id, recipient) > ($3::bigint, $4::text)
    ORDER BY channel_id, recipient LIMIT $5
)
SELECT p.channel_id, p.recipient, p.message_id, c.kind,
       CASE WHEN d.id IS NULL THEN o.state::text END, d.state, coalesce(d.attempt, o.attempt, 0),
       d.provider_id, d.accepted_at, d.delivered_at, d.read_at, d.failed_at,
       CASE WHEN d.id IS NULL THEN o.error_code ELSE d.error_code END,
       CASE WHEN d.id IS NULL THEN o.error_subcode ELSE d.error_subcode END,
       CASE WHEN d.id IS NULL THEN o.error_title ELSE d.error_title END
FROM page p
JOIN channels c ON c.workspace_id = $1 AND c.id = p.channel_id
LEFT JOIN outbox o ON o.workspace_id = $1 AND o.id = p.message_id
LEFT JOIN LATERAL (
    SELECT * FROM deliveries d
    WHERE d.workspace_id = $1 AND d.id = p.message_id
      AND d.day >= (SELECT (created_at AT TIME ZONE 'UTC')::date FROM runs WHERE workspace_id = $1 AND id = $2)
    ORDER BY d.day DESC LIMIT 1
) d ON true
ORDER BY p.channel_id, p.recipient
"""


async def list_run_messages(
    connection: Connection, workspace_id: WorkspaceId, run_id: RunId, after: tuple[ChannelId, str], limit: int
) -> list[RunMessage]:
    """By channel and recipient; `after` is the last of the page seen."""
    rows = await connection.fetch(_PAGE, workspace_id, run_id, *after, limit)
    return [_run_message(tuple(row)) for row in rows]


def _run_message(row: tuple[Any, ...]) -> RunMessage:
    channel_id, recipient, message_id, kind, *others = row
    return RunMessage(channel_id, recipient, message_id, ChannelKind(kind), *others)
