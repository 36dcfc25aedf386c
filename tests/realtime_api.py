"""Pombo's API with real time for tests: real uvicorn on a port of its own, in this process."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pombo.api.app import create_app
from pombo.api.services import Services
from pombo.domain.ids import AgentId, WorkspaceId
from pombo.realtime.service import RealTime, RealTimeOptions
from pombo.run.api_role import ApiServer
from pombo.settings import Settings
from pombo.store import accounts
from pombo.store.database import Database
from pombo.store.secrets import SecretBox


@dataclass(frozen=True, slots=True)
class RealTimeApi:
    realtime: RealTime
    port: int

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"


@asynccontextmanager
async def running_realtime_api(
    url: str, box: SecretBox, options: RealTimeOptions | None = None, *, allowed_origins: str = ""
) -> AsyncIterator[RealTimeApi]:
    """One API process, as far as the others can tell: with pools, tailer and memory of its own."""
    async with Database.open(url) as database:
        realtime = RealTime(database, options)
        settings = Settings(_env_file=None, allowed_origins=allowed_origins)  # type: ignore[call-arg]
        app = create_app(Services(database, settings, box, realtime=realtime))
        server = ApiServer(app)
        listener = socket.create_server(("127.0.0.1", 0), backlog=600)
        served = asyncio.Event()
        telling = asyncio.create_task(realtime.run(served))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield RealTimeApi(realtime, listener.getsockname()[1])
        finally:
            server.should_exit = True
            await serving
            served.set()
            await telling


async def add_agent(database: Database, workspace_id: WorkspaceId, name: str) -> tuple[AgentId, str]:
    """An agent, and a key to act as."""
    async with database.transaction() as connection:
        agent_id = await connection.fetchval(
            "INSERT INTO agents (workspace_id, name) VALUES ($1, $2) RETURNING id", workspace_id, name
        )
        return agent_id, await accounts.create_api_key(connection, workspace_id, name, agent_id)
