"""Pombo's own processes, as `pombo worker` and `pombo api` start them."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from bench.child import Child, child
from bench.place import RECEIVER_PORT, until
from bench.seeding import SECRET_KEY


def _environment(url: str, server_url: str, sockets: int) -> dict[str, str]:
    return {
        "DATABASE_URL": url,
        "POMBO_SECRET_KEY": SECRET_KEY,
        "GRAPH_API_URL": server_url,
        "WORKER_CONCURRENCY": str(sockets),
        "MAX_SOCKETS": str(sockets),
        "LOG_BATCH_SIZE": "500",
        "LOG_LEVEL": "error",
        "PORT": str(RECEIVER_PORT),
    }


@asynccontextmanager
async def worker(url: str, server_url: str, sockets: int = 500) -> AsyncIterator[Child]:
    command = [sys.executable, "-m", "pombo", "worker"]
    async with child("pombo worker", command, _environment(url, server_url, sockets), talks=False) as process:
        yield process


@asynccontextmanager
async def api(url: str) -> AsyncIterator[Child]:
    """Yields it when it answers; it listens on RECEIVER_PORT."""
    command = [sys.executable, "-m", "pombo", "api"]
    async with child("pombo api", command, _environment(url, "http://127.0.0.1:9", 500), talks=False) as process:
        for _ in range(600):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", RECEIVER_PORT)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                break
        yield process


async def all_leased(connection: asyncpg.Connection, workers: int = 1) -> None:
    """Returns when every channel has its worker, and every one of so many workers its channels."""
    await until(
        connection,
        """SELECT count(DISTINCT worker_id) = least($1, count(*)) AND count(*) = count(worker_id)
           FROM channel_leases""",
        workers,
    )


async def connect(url: str) -> asyncpg.Connection:
    """As the server's superuser, with Pombo's schema in the path and without its time-outs."""
    return await asyncpg.connect(url, server_settings={"search_path": "pombo,public"})
