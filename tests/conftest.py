"""What all tests share: one embedded PostgreSQL per test process, and a fresh database per test from a template."""

import asyncio
import itertools
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
import uvloop

from pombo import telemetry
from pombo.domain.ids import WorkspaceId
from pombo.store import embedded, partitions, schema
from pombo.store.database import Database
from pombo.store.secrets import SecretBox
from tests.sandbox_server import AppHandle, ChannelHandle, SandboxHandle, running_sandbox
from tests.seeding import add_workspace

# Durability is not what these tests are about, and their data dies with them.
_FAST = """
fsync = off
synchronous_commit = off
full_page_writes = off
max_connections = 300
shared_buffers = 256MB
"""
# A fresh database is some 350 files, which a disk takes fifteen times as long to make as memory does.
_MEMORY = Path("/dev/shm")
_ROOM = 8 * 2**30
_TEMPLATE = "pombo_template"
_numbers = itertools.count(1)


# Tracebacks as lines: drawing each frame's variables, as structlog's default does, takes seconds.
telemetry.configure("debug", "test")


def _available() -> int:
    """Bytes of memory, and of `_MEMORY`, that are free; 0 where there is no such place."""
    try:
        place = os.statvfs(_MEMORY)
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    kilobytes = next((int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), 0)
    return min(place.f_bavail * place.f_frsize, kilobytes * 1024) if os.access(_MEMORY, os.W_OK) else 0


if _available() >= _ROOM:
    tempfile.tempdir = str(_MEMORY)


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests run on the loop that Pombo runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def server() -> Iterator[embedded.EmbeddedServer]:
    """The server; its template database holds the schema and the partitions.

    Not in pytest's own temporary directory: every other pytest of the same user takes the rights to that one away from
    the user that the server runs as.
    """
    with (
        tempfile.TemporaryDirectory(prefix="pombo-test-") as directory,
        embedded.start(Path(directory) / "postgres", _FAST) as running,
    ):
        url = database_url(running, _TEMPLATE)
        asyncio.run(execute(running.url, f"CREATE DATABASE {_TEMPLATE}"))
        schema.migrate(url)
        asyncio.run(partitions.create(url, days_ahead=2))
        yield running


def database_url(server: embedded.EmbeddedServer, name: str) -> str:
    return server.url.replace("/postgres?", f"/{name}?")


async def execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@asynccontextmanager
async def fresh_database(server: embedded.EmbeddedServer) -> AsyncIterator[str]:
    """The URL of a database with the schema in it, dropped afterwards."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    await execute(server.url, f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE} STRATEGY file_copy")
    yield database_url(server, name)
    await execute(server.url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def url(server: embedded.EmbeddedServer) -> AsyncIterator[str]:
    """A database of the test's own, with the schema in it."""
    async with fresh_database(server) as fresh:
        yield fresh


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    async with Database.open(url) as opened:
        yield opened


@pytest.fixture(scope="session")
def box() -> SecretBox:
    return SecretBox("a key for tests, of at least 32 characters")


# --- a sandbox of its own for each test, and what is made in it when it is asked for ----------------------------------


@pytest.fixture
async def sandbox() -> AsyncIterator[SandboxHandle]:
    async with running_sandbox() as handle:
        yield handle


@pytest.fixture
async def app(sandbox: SandboxHandle) -> AppHandle:
    return await sandbox.add_app()


@pytest.fixture
async def page(sandbox: SandboxHandle, app: AppHandle) -> ChannelHandle:
    return await sandbox.add_page(app)


@pytest.fixture
async def phone(sandbox: SandboxHandle, app: AppHandle) -> ChannelHandle:
    return await sandbox.add_phone(app)


@pytest.fixture
async def workspace(database: Database) -> WorkspaceId:
    return await add_workspace(database)
