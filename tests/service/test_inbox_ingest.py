"""What people do, from the webhook queue to contacts, conversations, figures and what open browsers are told."""

import itertools
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pombo.ingest.ingester import Ingester
from pombo.store.database import Connection, Database
from pombo.store.secrets import SecretBox
from tests.delivery_log import House
from tests.inbox_story import (
    arrive,
    followed,
    holdings,
    messenger_story,
    set_the_scene,
    shown,
    whatsapp_story,
)

_ids = itertools.count(1)


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[Connection]:
    async with database.borrow() as borrowed:
        yield borrowed


async def build(connection: Connection, box: SecretBox) -> House:
    n = next(_ids)
    house = await House.build(connection, box, f"house {n}", f"secret {n}")
    await set_the_scene(connection, house)
    return house


async def apply(
    ingester: Ingester, connection: Connection, house: House, bodies: list[bytes], sizes: list[int]
) -> None:
    cuts = iter(sizes)
    while bodies:
        size = next(cuts, 7)
        await arrive(connection, house, *bodies[:size])
        while await ingester.run_once():
            pass
        bodies = bodies[size:]
    assert await connection.fetchval("SELECT count(*) FROM webhook_queue") == 0
    assert await connection.fetch("SELECT error FROM webhook_errors") == []


async def test_a_story_in_order_ends_as_it_should(database: Database, connection: Connection, box: SecretBox) -> None:
    house = await build(connection, box)
    await apply(Ingester(database), connection, house, whatsapp_story() + messenger_story(), [1] * 100)
    held = await holdings(connection, house)
    for name, rows in held.items():
        print(name)
        for row in rows:
            print("   ", row)
    assert await followed(connection, house) == await shown(connection, house)


# The law that all of it stands on: any order, any repetition, any division into batches, end in the same rows.

_reference: dict[str, list[Any]] = {}


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), sizes=st.lists(st.integers(1, 12), max_size=12))
async def test_any_order_and_repetition_ends_in_the_same_rows_and_figures(
    database: Database, connection: Connection, box: SecretBox, seed: int, sizes: list[int]
) -> None:
    story = whatsapp_story() + messenger_story()
    if not _reference:
        house = await build(connection, box)
        await apply(Ingester(database), connection, house, story, [])
        _reference.update(await holdings(connection, house))
    chance = random.Random(seed)
    arrivals = story + chance.choices(story, k=12)
    chance.shuffle(arrivals)

    house = await build(connection, box)
    await apply(Ingester(database), connection, house, arrivals, sizes)

    held = await holdings(connection, house)
    for name, rows in _reference.items():
        assert held[name] == rows, name
    assert await followed(connection, house) == await shown(connection, house)
