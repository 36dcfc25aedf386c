"""Whether people want messages: what they said last, by Meta's clock, holds.

Who does not is on the list of suppressions, under every address, for as long as that is so.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

from pombo.store.database import Connection
from pombo.store.planning import columns


class Wish(NamedTuple):
    workspace_id: int
    contact_id: int
    at: datetime
    is_welcome: bool


# Said at the same moment, no is believed.
_NOTE = """
WITH said AS MATERIALIZED (
    SELECT DISTINCT ON (workspace_id, contact_id) *
    FROM unnest($1::bigint[], $2::bigint[], $3::timestamptz[], $4::boolean[])
        AS w (workspace_id, contact_id, at, is_welcome)
    ORDER BY workspace_id, contact_id, at DESC, is_welcome
)
UPDATE contacts c SET opted_out_at = CASE WHEN s.is_welcome THEN NULL ELSE s.at END, preference_at = s.at
FROM said s
WHERE c.workspace_id = s.workspace_id AND c.id = s.contact_id
  AND (c.preference_at IS NULL OR s.at > c.preference_at
       OR s.at = c.preference_at AND NOT s.is_welcome AND c.opted_out_at IS NULL)
RETURNING c.workspace_id, c.id
"""

# The reason by which the entries made here are known; others' are theirs to lift.
REASON = "The person has asked for no more messages."

_SUPPRESS = """
INSERT INTO suppressions (workspace_id, kind, recipient, reason)
SELECT DISTINCT c.workspace_id, h.kind, i.identity, $3
FROM unnest($1::bigint[], $2::bigint[]) AS w (workspace_id, id)
CROSS JOIN LATERAL (
    SELECT workspace_id, id, channel_id FROM contacts
    WHERE workspace_id = w.workspace_id AND id = w.id AND opted_out_at IS NOT NULL OFFSET 0
) c
JOIN channels h ON h.workspace_id = c.workspace_id AND h.id = c.channel_id
CROSS JOIN LATERAL (
    SELECT identity FROM identities WHERE workspace_id = c.workspace_id AND contact_id = c.id OFFSET 0
) i
ORDER BY 1, 2, 3
ON CONFLICT (workspace_id, kind, recipient) DO NOTHING
"""

# Also of who has never said anything: the number may have been another's. Unless the same person does not want messages
# on another channel of the kind.
_LIFT = """
WITH welcome AS MATERIALIZED (
    SELECT c.workspace_id, h.kind, i.identity
    FROM unnest($1::bigint[], $2::bigint[]) AS w (workspace_id, id)
    CROSS JOIN LATERAL (
        SELECT workspace_id, id, channel_id FROM contacts
        WHERE workspace_id = w.workspace_id AND id = w.id AND opted_out_at IS NULL OFFSET 0
    ) c
    JOIN channels h ON h.workspace_id = c.workspace_id AND h.id = c.channel_id
    CROSS JOIN LATERAL (
        SELECT identity FROM identities WHERE workspace_id = c.workspace_id AND contact_id = c.id OFFSET 0
    ) i
)
DELETE FROM suppressions s USING welcome w
WHERE s.workspace_id = w.workspace_id AND s.kind = w.kind AND s.recipient = w.identity AND s.reason = $3
  AND NOT EXISTS (
      SELECT FROM channels h2
      JOIN identities i2 ON i2.workspace_id = h2.workspace_id AND i2.channel_id = h2.id AND i2.identity = s.recipient
      JOIN contacts c2 ON c2.workspace_id = i2.workspace_id AND c2.id = i2.contact_id
      WHERE h2.workspace_id = s.workspace_id AND h2.kind = s.kind AND c2.opted_out_at IS NOT NULL)
"""


async def note(connection: Connection, wishes: Sequence[Wish]) -> set[tuple[int, int]]:
    """Returns (workspace, contact) of those that changed."""
    rows = await connection.fetch(_NOTE, *columns(wishes)) if wishes else []
    return {(row[0], row[1]) for row in rows}


async def suppress(connection: Connection, contacts: Collection[tuple[int, int]]) -> None:
    """Brings the list of suppressions in line with what these (workspace, contact) want."""
    if contacts:
        await connection.execute(_SUPPRESS, *columns(contacts), REASON)
        await connection.execute(_LIFT, *columns(contacts), REASON)
