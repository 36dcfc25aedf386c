"""Events get positions in the order in which they become visible, whoever numbers, and whatever commits late."""

import asyncio
from datetime import timedelta

import pytest

from pombo.domain.ids import WorkspaceId
from pombo.store import event_log, events
from pombo.store.database import Connection, Database
from pombo.store.event_log import StoredEvent
from pombo.store.events import Event
from pombo.store.ringer import Ringer
from pombo.store.tail_lease import open_tail_lease
from tests.seeding import add_workspace

TOPIC = "conversations:all"


@pytest.fixture
async def workspace(database: Database) -> WorkspaceId:
    return await add_workspace(database)


def event(workspace_id: int, name: str, topic: str = TOPIC) -> Event:
    return Event(workspace_id, topic, name, "{}")


async def write(database: Database, *names: str, workspace: int, topic: str = TOPIC) -> None:
    async with database.transaction() as connection:
        await events.append(connection, [event(workspace, name, topic) for name in names])


async def number(database: Database, limit: int = 1000) -> int:
    async with database.borrow() as connection:
        return await event_log.number(connection, limit)


async def read(database: Database, after: int, *workspaces: WorkspaceId, most: int = 1000) -> tuple[int, list[str]]:
    async with database.borrow() as connection:
        news = await event_log.read_new(connection, workspaces, after, most)
    return news.upto, [each.name for each in news.events]


async def test_events_are_read_by_position_with_all_that_was_written(
    database: Database, workspace: WorkspaceId
) -> None:
    async with database.transaction() as connection:
        await events.append(connection, [Event(workspace, "messages:7", "message.created", '{"id": 1}')])
    assert await number(database) == 1
    async with database.borrow() as connection:
        upto, [found], torn = await event_log.read_new(connection, [workspace], 0, 100)
        assert torn == []
        assert found == StoredEvent(workspace, 1, "messages:7", "message.created", found.at, '{"id": 1}')
        assert upto == await event_log.tail(connection) == 1


async def test_two_transactions_that_commit_in_the_other_order_lose_no_event(
    database: Database, workspace: WorkspaceId
) -> None:
    async with database.transaction() as slow:
        await events.append(slow, [event(workspace, "first, and late")])
        await write(database, "second", workspace=workspace)
        await number(database)
        cursor, seen = await read(database, 0, workspace)
        assert seen == ["second"]
    await number(database)
    assert await read(database, cursor, workspace) == (2, ["first, and late"])


async def test_a_transaction_that_is_taken_back_leaves_nothing_to_wait_for(
    database: Database, workspace: WorkspaceId
) -> None:
    async with database.borrow() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await events.append(connection, [event(workspace, "never")])
        await transaction.rollback()
    await write(database, "after", workspace=workspace)
    await number(database)
    assert await read(database, 0, workspace) == (1, ["after"])


async def test_many_writers_and_two_who_number_lose_nothing_and_never_step_back(
    database: Database, workspace: WorkspaceId
) -> None:
    """A reader follows all the while; what it has seen at the end is what was written, each once."""
    writers, each = 8, 25
    done = asyncio.Event()

    async def keep_writing(writer: int) -> None:
        for n in range(each):
            async with database.transaction() as connection:
                await events.append(connection, [event(workspace, f"{writer}.{n}")])
                await connection.execute("SELECT pg_sleep($1)", (writer * n) % 5 / 1000)

    async def keep_numbering(connection: Connection) -> None:
        while not done.is_set():
            await event_log.number(connection, 7)

    async def keep_reading() -> list[str]:
        cursor, seen = 0, []
        while len(seen) < writers * each:
            cursor, names = await read(database, cursor, workspace, most=9)
            seen += names
        return seen

    async with database.borrow() as one, database.borrow() as other, asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        for connection in (one, other):
            tasks.create_task(keep_numbering(connection))
        reading = tasks.create_task(keep_reading())
        for writer in range(writers):
            tasks.create_task(keep_writing(writer))
        seen = await reading
        done.set()
    assert sorted(seen) == sorted(f"{writer}.{n}" for writer in range(writers) for n in range(each))
    for writer in range(writers):
        own = [name for name in seen if name.startswith(f"{writer}.")]
        assert own == [f"{writer}.{n}" for n in range(each)]


async def test_numbering_when_nothing_waits_writes_nothing(database: Database, workspace: WorkspaceId) -> None:
    async with database.borrow() as connection:
        before = await connection.fetchval("SELECT xmin::text || xmax::text FROM event_tail")
        assert await event_log.number(connection, 10) == 0
        assert await connection.fetchval("SELECT xmin::text || xmax::text FROM event_tail") == before


async def test_the_bell_rings_when_events_have_got_positions(database: Database, workspace: WorkspaceId) -> None:
    rung = asyncio.Event()
    async with database.listen({event_log.NUMBERED_BELL: lambda _: rung.set()}):
        await write(database, "one", workspace=workspace)
        await number(database)
        async with asyncio.timeout(10):
            await rung.wait()


async def test_only_the_named_workspaces_are_read_but_the_reach_is_everyones(
    database: Database, workspace: WorkspaceId
) -> None:
    other = await add_workspace(database, "other")
    await write(database, "mine", workspace=workspace)
    await write(database, "theirs", workspace=other)
    await number(database)
    assert await read(database, 0, workspace) == (2, ["mine"])
    assert await read(database, 0, workspace, other) == (2, ["mine", "theirs"])
    assert await read(database, 0) == (2, [])


