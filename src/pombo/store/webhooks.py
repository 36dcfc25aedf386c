"""The webhook log and its queue: stored before Meta gets its 200, applied later by ingest, kept for the retention.

`append` is the API's, the rest is ingest's. A queue row stays locked by the transaction that took it until it is
finished, so a worker that dies in between leaves it to the others at once.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import NamedTuple

from pombo.domain.channels import ChannelKind
from pombo.store.database import Connection

BELL = "pombo_webhooks"
"""The NOTIFY channel that tells workers of new webhooks."""


class SignedWebhook(NamedTuple):
    """A body whose signature was made with the secret of that app."""

    workspace_id: int
    app_id: int
    body: bytes


class QueuedWebhook(NamedTuple):
    workspace_id: int
    id: int
    day: date
    attempts: int
    """How often it could not be applied."""
    app_id: int | None
    body: bytes | None
    received_at: datetime | None
    """All three are None when the log's partition was dropped before the webhook was applied."""


class Taken(NamedTuple):
    webhooks: list[QueuedWebhook]
    is_full: bool
    """By number, by bytes, or because a workspace has had its share: more may wait."""
    by_bytes: bool


class ChannelName(NamedTuple):
    """What a webhook calls a channel, and the app whose secret signed it."""

    workspace_id: int
    app_id: int
    kind: ChannelKind
    external_id: str


# One statement, so one commit for all who wait. `synchronous_commit` is set for that commit whatever the server's
# default is: Meta forgets a webhook once it was answered. The bell rings once a batch.
_APPEND = f"""
WITH logged AS (
    INSERT INTO webhook_log (workspace_id, id, day, app_id, received_at, body)
    SELECT workspace_id, nextval('webhook_ids'), (now() AT TIME ZONE 'UTC')::date, app_id, now(), body
    FROM unnest($1::bigint[], $2::bigint[], $3::bytea[]) AS w (workspace_id, app_id, body)
    RETURNING workspace_id, id, day
), queued AS (
    INSERT INTO webhook_queue (workspace_id, id, day) SELECT workspace_id, id, day FROM logged
)
SELECT set_config('synchronous_commit', 'on', true), pg_notify('{BELL}', '')
"""
# Messenger waits 5 s for its 200; an answer after that would only make it send the same again.
_APPEND_TIMEOUT_S = 4.0

# Workspaces are found by hops over the primary key and served in random order, each with a share, so that the backlog
# of one never keeps another waiting. A batch ends early when its bodies grow too large; what was locked in excess is
# left for the next.
_TAKE = """
WITH RECURSIVE tenant AS (
    SELECT min(workspace_id) AS workspace_id FROM webhook_queue
    UNION ALL
    SELECT (SELECT min(q.workspace_id) FROM webhook_queue q WHERE q.workspace_id > t.workspace_id)
    FROM tenant t WHERE t.workspace_id IS NOT NULL
), shared AS MATERIALIZED (
    -- Those who wait for another attempt, or for whom others work, have theirs as well.
    SELECT greatest($1::integer / greatest(count(workspace_id), 1), $3)::integer AS share FROM tenant
), taken AS MATERIALIZED (
    SELECT row_number() OVER () AS n, q.*, (SELECT share FROM shared) AS share
    FROM (SELECT workspace_id FROM tenant WHERE workspace_id IS NOT NULL ORDER BY random()) t
    CROSS JOIN LATERAL (
        SELECT * FROM webhook_queue q
        WHERE q.workspace_id = t.workspace_id AND q.due_at <= now()
        ORDER BY q.id
        LIMIT (SELECT share FROM shared)
        FOR UPDATE SKIP LOCKED
    ) q
    LIMIT $1
)
SELECT workspace_id, id, day, attempts, app_id, body, received_at, locked, share
FROM (
    SELECT q.n, q.workspace_id, q.id, q.day, q.attempts, l.app_id, l.body, l.received_at, q.share,
           count(*) OVER () AS locked, sum(length(l.body)) OVER (ORDER BY q.n) - length(l.body) AS before
    FROM taken q LEFT JOIN webhook_log l USING (workspace_id, id, day)
) q
WHERE before IS NULL OR before < $2
ORDER BY n
"""
_SHARE = 50
"""What one workspace may take of a batch at least: with fewer, a batch costs more than it carries."""

_POSTPONE = """
UPDATE webhook_queue SET attempts = attempts + 1, error = $3, due_at = now() + $4
WHERE workspace_id = $1 AND id = $2
"""

