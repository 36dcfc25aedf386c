"""Who wants no more campaigns.

Looked at when audiences are expanded (`audience`), and applied to what is queued when somebody is added (`withdraw`).
Replies and transactional messages do not ask.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from pombo.domain.channels import ChannelKind
from pombo.domain.ids import WorkspaceId
from pombo.store import settlement
from pombo.store.database import Connection
from pombo.store.settlement import CANCELLED, Settled


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


# No index of the outbox names its recipients, so a run's own list of them leads to the message: a probe for each person
# and stream. Streams are those that still have something to send, paused ones included.
_QUEUED = """
SELECT o.workspace_id, o.channel_id, o.id, o.due_at
FROM unnest($1::bigint[], $2::text[], $3::text[]) AS s (workspace_id, kind, recipient)
JOIN channels c ON c.workspace_id = s.workspace_id AND c.kind = s.kind
JOIN streams t ON t.workspace_id = c.workspace_id AND t.channel_id = c.id AND t.class = 2 AND t.run_id > 0
JOIN LATERAL (
    SELECT message_id FROM run_recipients r
    WHERE r.workspace_id = s.workspace_id AND r.run_id = t.run_id AND r.channel_id = c.id AND r.recipient = s.recipient
    OFFSET 0
) r ON true
JOIN LATERAL (
    SELECT workspace_id, channel_id, id, due_at FROM outbox o
    WHERE o.workspace_id = s.workspace_id AND o.id = r.message_id AND o.state = 'r'
    OFFSET 0
) o ON true
"""


async def withdraw(connection: Connection, suppressions: Sequence[Suppression]) -> int:
    """Cancels what campaigns have queued for these people and not begun to send; returns how many messages.

    A chunk of an audience that is being expanded at this moment may escape it: Meta then has the last word.
    """
    rows = await connection.fetch(
        _QUEUED,
        [s.workspace_id for s in suppressions],
        [s.kind for s in suppressions],
        [s.recipient for s in suppressions],
    )
    if rows:
        title = "The recipient is on the suppression list."
        await settlement.settle(
            connection,
            [
                Settled(workspace_id, channel_id, id, 0, due_at.date(), CANCELLED, None, error_title=title)
                for workspace_id, channel_id, id, due_at in rows
            ],
        )
    return len(rows)


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
