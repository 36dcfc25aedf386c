"""What Meta tells of channels, their accounts and templates; each notice is kept once."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from pombo.domain.ids import WorkspaceId
from pombo.store import run_control
from pombo.store.database import Connection
from pombo.store.planning import columns


class Notice(NamedTuple):
    workspace_id: int
    channel_id: int
    name: str
    subject: str
    data: str
    """JSON text."""
    digest: bytes
    at: datetime


# What was told of the same thing after it, if that came first, makes a notice one of the past.
_NOTE = """
WITH told AS (
    SELECT DISTINCT ON (workspace_id, channel_id, name, subject, at, digest) *
    FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::jsonb[], $6::bytea[], $7::timestamptz[])
        WITH ORDINALITY AS n (workspace_id, channel_id, name, subject, data, digest, at, place)
), noted AS (
    INSERT INTO channel_notices (workspace_id, channel_id, name, subject, data, digest, at)
    SELECT workspace_id, channel_id, name, subject, data, digest, at FROM told ORDER BY 1, 2, 3, 4, 7, 6
    ON CONFLICT (workspace_id, channel_id, name, subject, at, digest) DO NOTHING
    RETURNING workspace_id, channel_id, name, subject, digest, at
)
SELECT t.place FROM told t JOIN noted n USING (workspace_id, channel_id, name, subject, digest, at)
WHERE NOT EXISTS (SELECT FROM channel_notices o WHERE o.workspace_id = t.workspace_id AND o.channel_id = t.channel_id
                                                  AND o.name = t.name AND o.subject = t.subject AND o.at > t.at)
  AND NOT EXISTS (SELECT FROM told o WHERE o.workspace_id = t.workspace_id AND o.channel_id = t.channel_id
                                       AND o.name = t.name AND o.subject = t.subject AND o.at > t.at)
"""

_RUNS_OF_TEMPLATE = """
SELECT id FROM runs
WHERE workspace_id = $1 AND $2 = ANY (channel_ids) AND state IN ('pending', 'processing')
  AND replace(message_kind(content), '-', '_') = 'template ' || $3
"""


async def note(connection: Connection, notices: Sequence[Notice]) -> list[int]:
    """Returns the indexes of those that are news: not known, and nothing later is known of the same thing."""
    if not notices:
        return []
    return [row[0] - 1 for row in await connection.fetch(_NOTE, *columns(notices))]


async def pause_template(
    connection: Connection, workspace_id: int, channel_id: int, template: str, reason: str
) -> list[int]:
    """Pauses the runs that send this template (`name language`) through the channel; returns which these were."""
    rows = await connection.fetch(_RUNS_OF_TEMPLATE, workspace_id, channel_id, template)
    return list(await run_control.pause_runs(connection, WorkspaceId(workspace_id), [row[0] for row in rows], reason))
