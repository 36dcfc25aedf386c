"""A client of the WebSocket without a browser: checks every frame against the published schema, and keeps a store."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from pombo.realtime import frames
from tests.json_schema import problem

Frame = dict[str, Any]

_SCHEMA = frames.schema()
_SERVER = _SCHEMA["$defs"]["ServerFrame"]


class Client:
    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def say(self, **frame: Any) -> None:
        await self.connection.send(json.dumps(frame))

    async def next(self) -> Frame:
        """The next frame. Raises ConnectionClosed."""
        async with asyncio.timeout(20):
            text = await self.connection.recv()
        assert isinstance(text, str)
        frame: Frame = json.loads(text)
        assert problem(frame, _SERVER, _SCHEMA) is None, frame
        return frame

    async def hear(self, kind: str, wanted: Callable[[Frame], bool] = lambda _: True) -> Frame:
        """The next frame of this type of which that is true; others are passed over."""
        while True:
            frame = await self.next()
            if frame["type"] == kind and wanted(frame):
                return frame

    async def hear_any(self, *kinds: str) -> Frame:
        """The next frame of these types; others are passed over."""
        while True:
            frame = await self.next()
            if frame["type"] in kinds:
                return frame

    async def events(self, count: int) -> list[Frame]:
        """The next so many events; other frames are passed over."""
        found: list[Frame] = []
        while len(found) < count:
            found += (await self.hear("events"))["events"]
        return found

    async def follow(self, *topics: str, after: int | None = None) -> Frame:
        """Subscribes; returns the last frame of the answer."""
        await self.say(type="subscribe", topics=topics, **({} if after is None else {"after": after}))
        while True:
            frame = await self.next()
            if frame["type"] in ("subscribed", "resumed", "snapshot_required", "error"):
                return frame

    async def closed(self) -> tuple[int, str]:
        """The code and reason of the server's close; frames before it are passed over."""
        with suppress(ConnectionClosed):
            while True:
                await self.next()
        code, reason = self.connection.close_code, self.connection.close_reason
        assert code is not None
        assert reason is not None
        return code, reason


@asynccontextmanager
async def connected(url: str, key: str | None = None, **options: Any) -> AsyncIterator[Client]:
    """A socket; with a key it has said who it is, and was greeted."""
    if key is not None:
        options["additional_headers"] = {"Authorization": f"Bearer {key}"}
    async with connect(url, compression=None, max_size=None, **options) as connection:
        client = Client(connection)
        if key is not None:
            assert (await client.next())["type"] == "ready"
        yield client
