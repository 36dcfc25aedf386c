"""Who wants no more campaigns. Looked at when audiences are expanded (`audience`); replies do not ask."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from pombo.domain.channels import ChannelKind
from pombo.domain.ids import WorkspaceId
from pombo.store.database import Connection


class Suppression(NamedTuple):
    workspace_id: int
    kind: ChannelKind
    recipient: str
    """In the form of `normalise_recipient`."""
    reason: str
    code: str | None = None
    """Meta's, when it is Meta's word."""


class Suppressed(NamedTuple):
    kind: ChannelKind
    recipient: str
    reason: str
    code: str | None
    at: datetime


async def suppress(connection: Connection, suppressions: Sequence[Suppression]) -> int:
    """Adds those who are not on the list yet; returns how many these were."""
    done = await connection.execute(
        """INSERT INTO suppressions (workspace_id, kind, recipient, reason, code)
           SELECT DISTINCT ON (workspace_id, kind, recipient) *
           FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[])
               AS s (workspace_id, kind, recipient, reason, code)
           ORDER BY workspace_id, kind, recipient
           ON CONFLICT DO NOTHING""",
        *map(list, zip(*suppressions, strict=True)),
    )
    return int(done.rpartition(" ")[2])


async def list_suppressions(
    connection: Connection, workspace_id: WorkspaceId, after: tuple[str, str], limit: int
) -> list[Suppressed]:
    """In the order of (kind, recipient)."""
    rows = await connection.fetch(
        """SELECT kind, recipient, reason, code, at FROM suppressions
           WHERE workspace_id = $1 AND (kind, recipient) > ($2, $3) ORDER BY kind, recipient LIMIT $4""",
        workspace_id,
        *after,
        limit,
    )
    return [Suppressed(*row)._replace(kind=ChannelKind(row["kind"])) for row in rows]


async def lift(connection: Connection, workspace_id: WorkspaceId, kind: ChannelKind, recipient: str) -> bool:
    """Takes somebody off the list; False when they were not on it."""
    done = await connection.execute(
        "DELETE FROM suppressions WHERE workspace_id = $1 AND kind = $2 AND recipient = $3",
        workspace_id,
        kind,
        recipient,
    )
    return done == "DELETE 1"
