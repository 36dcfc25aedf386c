"""Whether people want messages: what they said last, by Meta's clock, holds."""

from collections.abc import Sequence
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
WITH said AS (
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


async def note(connection: Connection, wishes: Sequence[Wish]) -> set[tuple[int, int]]:
    """Returns (workspace, contact) of those that changed."""
    rows = await connection.fetch(_NOTE, *columns(wishes)) if wishes else []
    return {(row[0], row[1]) for row in rows}
