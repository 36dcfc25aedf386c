"""A fresh installation for each test, on the shared PostgreSQL or on one that may be killed."""

import asyncio
import itertools
import random
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from pombo.store import embedded, partitions, schema
from tests.chaos.installation import Installation, running_installation
from tests.chaos.scale import LONG, SEED
from tests.conftest import database_url, execute

# Of processes that are killed the kernel forgets nothing, so waiting for the disk would prove nothing more. (The shared
# server does not wait for its own log either, which a killed server would lack.)
_CONFIG = "fsync = off\nmax_connections = 300\nshared_buffers = 256MB\n"
_TEMPLATE = "chaos_template"
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def mortal_server() -> Iterator[embedded.EmbeddedServer]:
    with (
        tempfile.TemporaryDirectory(prefix="pombo-chaos-") as directory,
        embedded.start(Path(directory) / "postgres", _CONFIG) as running,
    ):
        asyncio.run(execute(running.url, f"CREATE DATABASE {_TEMPLATE}"))
        url = database_url(running, _TEMPLATE)
        schema.migrate(url)
        asyncio.run(partitions.create(url, days_ahead=2))
        yield running


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    print(f"POMBO_SEED={SEED}{' POMBO_CHAOS=long' if LONG else ''} repeats this.")
    return random.Random(f"{SEED} {request.node.name}")


@pytest.fixture
async def installation(url: str, chance: random.Random) -> AsyncIterator[Installation]:
    with tempfile.TemporaryDirectory(prefix="pombo-chaos-") as directory:
        async with running_installation(Path(directory), url, chance) as running:
            yield running


@pytest.fixture
async def mortal(mortal_server: embedded.EmbeddedServer, chance: random.Random) -> AsyncIterator[Installation]:
    """An installation whose database server may be killed."""
    name = f"chaos_{next(_numbers)}"
    await execute(mortal_server.url, f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE} STRATEGY file_copy")
    with tempfile.TemporaryDirectory(prefix="pombo-chaos-") as directory:
        async with running_installation(Path(directory), database_url(mortal_server, name), chance) as running:
            running.server = mortal_server
            yield running
    await execute(mortal_server.url, f"DROP DATABASE {name} WITH (FORCE)")