async def test_reading_goes_on_in_steps(database: Database, workspace: WorkspaceId) -> None:
    await write(database, *"abcde", workspace=workspace)
    await number(database, 3)
    await number(database, 3)
    assert await read(database, 0, workspace, most=2) == (2, ["a", "b"])
    assert await read(database, 4, workspace, most=2) == (5, ["e"])
    assert await read(database, 5, workspace, most=2) == (5, [])


async def replay(database: Database, workspace: WorkspaceId, after: int, upto: int, limit: int) -> object:
    async with database.tenant(workspace) as connection:
        found = await event_log.replay(connection, workspace, [TOPIC], after, upto, limit)
    return found and (found[0], [each.name for each in found[1]])


async def test_a_replay_brings_the_wanted_topics_page_by_page_up_to_a_position(
    database: Database, workspace: WorkspaceId
) -> None:
    await write(database, "a", workspace=workspace)
    await write(database, "unwanted", workspace=workspace, topic="messages:1")
    await write(database, "b", "c", "too late", workspace=workspace)
    await number(database)
    assert await replay(database, workspace, 0, 4, 2) == (2, ["a"])
    assert await replay(database, workspace, 2, 4, 2) == (4, ["b", "c"])
    assert await replay(database, workspace, 2, 4, 3) == (4, ["b", "c"])
    assert await replay(database, workspace, 4, 4, 3) == (4, [])


async def can_replay(database: Database, workspace: WorkspaceId, after: int, upto: int, most: int = 100) -> bool:
    async with database.tenant(workspace) as connection:
        return await event_log.can_replay(connection, workspace, after, upto, most)


async def test_old_events_are_forgotten_and_cursors_before_them_refused(
    database: Database, workspace: WorkspaceId
) -> None:
    await write(database, "old", "older", workspace=workspace)
    await number(database)
    async with database.borrow() as connection:
        await connection.execute("UPDATE events SET at = now() - interval '25 hours'")
    await write(database, "new", workspace=workspace)
    await number(database)
    assert await can_replay(database, workspace, 0, 3)

    async with database.borrow() as connection:
        assert await event_log.forget(connection, workspace, timedelta(hours=24)) == 2
        assert await event_log.forget(connection, workspace, timedelta(hours=24)) == 0
        assert await event_log.workspaces_with_events(connection) == [workspace]

    assert [await can_replay(database, workspace, after, 3) for after in (0, 1, 2, 3)] == [False, False, True, True]
    assert await replay(database, workspace, 1, 3, 10) is None
    # Nor does a reader that comes this late take what is left for all there was.
    other = await add_workspace(database, "other")
    async with database.borrow() as connection:
        assert (await event_log.read_new(connection, [workspace, other], 1, 10)).torn == [workspace]
        assert (await event_log.read_new(connection, [workspace, other], 2, 10)).torn == []
    assert await replay(database, workspace, 2, 3, 10) == (3, ["new"])


async def test_what_has_no_position_yet_is_not_forgotten(database: Database, workspace: WorkspaceId) -> None:
    await write(database, "old", workspace=workspace)
    async with database.borrow() as connection:
        await connection.execute("UPDATE events SET at = now() - interval '25 hours'")
        assert await event_log.forget(connection, workspace, timedelta(hours=24)) == 0
    assert await number(database) == 1


async def test_cursors_that_were_never_given_or_are_too_far_behind_are_refused(
    database: Database, workspace: WorkspaceId
) -> None:
    await write(database, *"abc", workspace=workspace)
    await number(database)
    assert await can_replay(database, workspace, 3, 3)
    assert not await can_replay(database, workspace, 4, 3)
    assert await can_replay(database, workspace, 1, 3, most=2)
    assert not await can_replay(database, workspace, 0, 3, most=2)


@pytest.mark.parametrize(
    ("statement", "arguments"),
    [(event_log._NUMBER, (1000,)), (event_log._READ_NEW, ([1], 0, 1000))],
    ids=["number", "read_new"],
)
async def test_plans_made_while_the_table_is_empty_find_rows_by_index(
    database: Database, statement: str, arguments: tuple[object, ...]
) -> None:
    async with database.borrow() as connection:
        await event_log.always_by_index(connection)
        plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {statement}", *arguments))
    assert "Seq Scan on events" not in plan
    assert "using events_unnumbered" in plan or "events_by_position" in plan
    assert "Hash Join" not in plan


async def test_rings_are_heard_and_equal_ones_that_wait_once(database: Database, url: str) -> None:
    heard: list[str] = []
    last = asyncio.Event()

    def hear(payload: str) -> None:
        heard.append(payload)
        if payload == "last":
            last.set()

    ringer = Ringer(url)
    async with database.listen({"a_bell": hear}), asyncio.timeout(20):
        for payload in ("a", "b", "a", "last"):
            ringer.ring("a_bell", payload)
        running = asyncio.create_task(ringer.run())
        await last.wait()
        assert heard == ["a", "b", "last"]
        last.clear()
        ringer.ring("a_bell", "last")
        await last.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_the_lease_is_one_process_and_free_when_it_is_given_up(url: str) -> None:
    async with open_tail_lease(url) as one, open_tail_lease(url) as other:
        assert [await one.take(), await other.take(), await one.take()] == [True, False, True]
        await one.give_up()
        assert await other.take()