_GIVE_UP = """
WITH gone AS (
    DELETE FROM webhook_queue q
    USING unnest($1::bigint[], $2::bigint[], $3::text[]) AS u (workspace_id, id, error)
    WHERE q.workspace_id = u.workspace_id AND q.id = u.id
    RETURNING q.workspace_id, q.id, q.day, q.attempts + 1 AS attempts, u.error
)
INSERT INTO webhook_errors (workspace_id, id, day, attempts, error)
SELECT workspace_id, id, day, attempts, error FROM gone
ON CONFLICT (workspace_id, id) DO UPDATE SET attempts = excluded.attempts, error = excluded.error, at = now()
"""

_RESOLVE = """
SELECT n, c.id
FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[]) WITH ORDINALITY
    AS w (workspace_id, app_id, kind, external_id, n)
JOIN channels c USING (workspace_id, app_id, kind, external_id)
"""

_RESOLVE_ACCOUNTS = """
SELECT n, c.id
FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[]) WITH ORDINALITY
    AS w (workspace_id, app_id, kind, waba_id, n)
JOIN channels c USING (workspace_id, app_id, kind, waba_id)
ORDER BY c.id
"""


PATIENT = "SET LOCAL idle_in_transaction_session_timeout = '60s'"
"""The transaction that takes a batch is idle while that is applied in others, which may take longer than the pool
allows an idle one; it holds a few rows of a small table."""


async def append(connection: Connection, webhooks: Sequence[SignedWebhook]) -> None:
    """Logs and queues them in one commit, durable when this returns. Not for use within a transaction."""
    await connection.execute(_APPEND, *map(list, zip(*webhooks, strict=True)), timeout=_APPEND_TIMEOUT_S)


async def take(connection: Connection, limit: int, max_bytes: int) -> Taken:
    """Due webhooks, oldest first in each workspace, locked until the transaction ends; skips what others hold.

    At most `limit`, and no further one once their bodies reach `max_bytes`. For a `PATIENT` transaction.
    """
    rows = await connection.fetch(_TAKE, limit, max_bytes, _SHARE)
    if not rows:
        return Taken([], is_full=False, by_bytes=False)
    taken = [QueuedWebhook(*row[:7]) for row in rows]
    locked, share = rows[0][7:]
    by_bytes = locked > len(taken)
    most = max(Counter(webhook.workspace_id for webhook in taken).values())
    return Taken(taken, is_full=by_bytes or locked >= limit or most >= share, by_bytes=by_bytes)


async def finish(connection: Connection, webhooks: Sequence[QueuedWebhook]) -> None:
    """Applied: out of the queue. A crash of the server may lose it, after which they are applied once more."""
    await connection.execute(
        """WITH gone AS (
               DELETE FROM webhook_queue q USING unnest($1::bigint[], $2::bigint[]) AS f (workspace_id, id)
               WHERE q.workspace_id = f.workspace_id AND q.id = f.id
           )
           SELECT set_config('synchronous_commit', 'off', true)""",
        [webhook.workspace_id for webhook in webhooks],
        [webhook.id for webhook in webhooks],
    )


async def postpone(connection: Connection, webhook: QueuedWebhook, error: str, delay: timedelta) -> None:
    """Could not be applied: another attempt after the delay."""
    await connection.execute(_POSTPONE, webhook.workspace_id, webhook.id, error, delay)


async def give_up(connection: Connection, failures: Sequence[tuple[QueuedWebhook, str]]) -> None:
    """Out of the queue and into `webhook_errors`, each with its error."""
    await connection.execute(
        _GIVE_UP,
        [webhook.workspace_id for webhook, _ in failures],
        [webhook.id for webhook, _ in failures],
        [error for _, error in failures],
    )


async def resolve_channels(connection: Connection, names: Sequence[ChannelName]) -> dict[ChannelName, int]:
    """Our ids of the channels that belong to the very app that signed; others are left out."""
    if not names:
        return {}
    rows = await connection.fetch(_RESOLVE, *map(list, zip(*names, strict=True)))
    return {names[row["n"] - 1]: row["id"] for row in rows}


async def resolve_accounts(connection: Connection, names: Sequence[ChannelName]) -> dict[ChannelName, list[int]]:
    """As `resolve_channels`, of WhatsApp accounts: all their channels."""
    channels: dict[ChannelName, list[int]] = {}
    if names:
        for n, channel_id in await connection.fetch(_RESOLVE_ACCOUNTS, *map(list, zip(*names, strict=True))):
            channels.setdefault(names[n - 1], []).append(channel_id)
    return channels
