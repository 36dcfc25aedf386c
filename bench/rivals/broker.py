"""Redis as BullMQ's documentation wants it: append-only file synced each second, and nothing evicted."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bench.child import Child, ChildFailed, child
from bench.place import BROKER_PORT, Place
from bench.setup import find

_WAIT_S = 20.0


@asynccontextmanager
async def redis(place: Place) -> AsyncIterator[Child]:
    """An empty one."""
    with tempfile.TemporaryDirectory(dir=place.directory) as directory:
        options = {
            "bind": "127.0.0.1",
            "port": str(BROKER_PORT),
            "dir": directory,
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
        }
        command = [find("redis-server"), *(word for name, value in options.items() for word in (f"--{name}", value))]
        async with child("redis-server", command, {}, talks=False) as process:
            await _ready(process)
            yield process


async def _ready(process: Child) -> None:
    for _ in range(int(_WAIT_S / 0.05)):
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", BROKER_PORT)
        except OSError:
            await asyncio.sleep(0.05)
            continue
        writer.write(b"PING\r\n")
        answer = await reader.readline()
        writer.close()
        if answer == b"+PONG\r\n":
            return
    raise ChildFailed(f"redis-server does not answer.\n{process.tail()}")
