"""Where the bench works: a temporary directory, a PostgreSQL server for all systems, ports of its own."""

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg

from bench.processes import cpu_seconds, family
from pombo.store import embedded, partitions, schema

ANSWER_PORT = 18_480
RECEIVER_PORT = 18_481
BROKER_PORT = 18_482


@dataclass(frozen=True, slots=True)
class Place:
    directory: Path
    server: embedded.EmbeddedServer

    def empty_database(self, name: str) -> str:
        """Its URL."""
        return self.server.fresh_database(name)

    def pombo_database(self) -> str:
        """The URL of a fresh one with Pombo's schema."""
        url = self.empty_database("bench")
        schema.migrate(url)
        asyncio.run(partitions.create(url, 1))
        return url

    def database_cpu_s(self) -> float:
        return cpu_seconds(family(self.server.pid))


@contextmanager
def open_place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="pombo-bench-") as temporary:
        directory = Path(temporary)
        directory.chmod(0o755)
        with embedded.start(directory / "postgres") as server:
            yield Place(directory, server)


def libpq_environment(url: str) -> dict[str, str]:
    """A URL as the variables that all of PostgreSQL's clients read."""
    parts = urlsplit(url)
    host = parse_qs(parts.query).get("host", [parts.hostname or ""])[0]
    return {
        "PGHOST": host,
        "PGUSER": parts.username or "postgres",
        "PGPASSWORD": parts.password or "",
        "PGDATABASE": parts.path.lstrip("/"),
        "PGPORT": str(parts.port or 5432),
    }


async def settle_down(url: str) -> None:
    """Statistics, visibility map and dirty pages as after a quiet hour, so that no run pays for its preparation."""
    connection = await asyncpg.connect(url)
    try:
        for statement in ("VACUUM ANALYZE", "CHECKPOINT"):
            await connection.execute(statement)
    finally:
        await connection.close()


async def until(connection: asyncpg.Connection, question: str, *arguments: object, timeout_s: float = 180.0) -> None:
    """Returns when the answer is yes."""
    async with asyncio.timeout(timeout_s):
        while not await connection.fetchval(question, *arguments):
            await asyncio.sleep(0.05)
