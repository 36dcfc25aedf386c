"""Listening: the sandbox as a process of its own, or inside a test."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import uvloop

from pombo.sandbox.app import Sandbox
from pombo.sandbox.clock import Clock
from pombo.sandbox.connection import Connection
from pombo.sandbox.world import Simulation

_log = logging.getLogger(__name__)

# A load test may open all its connections at once.
_BACKLOG = 4096


class Running(NamedTuple):
    base_url: str
    simulation: Simulation


@asynccontextmanager
async def running(host: str = "127.0.0.1", port: int = 0, *, clock: Clock | None = None) -> AsyncIterator[Running]:
    """The sandbox in this event loop, on a free port unless one is given. Raises OSError if it cannot listen."""
    simulation = Simulation(clock or Clock(), f"http://{host}:{port}")
    sandbox = Sandbox(simulation)
    connections: set[Connection] = set()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Connection(sandbox.handle, simulation.traffic, connections), host, port, backlog=_BACKLOG
    )
    try:
        bound = server.sockets[0].getsockname()[1]
        simulation.world.urls.base_url = f"http://{host}:{bound}"
        yield Running(f"http://{host}:{bound}", simulation)
    finally:
        server.close()
        for connection in tuple(connections):
            connection.close()
        await server.wait_closed()
        await simulation.world.pump.close()


def serve(host: str = "127.0.0.1", port: int = 3200, *, on_ready: Callable[[str], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT. `on_ready` is called with the base URL. Raises OSError if it cannot listen."""
    uvloop.run(_serve(host, port, on_ready))


async def _serve(host: str, port: int, on_ready: Callable[[str], None] | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(host, port) as sandbox:
        _log.info("sandbox listens at %s", sandbox.base_url)
        if on_ready is not None:
            on_ready(sandbox.base_url)
        await stop.wait()
