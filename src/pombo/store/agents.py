"""Agents: the people who answer. An API key may act for one."""

from datetime import datetime
from typing import NamedTuple

from pombo.domain.ids import AgentId, WorkspaceId
from pombo.store.database import Connection
from pombo.store.errors import Duplicate


class Agent(NamedTuple):
    id: AgentId
    name: str
    seen_until: int
    """Messages up to this id count as read by the agent, unless a conversation's `reads` say otherwise."""
    created_at: datetime


async def list_agents(connection: Connection, workspace_id: WorkspaceId) -> list[Agent]:
    rows = await connection.fetch(
        "SELECT id, name, seen_until, created_at FROM agents WHERE workspace_id = $1 ORDER BY name, id", workspace_id
    )
    return [Agent(*row) for row in rows]


async def get_agent(connection: Connection, workspace_id: WorkspaceId, agent_id: int) -> Agent | None:
    row = await connection.fetchrow(
        "SELECT id, name, seen_until, created_at FROM agents WHERE workspace_id = $1 AND id = $2",
        workspace_id,
        agent_id,
    )
    return None if row is None else Agent(*row)


async def add_agent(connection: Connection, workspace_id: WorkspaceId, name: str) -> AgentId:
    """Has read all that has come so far. Raises Duplicate."""
    added = await connection.fetchval(
        """INSERT INTO agents (workspace_id, name, seen_until)
           VALUES ($1, $2, coalesce((SELECT max(id) FROM conversation_messages WHERE workspace_id = $1), 0))
           ON CONFLICT (workspace_id, name) DO NOTHING RETURNING id""",
        workspace_id,
        name,
    )
    if added is None:
        raise Duplicate(f"There is an agent {name!r} already.")
    return AgentId(added)
