"""Receipts of what other programs sent on our channels; our own messages' are the delivery log's (`receipts`).

As there, two sides look for each other, each after its own commit: a receipt is kept and looks for its message, a
message is inserted and looks for what is kept.
"""

from collections.abc import Sequence

from pombo.store import inbox_events
from pombo.store.database import Connection
from pombo.store.planning import columns
from pombo.store.receipts import Receipt, Watermark

_MOVE = """
WITH said AS MATERIALIZED (
    SELECT workspace_id, id, max(state) AS state,
           (array_agg(code ORDER BY at) FILTER (WHERE state = 3))[1] AS code,
           (array_agg(title ORDER BY at) FILTER (WHERE state = 3))[1] AS title
    FROM told GROUP BY workspace_id, id
)
UPDATE conversation_messages m SET
    state = (ARRAY['failed', 'delivered', 'read'])[s.state - 2],
    error_code = CASE WHEN s.state = 3 THEN s.code END,
    error_title = CASE WHEN s.state = 3 THEN s.title END,
    version = m.version + 1
FROM said s
WHERE m.workspace_id = s.workspace_id AND m.id = s.id
  AND s.state > array_position(ARRAY['accepted', 'failed', 'delivered', 'read'], m.state) + 1
RETURNING m.workspace_id, m.id
"""

_BY_RECEIPT = f"""
WITH told AS (
    SELECT m.workspace_id, m.id, r.state, r.at, r.code, r.title
    FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::smallint[], $5::timestamptz[], $6::integer[], $7::text[])
        AS r (workspace_id, channel_id, provider_id, state, at, code, title)
    CROSS JOIN LATERAL (
        SELECT workspace_id, id FROM conversation_messages
        WHERE workspace_id = r.workspace_id AND channel_id = r.channel_id AND provider_id = r.provider_id
          AND author = 'app'
        OFFSET 0
    ) m
), {_MOVE.strip().removeprefix("WITH ")}
"""

_BY_WATERMARK = f"""
WITH told AS (
    SELECT m.workspace_id, m.id, w.state, w.until AS at, NULL::integer AS code, NULL::text AS title
    FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::smallint[], $5::timestamptz[])
        AS w (workspace_id, channel_id, recipient, state, until)
    CROSS JOIN LATERAL (
        SELECT contact_id FROM identities
        WHERE workspace_id = w.workspace_id AND channel_id = w.channel_id AND identity = w.recipient OFFSET 0
    ) i
    CROSS JOIN LATERAL (
        SELECT workspace_id, id FROM conversations
        WHERE workspace_id = w.workspace_id AND contact_id = i.contact_id AND channel_id + 0 = w.channel_id OFFSET 0
    ) c
    CROSS JOIN LATERAL (
        SELECT workspace_id, id FROM conversation_messages
        WHERE workspace_id = c.workspace_id AND conversation_id = c.id AND at <= w.until
          AND author = 'app' AND state IN ('accepted', 'delivered')
        OFFSET 0
    ) m
), {_MOVE.strip().removeprefix("WITH ")}
"""

_KEPT = f"""
WITH message AS MATERIALIZED (
    SELECT m.*, c.contact_id
    FROM unnest($1::bigint[], $2::bigint[]) AS n (workspace_id, id)
    CROSS JOIN LATERAL (
        SELECT workspace_id, id, conversation_id, channel_id, provider_id, at FROM conversation_messages
        WHERE workspace_id = n.workspace_id AND id = n.id AND author = 'app' OFFSET 0
    ) m
    CROSS JOIN LATERAL (
        SELECT contact_id FROM conversations WHERE workspace_id = m.workspace_id AND id = m.conversation_id OFFSET 0
    ) c
), told AS (
    SELECT m.workspace_id, m.id, p.state, p.at, p.error_code AS code, p.error_title AS title
    FROM message m
    CROSS JOIN LATERAL (
        SELECT * FROM pending_receipts
        WHERE workspace_id = m.workspace_id AND channel_id = m.channel_id AND provider_id = m.provider_id OFFSET 0
    ) p
    UNION ALL
    SELECT m.workspace_id, m.id, w.state, w.until, NULL, NULL
    FROM message m
    CROSS JOIN LATERAL (
        SELECT identity FROM identities
        WHERE workspace_id = m.workspace_id AND contact_id = m.contact_id OFFSET 0
    ) i
    CROSS JOIN LATERAL (
        SELECT state, until FROM watermarks
        WHERE workspace_id = m.workspace_id AND channel_id = m.channel_id AND recipient = i.identity
          AND until >= m.at
        OFFSET 0
    ) w
), {_MOVE.strip().removeprefix("WITH ")}
"""


async def apply(connection: Connection, receipts: Sequence[Receipt], watermarks: Sequence[Watermark]) -> int:
    """After they were kept, and that was committed. Returns how many messages changed."""
    changed = 0
    if receipts:
        changed += await _tell(connection, await connection.fetch(_BY_RECEIPT, *columns([r[:7] for r in receipts])))
    if watermarks:
        changed += await _tell(connection, await connection.fetch(_BY_WATERMARK, *columns(watermarks)))
    return changed


async def catch_up(connection: Connection, messages: Sequence[tuple[int, int]]) -> int:
    """What was kept for these new messages (workspace, id), after they were committed; returns how many changed."""
    return await _tell(connection, await connection.fetch(_KEPT, *columns(messages))) if messages else 0


async def _tell(connection: Connection, changed: Sequence[tuple[int, int]]) -> int:
    await inbox_events.append(connection, updated=[(row[0], row[1]) for row in changed])
    return len(changed)
