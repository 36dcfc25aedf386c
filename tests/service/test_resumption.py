"""Clients that lose their sockets at random, over an hour of traffic, end with exactly the server's state."""

import asyncio
import json
import os
import random
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from websockets.exceptions import ConnectionClosed

from pombo.domain.ids import WorkspaceId
from pombo.realtime.service import RealTimeOptions
from pombo.store import accounts, event_log
from pombo.store.database import Database
from pombo.store.secrets import SecretBox
from tests.realtime_api import RealTimeApi, running_realtime_api
from tests.realtime_client import Client, Frame, connected
from tests.sandbox_server import AppHandle, ChannelHandle
from tests.seeding import add_channel, add_workspace

LIST = "conversations:all"
CONVERSATIONS = 40
# An hour: a change every three seconds.
CHANGES = 1200
WRITERS = 8

# A row of what an inbox shows, as HTTP would answer it and as an event carries it.
_ROW = "jsonb_build_object('id', c.id, 'version', c.version, 'status', c.status, 'preview', c.preview)"


@dataclass
class Store:
    """What an open browser holds: rows by id, replaced only by a higher version."""

    rows: dict[int, Any] = field(default_factory=dict)
    cursor: int | None = None
    events: list[int] = field(default_factory=list)
    resumed: int = 0
    snapshots: int = 0

    def put(self, row: Any) -> None:
        known = self.rows.get(row["id"])
        if known is None or row["version"] > known["version"]:
            self.rows[row["id"]] = row

    def apply(self, frame: Frame) -> None:
        if frame["type"] == "events":
            for event in frame["events"]:
                self.events.append(event["position"])
                self.put(event["data"])
        self.cursor = frame["position"]


async def fetch(database: Database, workspace: WorkspaceId) -> dict[int, Any]:
    """The state, as a browser would get it by HTTP."""
    async with database.tenant(workspace) as connection:
        rows = await connection.fetch(f"SELECT {_ROW} AS row FROM conversations c WHERE workspace_id = $1", workspace)
    return {row["id"]: row for row in (json.loads(each["row"]) for each in rows)}


async def seed(database: Database, box: SecretBox, workspace: WorkspaceId) -> None:
    page = ChannelHandle("messenger", "4001", "a-token", AppHandle("1", "an-app-secret", "verify"))
    channel = await add_channel(database, box, workspace, page)
    async with database.borrow() as connection:
        await connection.execute(
            """WITH people AS (
                   INSERT INTO contacts (workspace_id, channel_id, external_id)
                   SELECT $1, $2, n FROM generate_series(1, $3) n RETURNING workspace_id, channel_id, id
               )
               INSERT INTO conversations (workspace_id, channel_id, contact_id, id)
               SELECT workspace_id, channel_id, id, row_number() OVER (ORDER BY id) FROM people""",
            workspace,
            channel,
            CONVERSATIONS,
        )


async def change(database: Database, workspace: WorkspaceId, chance: random.Random) -> None:
    """One use case: a few conversations change, their events go with them, and the commit takes a while."""
    ids = sorted(chance.sample(range(1, CONVERSATIONS + 1), chance.randint(1, 3)))
    async with database.transaction() as connection:
        await connection.execute(
            f"""WITH c AS (
                    UPDATE conversations SET version = version + 1, preview = $3,
                           status = CASE status WHEN 'open' THEN 'closed' ELSE 'open' END
                    WHERE workspace_id = $1 AND id = ANY (ARRAY(
                        SELECT id FROM conversations WHERE workspace_id = $1 AND id = ANY ($2) ORDER BY id FOR UPDATE
                    )) RETURNING *
                )
                INSERT INTO events (workspace_id, topic, name, data)
                SELECT workspace_id, $4, 'conversation.updated', {_ROW} FROM c""",
            workspace,
            ids,
            f"change {chance.random()}",
            LIST,
        )
        if chance.random() < 0.2:
            await connection.execute("SELECT pg_sleep($1)", chance.random() * 0.02)


