"""Conversations for tests: contacts who have written, and agents with keys."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx

from pombo.domain.ids import AgentId, ChannelId, WorkspaceId
from pombo.store import accounts, agents
from pombo.store.database import Database
from tests.api_client import Api


@dataclass(frozen=True, slots=True)
class Person:
    """An agent and the agent's way to the API."""

    id: AgentId
    http: httpx.AsyncClient


async def add_person(api: Api, name: str) -> Person:
    async with api.database.transaction() as connection:
        agent_id = await agents.add_agent(connection, api.account.workspace_id, name)
        key = await accounts.create_api_key(connection, api.account.workspace_id, name, agent_id)
    http = httpx.AsyncClient(
        transport=httpx.ASGITransport(api.app, raise_app_exceptions=False),
        base_url="http://pombo.test",
        headers={"Authorization": f"Bearer {key}"},
        timeout=60,
    )
    return Person(agent_id, http)


def ago(**times: float) -> datetime:
    return datetime.now(UTC) - timedelta(**times)


async def add_conversation(
    database: Database,
    workspace_id: WorkspaceId,
    channel_id: ChannelId,
    address: str,
    texts: Sequence[str] = ("Hello",),
    *,
    name: str | None = None,
    at: datetime | None = None,
    status: str = "open",
) -> int:
    """A contact who has written these, a second apart, the last one at `at`, and whom nobody has read."""
    last = at or datetime.now(UTC)
    async with database.transaction() as connection:
        contact_id = await connection.fetchval(
            """INSERT INTO contacts (workspace_id, channel_id, external_id, name, last_inbound_at)
               VALUES ($1, $2, $3, $4, $5) RETURNING id""",
            workspace_id,
            channel_id,
            address,
            name,
            last if texts else None,
        )
        await connection.execute(
            "INSERT INTO identities (workspace_id, channel_id, identity, contact_id) VALUES ($1, $2, $3, $4)",
            workspace_id,
            channel_id,
            address,
            contact_id,
        )
        conversation_id: int = await connection.fetchval(
            """INSERT INTO conversations (workspace_id, channel_id, contact_id, unread, last_message_at,
                                          last_inbound_at, preview, status)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id""",
            workspace_id,
            channel_id,
            contact_id,
            len(texts),
            last,
            last if texts else None,
            texts[-1] if texts else "",
            status,
        )
        last_id = 0
        for place, text in enumerate(texts, 1):
            last_id = await connection.fetchval(
                """INSERT INTO conversation_messages (workspace_id, conversation_id, channel_id, direction, author,
                                                      kind, text, provider_id, at)
                   VALUES ($1, $2, $3, 'in', 'contact', 'text', $4, $5, $6) RETURNING id""",
                workspace_id,
                conversation_id,
                channel_id,
                text,
                f"in.{conversation_id}.{place}",
                last - timedelta(seconds=len(texts) - place),
            )
        await connection.execute(
            "UPDATE conversations SET last_inbound_id = $2 WHERE id = $1", conversation_id, last_id
        )
    return conversation_id
