"""Agents: who answers."""

from datetime import datetime

from fastapi import APIRouter
from pydantic import Field

from pombo.api.shapes import ActingAgent, Given, Shape, Workspace
from pombo.store import agents

router = APIRouter(prefix="/api/agents", tags=["inbox"])


class AgentShape(Shape):
    id: int
    name: str
    seen_until: int = Field(
        description="Messages up to this `id` count as read by the agent, unless a conversation's `reads` say "
        "otherwise."
    )
    created_at: datetime


class AgentList(Shape):
    agents: list[AgentShape]
    me: int | None = Field(description="Whom the key acts for; null when it is a program's.")


@router.get("")
async def list_agents(workspace: Workspace, agent: ActingAgent, given: Given) -> AgentList:
    async with given.database.tenant(workspace) as connection:
        found = await agents.list_agents(connection, workspace)
    return AgentList(
        agents=[AgentShape(id=a.id, name=a.name, seen_until=a.seen_until, created_at=a.created_at) for a in found],
        me=agent,
    )
