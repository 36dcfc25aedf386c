"""The list of conversations: newest first, by any filters at once, and never slow.

One filter chooses the index that is read, in the order of the list, one status at a time; the others are applied to
what was read. Of each status at most `_LOOKED_AT` rows are looked at for a page, so that a rare combination ends with a
short page and a cursor that goes on, instead of a long wait. All conditions on indexes are leakproof, which row-level
security wants of them.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from pombo.domain.ids import WorkspaceId
from pombo.domain.news import NEWS_FOR
from pombo.store import agents
from pombo.store.database import Connection

STATUSES = ("open", "snoozed", "closed")
# Three times as many take some milliseconds.
_LOOKED_AT = 1500


class Position(NamedTuple):
    """In the order of the list: newest first."""

    last_message_at: datetime
    id: int


BEGINNING = Position(datetime(9999, 1, 1, tzinfo=UTC), 2**63 - 1)


@dataclass(frozen=True, slots=True)
class Filters:
    statuses: tuple[str, ...] = STATUSES
    assignee_id: int | None = None
    unassigned: bool = False
    channel_id: int | None = None
    label_id: int | None = None
    unread: bool = False
    """Nobody has read what the contact wrote last."""
    unread_by: int | None = None
    """This agent has not."""


class Page(NamedTuple):
    ids: list[int]
    next: Position | None


_OF_CONVERSATIONS = "SELECT c.last_message_at AS at, c.id FROM conversations c WHERE c.workspace_id = $1"
_FILTERED = f"{_OF_CONVERSATIONS} AND c.filtered_status = s.status"
_PATHS = {
    "label": """SELECT c.last_message_at AS at, c.conversation_id AS id FROM conversation_labels c
                WHERE c.workspace_id = $1 AND c.label_id = $7 AND c.status = s.status""",
    "assignee": f"{_FILTERED} AND c.assignee_id = $5",
    "unread": f"{_FILTERED} AND c.unread > 0",
    "unassigned": f"{_FILTERED} AND c.assignee_id IS NULL",
    "channel": f"{_FILTERED} AND c.filtered_channel_id = $6",
    "status": f"{_OF_CONVERSATIONS} AND c.status = s.status",
}
_IDS = {name: "c.conversation_id" if name == "label" else "c.id" for name in _PATHS}
_FITS = """($5::bigint IS NULL OR c.assignee_id = $5) AND (NOT $8::boolean OR c.assignee_id IS NULL)
    AND ($6::bigint IS NULL OR c.channel_id = $6) AND ($7::bigint IS NULL OR c.label_ids @> ARRAY[$7])
    AND (NOT $9::boolean OR c.unread > 0)
    AND ($10::bigint IS NULL OR c.last_inbound_id > coalesce(
        (SELECT r.until FROM conversation_reads r
         WHERE r.workspace_id = $1 AND r.conversation_id = c.id AND r.agent_id = $10), $11::bigint))"""
# What an agent has not read came after the agent did, and is news for a week only: this bounds the search for it.
_SINCE = "c.last_message_at > coalesce($12::timestamptz, '-infinity')"


def _statement(path: str) -> str:
    read = f"""{_PATHS[path]} AND (c.last_message_at, {_IDS[path]}) < ($3::timestamptz, $4::bigint)
               AND {_SINCE}
               ORDER BY c.last_message_at DESC, {_IDS[path]} DESC"""
    return f"""
    WITH stopped AS MATERIALIZED (
        SELECT e.at, e.id FROM unnest($2::text[]) AS s (status)
        CROSS JOIN LATERAL ({read} OFFSET {_LOOKED_AT} - 1 LIMIT 1) e
        WHERE $14 ORDER BY e.at DESC, e.id DESC LIMIT 1
    ), found AS (
        SELECT f.at, f.id FROM unnest($2::text[]) AS s (status)
        CROSS JOIN LATERAL (
            SELECT r.at, r.id FROM ({read} LIMIT {_LOOKED_AT}) r
            WHERE NOT $14 OR EXISTS (
                SELECT FROM conversations c WHERE c.workspace_id = $1 AND c.id = r.id AND {_FITS} OFFSET 0)
            ORDER BY r.at DESC, r.id DESC LIMIT $13
        ) f
        ORDER BY f.at DESC, f.id DESC LIMIT $13
    )
    SELECT at, id, true FROM found f WHERE NOT EXISTS (SELECT FROM stopped t WHERE (f.at, f.id) < (t.at, t.id))
    UNION ALL SELECT at, id, false FROM stopped
    ORDER BY 3 DESC, 1 DESC, 2 DESC
    """


_STATEMENTS = {path: _statement(path) for path in _PATHS}

_AMONG = f"""
SELECT c.id FROM unnest($13::bigint[]) WITH ORDINALITY AS wanted (id, place)
JOIN conversations c ON c.workspace_id = $1 AND c.id = wanted.id
WHERE c.status = ANY ($2::text[]) AND ($3::timestamptz, $4::bigint) IS NOT NULL AND {_FITS} AND {_SINCE}
ORDER BY wanted.place
"""


async def list_page(
    connection: Connection, workspace_id: WorkspaceId, filters: Filters, after: Position, limit: int
) -> Page:
    """In a tenant's transaction planned `IN_ORDER`."""
    path = _path(filters)
    rows = await connection.fetch(
        _STATEMENTS[path], *await _parameters(connection, workspace_id, filters, after), limit, _narrows(filters, path)
    )
    found = [Position(row[0], row[1]) for row in rows if row[2]]
    stopped = [Position(row[0], row[1]) for row in rows if not row[2]]
    if len(found) == limit:
        return Page([each.id for each in found], found[-1])
    return Page([each.id for each in found], stopped[0] if stopped else None)


async def among(connection: Connection, workspace_id: WorkspaceId, filters: Filters, ids: list[int]) -> list[int]:
    """Those that pass the filters, in the same order."""
    if filters == Filters():
        return ids
    parameters = await _parameters(connection, workspace_id, filters, BEGINNING)
    return [row[0] for row in await connection.fetch(_AMONG, *parameters, ids)]


async def _parameters(
    connection: Connection, workspace_id: WorkspaceId, filters: Filters, after: Position
) -> tuple[object, ...]:
    agent = None
    if filters.unread_by is not None:
        agent = await agents.get_agent(connection, workspace_id, filters.unread_by)
    return (
        workspace_id,
        filters.statuses,
        after.last_message_at,
        after.id,
        filters.assignee_id,
        filters.channel_id,
        filters.label_id,
        filters.unassigned,
        filters.unread,
        filters.unread_by,
        agent and agent.seen_until,
        agent and agent.created_at - NEWS_FOR,
    )


def _path(filters: Filters) -> str:
    """The filter that is expected to leave the fewest."""
    if filters.label_id is not None:
        return "label"
    if filters.assignee_id is not None:
        return "assignee"
    if filters.unread:
        return "unread"
    if filters.unassigned:
        return "unassigned"
    return "status" if filters.channel_id is None else "channel"


def _narrows(filters: Filters, path: str) -> bool:
    """Whether a filter remains that the index does not know, so that what is looked at must be bounded."""
    others = {
        "label": filters.label_id is not None,
        "assignee": filters.assignee_id is not None,
        "unread": filters.unread,
        "unassigned": filters.unassigned,
        "channel": filters.channel_id is not None,
    }
    return filters.unread_by is not None or any(given for name, given in others.items() if name != path)
