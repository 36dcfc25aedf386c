"""Labels of conversations. Deleting one hides it at once; conversations lose it bit by bit (`strip_deleted`)."""

from collections.abc import Sequence

import asyncpg

from pombo.domain.ids import WorkspaceId
from pombo.store import inbox_events
from pombo.store.database import Connection
from pombo.store.errors import Duplicate

LABEL_JSON = """jsonb_build_object('id', l.id, 'version', l.version, 'name', l.name, 'colour', l.colour,
                                   'createdAt', l.created_at)"""

_STRIP = """
UPDATE conversations c SET label_ids = array_remove(c.label_ids, h.label_id), version = c.version + 1
FROM (
    SELECT c.workspace_id, c.conversation_id AS id, c.label_id FROM labels l
    JOIN conversation_labels c ON c.workspace_id = l.workspace_id AND c.label_id = l.id
    WHERE l.deleted_at IS NOT NULL LIMIT $1
) h
WHERE c.workspace_id = h.workspace_id AND c.id = h.id
RETURNING c.workspace_id, c.id
"""

# A conversation may be given the label in the very moment of its deletion, after the check and before its commit.
_FORGET = """
DELETE FROM labels l WHERE l.deleted_at < now() - interval '1 minute' AND NOT EXISTS (
    SELECT FROM conversation_labels c WHERE c.workspace_id = l.workspace_id AND c.label_id = l.id)
"""


async def list_labels(connection: Connection, workspace_id: WorkspaceId) -> list[str]:
    """JSON text of each, by name."""
    rows = await connection.fetch(
        f"SELECT {LABEL_JSON} FROM labels l WHERE l.workspace_id = $1 AND l.deleted_at IS NULL ORDER BY l.name, l.id",
        workspace_id,
    )
    return [row[0] for row in rows]


async def add_label(connection: Connection, workspace_id: WorkspaceId, name: str, colour: str) -> str:
    """JSON text of it. Raises Duplicate."""
    try:
        added: str = await connection.fetchval(
            f"""INSERT INTO labels AS l (workspace_id, name, colour) VALUES ($1, $2, $3) RETURNING {LABEL_JSON}""",
            workspace_id,
            name,
            colour,
        )
    except asyncpg.UniqueViolationError as error:
        raise Duplicate(f"There is a label {name!r} already.") from error
    await inbox_events.append_row(connection, workspace_id, "label.updated", added)
    return added


async def change_label(
    connection: Connection, workspace_id: WorkspaceId, label_id: int, name: str | None, colour: str | None
) -> str | None:
    """JSON text of it; None when there is none. Raises Duplicate."""
    try:
        changed: str | None = await connection.fetchval(
            f"""UPDATE labels l SET name = coalesce($3, name), colour = coalesce($4, colour), version = version + 1
                WHERE workspace_id = $1 AND id = $2 AND deleted_at IS NULL RETURNING {LABEL_JSON}""",
            workspace_id,
            label_id,
            name,
            colour,
        )
    except asyncpg.UniqueViolationError as error:
        raise Duplicate(f"There is a label {name!r} already.") from error
    if changed is not None:
        await inbox_events.append_row(connection, workspace_id, "label.updated", changed)
    return changed


async def delete_label(connection: Connection, workspace_id: WorkspaceId, label_id: int) -> bool:
    deleted: str | None = await connection.fetchval(
        f"""UPDATE labels l SET deleted_at = now(), version = version + 1
            WHERE workspace_id = $1 AND id = $2 AND deleted_at IS NULL RETURNING {LABEL_JSON}""",
        workspace_id,
        label_id,
    )
    if deleted is not None:
        await inbox_events.append_row(connection, workspace_id, "label.deleted", deleted)
    return deleted is not None


async def unknown_labels(connection: Connection, workspace_id: WorkspaceId, label_ids: Sequence[int]) -> list[int]:
    """Those that are no labels."""
    rows = await connection.fetch(
        "SELECT id FROM labels WHERE workspace_id = $1 AND id = ANY ($2::bigint[]) AND deleted_at IS NULL",
        workspace_id,
        label_ids,
    )
    known = {row[0] for row in rows}
    return [each for each in label_ids if each not in known]


async def strip_deleted(connection: Connection, limit: int) -> int:
    """Takes a deleted label from so many conversations at most; returns how many there were. In one transaction."""
    changed = [tuple(row) for row in await connection.fetch(_STRIP, limit)]
    await inbox_events.append(connection, conversations=changed)
    if not changed:
        await connection.execute(_FORGET)
    return len(changed)
