"""Canned replies: texts that agents insert by a shortcut."""

import asyncpg

from pombo.domain.ids import WorkspaceId
from pombo.store import inbox_events
from pombo.store.database import Connection
from pombo.store.errors import Duplicate

_JSON = """jsonb_build_object('id', r.id, 'version', r.version, 'shortcut', r.shortcut, 'text', r.text,
                              'createdAt', r.created_at)"""


async def list_replies(connection: Connection, workspace_id: WorkspaceId) -> list[str]:
    """JSON text of each, by shortcut."""
    rows = await connection.fetch(
        f"SELECT {_JSON} FROM canned_replies r WHERE r.workspace_id = $1 ORDER BY r.shortcut", workspace_id
    )
    return [row[0] for row in rows]


async def reply_text(connection: Connection, workspace_id: WorkspaceId, reply_id: int) -> str | None:
    found: str | None = await connection.fetchval(
        "SELECT text FROM canned_replies WHERE workspace_id = $1 AND id = $2", workspace_id, reply_id
    )
    return found


async def add_reply(connection: Connection, workspace_id: WorkspaceId, shortcut: str, text: str) -> str:
    """JSON text of it. Raises Duplicate."""
    return str(
        await _change(
            connection,
            workspace_id,
            shortcut,
            f"INSERT INTO canned_replies AS r (workspace_id, shortcut, text) VALUES ($1, $2, $3) RETURNING {_JSON}",
            shortcut,
            text,
        )
    )


async def change_reply(
    connection: Connection, workspace_id: WorkspaceId, reply_id: int, shortcut: str | None, text: str | None
) -> str | None:
    """JSON text of it; None when there is none. Raises Duplicate."""
    return await _change(
        connection,
        workspace_id,
        shortcut,
        f"""UPDATE canned_replies r SET shortcut = coalesce($3, shortcut), text = coalesce($4, text),
                version = version + 1
            WHERE workspace_id = $1 AND id = $2 RETURNING {_JSON}""",
        reply_id,
        shortcut,
        text,
    )


async def delete_reply(connection: Connection, workspace_id: WorkspaceId, reply_id: int) -> bool:
    deleted: str | None = await connection.fetchval(
        f"DELETE FROM canned_replies r WHERE workspace_id = $1 AND id = $2 RETURNING {_JSON}", workspace_id, reply_id
    )
    if deleted is not None:
        await inbox_events.append_row(connection, workspace_id, "canned_reply.deleted", deleted)
    return deleted is not None


async def _change(
    connection: Connection, workspace_id: WorkspaceId, shortcut: str | None, statement: str, *values: object
) -> str | None:
    try:
        changed: str | None = await connection.fetchval(statement, workspace_id, *values)
    except asyncpg.UniqueViolationError as error:
        raise Duplicate(f"There is a canned reply {shortcut!r} already.") from error
    if changed is not None:
        await inbox_events.append_row(connection, workspace_id, "canned_reply.updated", changed)
    return changed