class Browser:
    """Follows the list on one API process or another; its socket lives as long as chance wills."""

    def __init__(
        self, database: Database, workspace: WorkspaceId, key: str, apis: list[RealTimeApi], seed: int
    ) -> None:
        self.store = Store()
        self._database = database
        self._workspace = workspace
        self._key = key
        self._apis = apis
        self._chance = random.Random(seed)

    async def run(self, enough: asyncio.Event, upto: list[int]) -> None:
        while True:
            api = self._chance.choice(self._apis)
            try:
                async with connected(api.url, self._key, close_timeout=0.05) as client:
                    await self._begin(client)
                    frames_left = int(self._chance.expovariate(1 / 25)) if not enough.is_set() else 1_000_000
                    for _ in range(frames_left):
                        if enough.is_set() and self.store.cursor is not None and self.store.cursor >= upto[0]:
                            return
                        await client.say(type="ping")
                        self.store.apply(await client.hear_any("events", "pong"))
                    # Cut, in the middle of whatever is under way.
                    client.connection.transport.abort()
            except ConnectionClosed:
                pass
            # Away for a moment, or for so long that much is deleted meanwhile.
            await asyncio.sleep(self._chance.choice([0, 0, 0.01, 0.05, 0.3]))

    async def _begin(self, client: Client) -> None:
        after = self.store.cursor
        await client.say(type="subscribe", topics=[LIST], **({} if after is None else {"after": after}))
        while True:
            frame = await client.hear_any("events", "subscribed", "resumed", "snapshot_required")
            if frame["type"] == "events":
                self.store.apply(frame)
                continue
            self.store.cursor = frame["position"]
            if frame["type"] == "resumed":
                self.store.resumed += 1
                return
            # From here on events come; the state is fetched behind that, so that nothing is between the two.
            self.store.snapshots += 1
            for row in (await fetch(self._database, self._workspace)).values():
                self.store.put(row)
            return


async def forget_now_and_then(database: Database, workspace: WorkspaceId, chance: random.Random) -> None:
    """What upkeep does, at a pace that makes some cursors too old."""
    while True:
        await asyncio.sleep(0.2)
        async with database.borrow() as connection:
            await event_log.forget(connection, workspace, timedelta(seconds=chance.choice([0.1, 0.5, 2])))


async def test_clients_that_lose_their_sockets_at_random_end_with_exactly_the_servers_state(
    url: str, box: SecretBox, database: Database
) -> None:
    seed_number = int(os.environ.get("POMBO_SEED", "4"))
    chance = random.Random(seed_number)
    workspace = await add_workspace(database)
    await seed(database, box, workspace)
    async with database.transaction() as connection:
        key = await accounts.create_api_key(connection, workspace, "tests")
    async with AsyncExitStack() as life:
        apis = [
            await life.enter_async_context(running_realtime_api(url, box, RealTimeOptions(most_replayed=1000)))
            for _ in range(2)
        ]
        browsers = [Browser(database, workspace, key, apis, seed_number + n) for n in range(6)]
        enough, upto = asyncio.Event(), [0]

        async def write(count: int, own: random.Random) -> None:
            for _ in range(count):
                await change(database, workspace, own)
                own.choice(apis).realtime.ring()

        async with asyncio.timeout(240), asyncio.TaskGroup() as tasks:
            forgetting = tasks.create_task(forget_now_and_then(database, workspace, chance))
            following = [tasks.create_task(browser.run(enough, upto)) for browser in browsers]
            async with asyncio.TaskGroup() as writing:
                for n in range(WRITERS):
                    writing.create_task(write(CHANGES // WRITERS, random.Random(seed_number * 100 + n)))
            forgetting.cancel()
            async with database.borrow() as connection:
                while await event_log.number(connection, 5000):
                    pass
                upto[0] = await event_log.tail(connection)
            enough.set()
            await asyncio.wait(following)

    state = await fetch(database, workspace)
    assert sum(row["version"] - 1 for row in state.values()) >= CHANGES
    for browser in browsers:
        assert browser.store.rows == state, f"POMBO_SEED={seed_number}"
        # In order, and none twice.
        assert browser.store.events == sorted(set(browser.store.events))
    assert sum(browser.store.resumed for browser in browsers) > 20
    assert sum(browser.store.snapshots for browser in browsers) > len(browsers)
