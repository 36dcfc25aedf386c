"""The WebSocket over real sockets: who gets in, what they hear, and how they are brought up to date."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from typing import Any

import asyncpg
import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from pombo.api import sockets
from pombo.domain.ids import WorkspaceId
from pombo.realtime import frames
from pombo.realtime.service import RealTimeOptions
from pombo.store import accounts, event_log, events
from pombo.store.database import Database
from pombo.store.events import Event
from pombo.store.secrets import SecretBox
from tests.realtime_api import RealTimeApi, add_agent, running_realtime_api
from tests.realtime_client import connected
from tests.seeding import add_workspace

LIST = "conversations:all"
PRESENCE = "agents:presence"


@pytest.fixture
async def api(url: str, box: SecretBox) -> AsyncIterator[RealTimeApi]:
    async with running_realtime_api(url, box) as running:
        yield running


async def add_key(database: Database, workspace: WorkspaceId, name: str = "tests") -> str:
    async with database.transaction() as connection:
        return await accounts.create_api_key(connection, workspace, name)


@pytest.fixture
async def key(database: Database, workspace: WorkspaceId) -> str:
    return await add_key(database, workspace)


async def write(
    database: Database, workspace: int, *ids: int, topic: str = LIST, api: RealTimeApi | None = None, more: str = ""
) -> None:
    async with database.transaction() as connection:
        made = [Event(workspace, topic, "thing.changed", f'{{"id": {n}, "more": "{more}"}}') for n in ids]
        await events.append(connection, made)
    if api is not None:
        api.realtime.ring()


def ids(heard: list[dict[str, Any]]) -> list[int]:
    return [event["data"]["id"] for event in heard]


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


# --- who gets in ----------------------------------------------------------------------------------------------------


async def test_a_program_says_who_it_is_in_a_header_and_a_browser_in_its_first_frame(
    api: RealTimeApi, workspace: int, key: str
) -> None:
    async with connected(api.url, key):
        pass
    async with connected(api.url) as client:
        await client.say(type="auth", key=key)
        assert await client.next() == {"type": "ready", "workspaceId": workspace, "agentId": None, "position": 0}
        await client.say(type="auth", key=key)
        assert (await client.next())["code"] == "already_authenticated"


async def test_a_wrong_key_is_told_so_and_closed(api: RealTimeApi) -> None:
    for header in ("Bearer pombo_1_wrong", "Bearer x", "Basic abc", "Bearer", "Bearer \u00e9"):
        async with connected(api.url, additional_headers={"Authorization": header}) as client:
            assert (await client.closed())[0] == 4401, header
    for first in ('{"type": "auth", "key": "pombo_1_wrong"}', '{"type": "ping"}'):
        async with connected(api.url) as client:
            await client.connection.send(first)
            assert (await client.closed())[0] == 4401, first


async def test_whoever_says_nothing_is_closed(api: RealTimeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "_AUTH_TIMEOUT_S", 0.05)
    async with connected(api.url) as client:
        assert (await client.closed())[0] == 4408


async def test_a_revoked_key_closes_its_sockets_and_no_other(
    api: RealTimeApi, database: Database, workspace: WorkspaceId, key: str
) -> None:
    theirs = await add_key(database, workspace, "revoked")
    async with connected(api.url, theirs) as revoked, connected(api.url, key) as valid:
        async with database.borrow() as connection:
            await connection.execute(
                "UPDATE api_keys SET revoked_at = now() WHERE workspace_id = $1 AND name = 'revoked'", workspace
            )
        await api.realtime.close_revoked()
        assert (await revoked.closed())[0] == 4401
        await valid.say(type="ping")
        await valid.hear("pong")


async def test_pages_of_other_origins_are_refused_unless_they_are_allowed(
    url: str, box: SecretBox, database: Database, key: str
) -> None:
    async with running_realtime_api(url, box, allowed_origins="https://desk.example, http://localhost:5173") as api:
        own = f"http://127.0.0.1:{api.port}"
        for origin in (own, "https://desk.example", "http://localhost:5173"):
            async with connected(api.url, key, origin=origin):
                pass
        for origin in ("https://evil.example", "https://desk.example.evil.example", "null", f"{own}0", "https://"):
            async with connected(api.url, origin=origin) as client:
                assert (await client.closed())[0] == 4403, origin
    async with (
        running_realtime_api(url, box, allowed_origins="*") as api,
        connected(api.url, key, origin="https://x.y"),
    ):
        pass


async def test_other_addresses_have_no_socket(api: RealTimeApi) -> None:
    with pytest.raises(InvalidStatus):
        async with connected(api.url + "/more"):
            pass


async def test_the_schema_is_published_for_everybody(api: RealTimeApi) -> None:
    async with httpx.AsyncClient() as http:
        answer = await http.get(f"http://127.0.0.1:{api.port}/ws/schema.json")
    assert answer.json() == frames.schema()


# --- what they hear -------------------------------------------------------------------------------------------------


async def test_a_subscriber_hears_what_is_written_from_then_on_to_its_topics(
    api: RealTimeApi, database: Database, workspace: int, key: str
) -> None:
    await write(database, workspace, 1, api=api)
    async with connected(api.url, key) as client:
        await until(lambda: api.realtime.hub.position == 1)
        assert await client.follow(LIST, "messages:7") == {
            "type": "subscribed",
            "topics": [LIST, "messages:7"],
            "position": 1,
        }
        await write(database, workspace, 2, topic="messages:8", api=api)
        await write(database, workspace, 3, topic="messages:7", api=api)
        await write(database, workspace, 4, api=api)
        heard = await client.events(2)
        assert ids(heard) == [3, 4]
        assert [event["topic"] for event in heard] == ["messages:7", LIST]
        assert [event["position"] for event in heard] == [3, 4]
        assert heard[0]["name"] == "thing.changed"

        await client.say(type="unsubscribe", topics=["messages:7"])
        await client.hear("unsubscribed")
        await write(database, workspace, 5, topic="messages:7", api=api)
        await write(database, workspace, 6, api=api)
        assert ids(await client.events(1)) == [6]


async def test_without_any_bell_events_come_by_polling(
    api: RealTimeApi, database: Database, workspace: int, key: str
) -> None:
    async with connected(api.url, key) as client:
        await client.follow(LIST)
        await write(database, workspace, 1)
        assert ids(await client.events(1)) == [1]


async def test_a_request_that_changes_something_rings_the_bell(
    api: RealTimeApi, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rung = 0

    def ring() -> None:
        nonlocal rung
        rung += 1

    monkeypatch.setattr(api.realtime, "ring", ring)
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"}) as http:
        await http.get(f"http://127.0.0.1:{api.port}/api/channels")
        assert rung == 0
        await http.post(f"http://127.0.0.1:{api.port}/api/panic")
        assert rung == 1


async def test_a_pong_tells_how_far_everything_has_come(
    api: RealTimeApi, database: Database, workspace: int, key: str
) -> None:
    await write(database, workspace, 1, 2, api=api)
    async with connected(api.url, key) as client:
        await until(lambda: api.realtime.hub.position == 2)
        await client.say(type="ping")
        assert await client.next() == {"type": "pong", "position": 2}


async def test_no_workspace_hears_of_another(api: RealTimeApi, database: Database, workspace: int, key: str) -> None:
    theirs = await add_workspace(database, "other")
    their_key = await add_key(database, theirs)
    async with connected(api.url, key) as mine, connected(api.url, their_key) as other:
        for client in (mine, other):
            await client.follow(LIST, "messages:7", PRESENCE)
        await write(database, theirs, 1, topic="messages:7", api=api)
        await write(database, theirs, 2, api=api)
        await write(database, workspace, 3, api=api)
        assert ids(await mine.events(1)) == [3]
        assert ids(await other.events(2)) == [1, 2]
        # Nor by asking for what was before.
        assert (await mine.follow("messages:7", after=0))["type"] == "resumed"
        await write(database, workspace, 4, topic="messages:7", api=api)
        assert ids(await mine.events(1)) == [4]


# --- continuing -----------------------------------------------------------------------------------------------------


async def test_who_comes_back_gets_what_was_missed_once_and_in_order_and_then_what_follows(
    api: RealTimeApi, database: Database, workspace: int, key: str
) -> None:
    async with connected(api.url, key) as client:
        await client.follow(LIST)
        await write(database, workspace, 1, api=api)
        [event] = await client.events(1)
    await write(database, workspace, 2, api=api)
    await write(database, workspace, 3, topic="messages:7", api=api)
    await write(database, workspace, 4, api=api)
    async with connected(api.url, key) as client:
        await client.say(type="subscribe", topics=[LIST], after=event["position"])
        await write(database, workspace, 5, api=api)
        assert ids(await client.events(3)) == [2, 4, 5]


async def test_a_long_absence_is_made_up_for_page_by_page_while_more_comes(
    api: RealTimeApi, database: Database, workspace: int, key: str
) -> None:
    before = range(1, 1701)
    await write(database, workspace, *before, api=api, more="x" * 500)
    await until(lambda: api.realtime.hub.position == len(before))
    async with connected(api.url, key) as client:
        await client.say(type="subscribe", topics=[LIST], after=0)
        after = range(1701, 1801)
        for n in after:
            await write(database, workspace, n, api=api)
        assert ids(await client.events(1800)) == [*before, *after]


async def test_a_cursor_that_is_too_old_or_was_never_given_needs_a_snapshot_and_follows_what_comes(
    url: str, box: SecretBox, database: Database, workspace: WorkspaceId, key: str
) -> None:
    async with running_realtime_api(url, box, RealTimeOptions(most_replayed=5)) as api:
        await write(database, workspace, 1, 2, 3, api=api)
        await until(lambda: api.realtime.hub.position == 3)
        async with database.borrow() as connection:
            await connection.execute("UPDATE events SET at = now() - interval '2 hours' WHERE position <= 2")
            assert await event_log.forget(connection, workspace, timedelta(hours=1)) == 2
        async with connected(api.url, key) as client:
            for after in (0, 1, 1_000_000):
                answer = await client.follow(LIST, after=after)
                assert answer == {"type": "snapshot_required", "topics": [LIST], "position": 3}, after
            assert (await client.follow(LIST, after=2))["type"] == "resumed"
            await write(database, workspace, 4, 5, 6, 7, 8, api=api)
            assert ids(await client.events(5)) == [4, 5, 6, 7, 8]
            # More than are worth being sent one by one.
            assert (await client.follow(LIST, after=2))["type"] == "snapshot_required"
            await write(database, workspace, 9, api=api)
            assert ids(await client.events(1)) == [9]


async def test_a_cursor_of_a_process_that_is_ahead_is_waited_for(
    api: RealTimeApi, database: Database, workspace: WorkspaceId, key: str
) -> None:
    async with connected(api.url, key) as client:
        # Numbered, and not read by this process yet: its bell and its poll are some time away.
        async with api.realtime._reader._reading:
            await write(database, workspace, 1)
            async with database.borrow() as connection:
                while await event_log.tail(connection) == 0:
                    await event_log.number(connection, 10)
            await client.say(type="subscribe", topics=[LIST], after=1)
            await client.say(type="ping")
            assert api.realtime.hub.position == 0
        answer = await client.next()
        assert (answer["type"], answer["position"]) == ("resumed", 1)
        await client.hear("pong")


# --- limits ---------------------------------------------------------------------------------------------------------


HOSTILE = [
    ("", 4400),
    ("{", 4400),
    ('{"type": "subscribe", "topics": ["messages:*"]}', 4400),
    ('{"type": "subscribe", "topics": []}', 4400),
    ('{"type": "ping", "more": 1}', 4400),
    ('{"type": "' + "x" * 10_000 + '"}', 4400),
    ("[" * 10_000, 4400),
    (b"\x00\xff", 4400),
    ("x" * (sockets.MOST_FRAME_BYTES + 1), 1009),
]


async def test_hostile_frames_close_their_socket_and_harm_nobody_else(
    api: RealTimeApi, database: Database, workspace: int, key: str
) -> None:
    async with connected(api.url, key) as quiet:
        await quiet.follow(LIST)
        for frame, code in HOSTILE:
            async with connected(api.url, key) as authenticated, connected(api.url) as stranger:
                for client in (authenticated, stranger):
                    await client.connection.send(frame)
                    got, reason = await client.closed()
                    assert (got, len(reason) > 0) == (code, True), frame[:50]
        await write(database, workspace, 1, api=api)
        assert ids(await quiet.events(1)) == [1]


async def test_too_many_frames_topics_and_sockets_are_refused(url: str, box: SecretBox, key: str) -> None:
    async with running_realtime_api(url, box, RealTimeOptions(sockets_per_workspace=2)) as api:
        async with connected(api.url, key) as one, connected(api.url, key) as two:
            async with connected(api.url) as three:
                await three.say(type="auth", key=key)
                assert (await three.closed())[0] == 4429
            for hundreds in (1, 2):
                topics = [f"messages:{hundreds}{n:03}" for n in range(200)]
                assert (await one.follow(*topics))["type"] == "subscribed"
            refused = await one.follow(*(f"messages:3{n:03}" for n in range(200)))
            assert refused["code"] == "too_many_topics"
            # Those that are followed already count once.
            assert (await one.follow(*(f"messages:1{n:03}" for n in range(200))))["type"] == "subscribed"
            for _ in range(300):
                await two.say(type="ping")
            assert (await two.closed())[0] == 4429
        await until(lambda: not api.realtime.hub.workspaces)
        async with connected(api.url, key):
            pass


async def test_a_client_that_does_not_read_is_dropped_and_continues_where_it_was(
    url: str, box: SecretBox, database: Database, workspace: WorkspaceId, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "_CLOSE_TIMEOUT_S", 0.1)
    options = RealTimeOptions(most_waiting_bytes=256 * 1024)
    async with running_realtime_api(url, box, options) as api, connected(api.url, key) as reading:
        await reading.follow(LIST)
        async with connected(api.url, key, max_queue=1, close_timeout=0.1) as slow:
            await slow.follow(LIST)
            sent = 0
            while not api.realtime.dropped:
                await write(database, workspace, *range(sent, sent + 20), api=api, more="x" * 5_000)
                sent += 20
                # The one that reads is not held up.
                await reading.events(20)
                assert sent < 20_000
            heard = [0]
            with suppress(ConnectionClosed):
                while True:
                    heard.append((await slow.next())["position"])
        async with connected(api.url, key) as again:
            await again.say(type="subscribe", topics=[LIST], after=heard[-1])
            assert ids(await again.events(sent - heard[-1])) == list(range(heard[-1], sent))


# --- who is there ---------------------------------------------------------------------------------------------------


async def test_agents_see_each_other_come_look_type_and_go_across_processes(
    url: str, box: SecretBox, database: Database, workspace: WorkspaceId
) -> None:
    ana, anas_key = await add_agent(database, workspace, "Ana")
    ben, bens_key = await add_agent(database, workspace, "Ben")
    async with (
        running_realtime_api(url, box) as one,
        running_realtime_api(url, box) as two,
        connected(one.url, anas_key) as anas,
    ):
        await anas.follow(PRESENCE, "messages:7")
        here = await anas.hear("presence")
        assert here == {
            "type": "presence",
            "complete": True,
            "agents": [{"agentId": ana, "online": True, "conversationIds": []}],
        }
        async with connected(two.url, bens_key) as bens:
            came = await anas.hear("presence")
            assert came["agents"] == [{"agentId": ben, "online": True, "conversationIds": []}]

            await bens.say(type="looking", conversationId=7)
            looks = await anas.hear("presence")
            assert looks["agents"] == [{"agentId": ben, "online": True, "conversationIds": [7]}]

            await bens.say(type="typing", conversationId=7)
            assert await anas.hear("typing") == {"type": "typing", "conversationId": 7, "agentIds": [ben]}
            # Whoever opens the conversation now sees it at once.
            async with connected(two.url, anas_key) as late:
                await late.follow("messages:7")
                assert (await late.hear("typing"))["agentIds"] == [ben]
            await bens.say(type="typing", conversationId=7, typing=False)
            assert (await anas.hear("typing"))["agentIds"] == []
            await bens.say(type="typing", conversationId=7)
            assert (await anas.hear("typing"))["agentIds"] == [ben]
        gone = await anas.hear("presence", lambda frame: not frame["agents"][0]["online"])
        assert gone["agents"][0]["agentId"] == ben
        assert (await anas.hear("typing"))["agentIds"] == []


async def test_a_process_that_comes_later_learns_who_is_there(
    url: str, box: SecretBox, database: Database, workspace: WorkspaceId, key: str
) -> None:
    ana, anas_key = await add_agent(database, workspace, "Ana")
    async with running_realtime_api(url, box) as one, connected(one.url, anas_key) as anas:
        await anas.say(type="looking", conversationId=9)
        async with running_realtime_api(url, box) as two, connected(two.url, key) as late:
            await late.follow(PRESENCE)
            while (frame := await late.hear("presence"))["agents"] == []:
                pass
            assert frame["agents"] == [{"agentId": ana, "online": True, "conversationIds": [9]}]


async def test_a_programs_key_is_nobodys_presence(api: RealTimeApi, key: str) -> None:
    async with connected(api.url, key) as client:
        await client.follow(PRESENCE)
        assert (await client.next())["agents"] == []
        for frame in ({"type": "looking", "conversationId": 1}, {"type": "typing", "conversationId": 1}):
            await client.say(**frame)
            assert (await client.next())["code"] == "agent_required"


# --- several processes, and their ends ------------------------------------------------------------------------------


async def test_every_process_tells_its_sockets_whichever_numbers(
    url: str, box: SecretBox, database: Database, workspace: int, key: str
) -> None:
    async with running_realtime_api(url, box) as one, running_realtime_api(url, box) as two:
        async with connected(one.url, key) as first, connected(two.url, key) as second:
            for client in (first, second):
                await client.follow(LIST)
            await write(database, workspace, 1, api=one)
            await write(database, workspace, 2, api=two)
            for client in (first, second):
                assert ids(await client.events(2)) == [1, 2]
        assert [one.realtime._tailer.leads, two.realtime._tailer.leads].count(True) == 1


async def test_another_process_numbers_at_once_when_the_tailer_ends_or_is_killed(
    url: str, box: SecretBox, database: Database, workspace: int, key: str
) -> None:
    async with running_realtime_api(url, box) as survivor:
        async with running_realtime_api(url, box) as other:
            await until(lambda: survivor.realtime._tailer.leads or other.realtime._tailer.leads)
            async with connected(survivor.url, key) as client:
                await client.follow(LIST)
                # Its session is all that a killed process leaves behind for a moment.
                administrator = await asyncpg.connect(url)
                killed = await administrator.fetchval(
                    """SELECT count(pg_terminate_backend(a.pid)) FROM pg_stat_activity a JOIN pg_locks l USING (pid)
                       WHERE a.datname = current_database() AND a.application_name = 'pombo tailer'
                         AND l.locktype = 'advisory' AND l.granted"""
                )
                await administrator.close()
                assert killed == 1
                await write(database, workspace, 1, api=survivor)
                assert ids(await client.events(1)) == [1]
        await until(lambda: survivor.realtime._tailer.leads)


async def test_stopping_closes_sockets_so_that_they_come_back(url: str, box: SecretBox, key: str) -> None:
    async with AsyncExitStack() as client_life, AsyncExitStack() as api_life:
        api = await api_life.enter_async_context(running_realtime_api(url, box))
        client = await client_life.enter_async_context(connected(api.url, key))
        closing = asyncio.create_task(client.closed())
        await api_life.aclose()
        assert (await closing)[0] == 1012


async def test_a_database_that_was_set_back_sends_everybody_to_fetch_anew(
    api: RealTimeApi, database: Database, workspace: int, key: str
) -> None:
    async with connected(api.url, key) as client:
        await client.follow(LIST)
        await write(database, workspace, *range(10), api=api)
        await client.events(10)
        async with database.borrow() as connection:
            await connection.execute("DELETE FROM events WHERE position > 5")
            await connection.execute("UPDATE event_tail SET position = 5")
        assert (await client.closed())[0] == 1012
    async with connected(api.url, key) as client:
        assert (await client.follow(LIST, after=10))["type"] == "snapshot_required"
