"""The panic button: nothing of a halted workspace is sent, whatever its runs' states, until the halt is released."""

from dataclasses import dataclass
from datetime import datetime

from pombo.domain.ids import WorkspaceId
from pombo.store import audience, run_control
from pombo.store.database import Connection


@dataclass(frozen=True, slots=True)
class Halt:
    since: datetime
    halted_at: datetime | None
    """Since when no further send starts; until then what was taken may still leave, within milliseconds."""


async def halt(connection: Connection, workspace_id: WorkspaceId) -> Halt:
    """In a transaction. Halting what is halted already changes nothing."""
    await connection.execute("INSERT INTO halts (workspace_id) VALUES ($1) ON CONFLICT DO NOTHING", workspace_id)
    await audience.ring_due(connection)
    await run_control.ring(connection)
    found = await get_halt(connection, workspace_id)
    assert found is not None
    return found


async def release(connection: Connection, workspace_id: WorkspaceId) -> bool:
    """In a transaction. Everything goes on but the runs that are paused; False when nothing was halted."""
    released = await connection.execute("DELETE FROM halts WHERE workspace_id = $1", workspace_id)
    await audience.ring_due(connection)
    return released == "DELETE 1"


async def halted_workspaces(connection: Connection) -> list[str]:
    """Their names. On a worker connection."""
    rows = await connection.fetch(
        "SELECT w.name FROM halts h JOIN workspaces w ON w.id = h.workspace_id ORDER BY w.name"
    )
    return [row["name"] for row in rows]


async def get_halt(connection: Connection, workspace_id: WorkspaceId) -> Halt | None:
    row = await connection.fetchrow("SELECT since, halted_at FROM halts WHERE workspace_id = $1", workspace_id)
    return None if row is None else Halt(*row)
