"""Receipts of what other programs sent on our channels; our own messages' are the delivery log's (`receipts`).

As there, two sides look for each other, each after its own commit: a receipt is kept and looks for its message, a
message is inserted and looks for what is kept.
"""

from collections.abc import Collection, Sequence

from pombo.store import inbox_events
from pombo.store.database import Connection
from pombo.store.planning import columns, plan_by_index
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
    FROM unnest($1::bigint[], $2::bigint[], $3::text[]) AS n (workspace_id, channel_id, provider_id)
    CROSS JOIN LATERAL (
        SELECT workspace_id, id, conversation_id, channel_id, provider_id, at FROM conversation_messages
        WHERE workspace_id = n.workspace_id AND channel_id = n.channel_id AND provider_id = n.provider_id
          AND author = 'app'
        OFFSET 0
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


async def follow(
    connection: Connection,
    messages: Collection[tuple[int, int, str]],
    receipts: Sequence[Receipt] = (),
    watermarks: Sequence[Watermark] = (),
) -> int:
    """Both sides' look, in a transaction after the commit that showed the messages and kept the others.

    `messages` are (workspace, channel, Meta's id) of what other programs sent; `receipts` are of none of ours. Returns
    how many messages changed.
    """
    await plan_by_index(connection)
    # Each is told of once, as it is in the end.
    changed: set[tuple[int, int]] = set()
    for statement, rows in (
        (_BY_RECEIPT, [receipt[:7] for receipt in receipts]),
        (_BY_WATERMARK, watermarks),
        (_KEPT, messages),
    ):
        if rows:
            changed |= {tuple(row) for row in await connection.fetch(statement, *columns(rows))}
    await inbox_events.append(connection, updated=sorted(changed))
    return len(changed)
