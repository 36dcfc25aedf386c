"""Each commit of ingest may be its process's last, and each transaction may be in another's way: it ends the same."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import asyncpg
import pytest

from pombo.ingest.ingester import Ingester
from pombo.store import replies
from pombo.store.database import Connection, Database
from pombo.store.secrets import SecretBox
from tests.delivery_log import House
from tests.inbox_story import arrive, followed, holdings, messenger_story, set_the_scene, shown, whatsapp_story

Work = Callable[[Connection], Awaitable[Any]]

STORY = whatsapp_story() + messenger_story()
ORDERS = {"in order": STORY, "backwards": STORY[::-1]}


class Died(BaseException):
    """As a killed process: nothing that still runs handles it."""


class Mortal(Ingester):
    """Dies after so many of its commits."""

    def __init__(self, database: Database, commits: int) -> None:
        super().__init__(database)
        self._left = commits

    async def _apart(self, work: Work, *settings: str) -> Any:
        done = await super()._apart(work, *settings)
        self._left -= 1
        if self._left == 0:
            raise Died
        return done


class Hindered(Ingester):
    """The first try of each transaction ends in a deadlock, with all its work done."""

    async def _apart(self, work: Work, *settings: str) -> Any:
        tries = 0

        async def hindered(connection: Connection) -> Any:
            nonlocal tries
            tries += 1
            done = await work(connection)
            if tries == 1:
                raise asyncpg.DeadlockDetectedError("deadlock detected")
            return done

        return await super()._apart(hindered, *settings)


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[Connection]:
    async with database.borrow() as borrowed:
        yield borrowed


async def build(connection: Connection, box: SecretBox, name: str) -> House:
    house = await House.build(connection, box, name, f"secret of {name}")
    await set_the_scene(connection, house)
    return house


async def undisturbed(database: Database, connection: Connection, box: SecretBox, story: Sequence[bytes]) -> Any:
    house = await build(connection, box, "undisturbed")
    for body in story:
        await arrive(connection, house, body)
        assert await Ingester(database).run_once() == 1
    await follow(connection)
    return await holdings(connection, house)


async def follow(connection: Connection) -> None:
    async with connection.transaction():
        await replies.follow(connection, 500)


@pytest.mark.parametrize("story", ORDERS.values(), ids=ORDERS)
async def test_whichever_commit_is_a_processes_last_it_ends_the_same(
    database: Database, connection: Connection, box: SecretBox, story: Sequence[bytes]
) -> None:
    expected = await undisturbed(database, connection, box, story)
    house = await build(connection, box, "mortal")
    deaths = 0
    for body in story:
        await arrive(connection, house, body)
        commits = 1
        while await connection.fetchval("SELECT count(*) FROM webhook_queue"):
            try:
                await Mortal(database, commits).run_once()
            except Died:
                deaths += 1
                commits += 1
    await follow(connection)

    assert deaths > len(story)
    assert await holdings(connection, house) == expected
    assert await followed(connection, house) == await shown(connection, house)


@pytest.mark.parametrize("story", ORDERS.values(), ids=ORDERS)
async def test_whichever_transaction_ends_in_a_deadlock_it_ends_the_same(
    database: Database, connection: Connection, box: SecretBox, story: Sequence[bytes]
) -> None:
    expected = await undisturbed(database, connection, box, story)
    house = await build(connection, box, "hindered")
    # Three at a time, so that a batch has all kinds of transactions.
    for n in range(0, len(story), 3):
        batch = story[n : n + 3]
        await arrive(connection, house, *batch)
        assert await Hindered(database).run_once() == len(batch)
    await follow(connection)

    assert await holdings(connection, house) == expected
    assert await followed(connection, house) == await shown(connection, house)
