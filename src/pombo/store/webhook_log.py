"""The webhook log for people: what came, what became of it, and once more through ingest if they wish.

Bodies are searched by reading them, so a page looks through a bounded number of rows, and says how far it has looked.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from pombo.domain.channels import ChannelKind
from pombo.store.database import Connection
from pombo.store.webhooks import BELL


class WebhookStatus(StrEnum):
    QUEUED = "queued"
    """Not yet applied."""
    RETRYING = "retrying"
    """Could not be applied; tried again."""
    FAILED = "failed"
    """Unreadable, or given up."""
    APPLIED = "applied"


class LoggedWebhook(NamedTuple):
    id: int
    app_id: int
    received_at: datetime
    size: int
    status: WebhookStatus
    attempts: int
    """That failed."""
    error: str | None


class LogFilter(NamedTuple):
    since: datetime | None = None
    until: datetime | None = None
    kind: ChannelKind | None = None
    channel: str | None = None
    """Meta's id, which stands in the body."""
    status: WebhookStatus | None = None
    text: str | None = None


class LogPage(NamedTuple):
    webhooks: list[LoggedWebhook]
    next_before: int | None
    """Older ones have not been looked at yet."""


# Bodies that one page reads at most: some 100 ms where each holds a few updates.
_SCAN = 2000

# What is not applied is rare, and found by its own table first.
_FROM = {
    None: "",
    WebhookStatus.QUEUED: "AND id IN (SELECT id FROM webhook_queue WHERE workspace_id = $1 AND attempts = 0)",
    WebhookStatus.RETRYING: "AND id IN (SELECT id FROM webhook_queue WHERE workspace_id = $1 AND attempts > 0)",
    WebhookStatus.FAILED: "AND id IN (SELECT id FROM webhook_errors WHERE workspace_id = $1)",
    WebhookStatus.APPLIED: "",
}

_STATUS = """
SELECT l.id, l.app_id, l.received_at, length(l.body) AS size,
       CASE WHEN q.attempts = 0 THEN 'queued' WHEN q.attempts > 0 THEN 'retrying' WHEN e.id IS NOT NULL THEN 'failed'
            ELSE 'applied' END AS status,
       coalesce(q.attempts, e.attempts, 0) AS attempts, coalesce(q.error, e.error) AS error
"""
_JOINS = """
LEFT JOIN webhook_queue q ON q.workspace_id = l.workspace_id AND q.id = l.id
LEFT JOIN webhook_errors e ON e.workspace_id = l.workspace_id AND e.id = l.id
"""


def _page(status: WebhookStatus | None) -> str:
    return f"""
WITH looked AS MATERIALIZED (
    SELECT workspace_id, id, app_id, received_at, body FROM webhook_log
    WHERE workspace_id = $1 AND id < $2 AND received_at >= $3 AND received_at < $4
      AND day BETWEEN ($3 AT TIME ZONE 'UTC')::date AND ($4 AT TIME ZONE 'UTC')::date
      {_FROM[status]}
    ORDER BY id DESC LIMIT $5
), fitting AS (
    {_STATUS} FROM looked l {_JOINS}
    WHERE ($6::bytea[] IS NULL OR EXISTS (SELECT FROM unnest($6::bytea[]) AS n WHERE position(n IN l.body) > 0))
      AND ($7::bytea[] IS NULL OR EXISTS (SELECT FROM unnest($7::bytea[]) AS n WHERE position(n IN l.body) > 0))
      AND ($8::bytea IS NULL OR position($8 IN l.body) > 0)
)
SELECT f.*, s.seen, s.last FROM (SELECT count(*) AS seen, min(id) AS last FROM looked) s
LEFT JOIN LATERAL (
    SELECT * FROM fitting WHERE $9::text IS NULL OR status = $9 ORDER BY id DESC LIMIT $10
) f ON true
ORDER BY f.id DESC
"""


_PAGES = {status: _page(status) for status in _FROM}

_ONE = f"{_STATUS}, l.body FROM webhook_log l {_JOINS} WHERE l.workspace_id = $1 AND l.id = $2"

# One that ingest has in hand is waited for, and then queued anew.
_REPLAY = f"""
WITH wanted AS (
    SELECT DISTINCT l.workspace_id, l.id, l.day FROM webhook_log l
    WHERE l.workspace_id = $1 AND l.id = ANY ($2::bigint[])
), forgiven AS (
    DELETE FROM webhook_errors e USING wanted w WHERE e.workspace_id = w.workspace_id AND e.id = w.id
), queued AS (
    INSERT INTO webhook_queue (workspace_id, id, day) SELECT workspace_id, id, day FROM wanted ORDER BY id
    ON CONFLICT (workspace_id, id) DO UPDATE SET due_at = '-infinity', attempts = 0, error = NULL
    RETURNING id
)
SELECT array_agg(id), pg_notify('{BELL}', '') FROM queued
"""

_FOREVER = datetime.fromisoformat("9000-01-01T00:00:00+00:00")
_EVER = datetime.fromisoformat("2000-01-01T00:00:00+00:00")


async def list_webhooks(
    connection: Connection, workspace_id: int, wanted: LogFilter, before: int, limit: int
) -> LogPage:
    """Newest first."""
    is_filtered = any((wanted.kind, wanted.channel, wanted.text, wanted.status is WebhookStatus.APPLIED))
    scan = _SCAN if is_filtered else limit
    rows = await connection.fetch(
        _PAGES[wanted.status],
        workspace_id,
        before,
        wanted.since or _EVER,
        wanted.until or _FOREVER,
        scan,
        None if wanted.kind is None else _objects(wanted.kind),
        None if not wanted.text else _as_written(wanted.text),
        None if wanted.channel is None else wanted.channel.encode(),
        wanted.status,
        limit,
    )
    seen, last = (rows[0]["seen"], rows[0]["last"]) if rows else (0, None)
    found = [_webhook(row) for row in rows if row["id"] is not None]
    if len(found) == limit:
        return LogPage(found, found[-1].id)
    return LogPage(found, last if seen == scan else None)


async def get_webhook(connection: Connection, workspace_id: int, webhook_id: int) -> tuple[LoggedWebhook, bytes] | None:
    row = await connection.fetchrow(_ONE, workspace_id, webhook_id)
    return None if row is None else (_webhook(row), row["body"])


async def replay(connection: Connection, workspace_id: int, ids: Sequence[int]) -> list[int]:
    """Through ingest once more, from the first attempt; returns those that the log still holds."""
    queued: list[int] | None = await connection.fetchval(_REPLAY, workspace_id, list(ids))
    return queued or []


async def failed_ids(connection: Connection, workspace_id: int, limit: int) -> list[int]:
    """The oldest first."""
    rows = await connection.fetch(
        "SELECT id FROM webhook_errors WHERE workspace_id = $1 ORDER BY id LIMIT $2", workspace_id, limit
    )
    return [row[0] for row in rows]


def _webhook(row: object) -> LoggedWebhook:
    values = dict(row)  # type: ignore[call-overload]
    made = LoggedWebhook(*(values[name] for name in LoggedWebhook._fields))
    return made._replace(status=WebhookStatus(made.status))


def _objects(kind: ChannelKind) -> list[bytes]:
    name = "page" if kind is ChannelKind.MESSENGER else "whatsapp_business_account"
    return [f'"object":{space}"{name}"'.encode() for space in ("", " ")]


def _as_written(text: str) -> list[bytes]:
    """As Meta writes it (what is not ASCII escaped, in lower case), and as others may."""
    return list({json.dumps(text)[1:-1].encode(), json.dumps(text, ensure_ascii=False)[1:-1].encode()})
