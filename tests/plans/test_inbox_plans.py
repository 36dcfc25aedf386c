"""What the inbox reads, under the API's role and its row-level security, with many conversations and messages.

However many there are, and whatever the statistics say, a page is read by the index of one of its filters, and touches
as many pages as its own rows and those in their way need, of which there are never more than some thousand.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from bench.inbox_data import fill
from pombo.domain.ids import WorkspaceId
from pombo.store import (
    campaign_replies,
    conversation_list,
    conversation_search,
    conversations,
    embedded,
    inbox_events,
    replies,
    thread,
)
from pombo.store.conversation_list import BEGINNING, Filters
from pombo.store.conversation_search import NOW
from pombo.store.database import Connection
from pombo.store.planning import IN_ORDER
from tests.conftest import _TEMPLATE, database_url
from tests.plans.conftest import STATISTICS
from tests.plans.explain import Explained, Plan

WORKSPACE = WorkspaceId(1)
CONVERSATIONS, MESSAGES = 60_000, 200_000
LARGE = {
    "conversations",
    "conversation_messages",
    "conversation_labels",
    "conversation_reads",
    "contacts",
    "identities",
}
EXECUTIONS = 7
"""After five with plans of their own the server may turn to a generic one."""

_PLACE = """
ALTER TABLE conversations SET (autovacuum_enabled = off);
ALTER TABLE conversation_messages SET (autovacuum_enabled = off);
ALTER TABLE conversation_labels SET (autovacuum_enabled = off);
ALTER TABLE contacts SET (autovacuum_enabled = off);
INSERT INTO workspaces (id, name) VALUES (1, 'acme');
INSERT INTO meta_apps (workspace_id, id, name, app_secret, verify_token) VALUES (1, 1, 'app', 's', 'v');
INSERT INTO channels (workspace_id, id, kind, external_id, name, app_id, token, rate_per_second)
SELECT 1, n, 'whatsapp', n::text, 'number ' || n, 1, 't', 40 FROM generate_series(1, 5) n;
"""


@pytest.fixture(scope="session")
def inbox(server: embedded.EmbeddedServer) -> Iterator[str]:
    async def made(url: str) -> None:
        connection = await asyncpg.connect(url, server_settings={"search_path": "pombo,public", "timezone": "UTC"})
        await connection.execute(_PLACE)
        await fill(connection, WORKSPACE, [1, 2, 3, 4, 5], CONVERSATIONS, MESSAGES)
        await connection.close()

    async def execute(statement: str) -> None:
        connection = await asyncpg.connect(server.url)
        await connection.execute(statement)
        await connection.close()

    name = f"inbox_{os.getpid()}"
    asyncio.run(execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE} STRATEGY file_copy"))
    asyncio.run(made(database_url(server, name)))
    yield database_url(server, name)
    asyncio.run(execute(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(scope="session", params=STATISTICS)
def believed(inbox: str, request: pytest.FixtureRequest) -> str:
    async def make_believe() -> None:
        connection = await asyncpg.connect(inbox)
        await connection.execute(STATISTICS[request.param])
        await connection.close()

    asyncio.run(make_believe())
    return inbox


@pytest.fixture
async def explained(believed: str) -> AsyncIterator[Explained]:
    async with Explained.connect(believed, "pombo_app") as connected:
        await connected.connection.execute("SELECT set_config('pombo.workspace_id', '1', false)")
        # Each session reads the catalog once for the functions that it calls.
        await connected.connection.execute("SELECT message_terms(1, now(), 'a word')")
        yield connected


@dataclass(frozen=True)
class Read:
    run: Callable[[Connection], Awaitable[Any]]
    pages: int
    """At most, of all statements together."""
    planned: str | None = IN_ORDER


def listing(pages: int, **filters: Any) -> Read:
    return Read(lambda c: conversation_list.list_page(c, WORKSPACE, Filters(**filters), BEGINNING, 50), pages)


def search(pages: int, words: str) -> Read:
    return Read(lambda c: conversation_search.by_message(c, words, NOW, 200), pages)


def contacts(pages: int, words: str) -> Read:
    return Read(lambda c: conversation_search.by_contact(c, WORKSPACE, words), pages)


def unplanned(pages: int, run: Callable[[Connection], Awaitable[Any]]) -> Read:
    """Of transactions that do more than to read a page."""
    return Read(run, pages, None)


async def followed(connection: Connection) -> None:
    async with connection.transaction():
        await connection.execute(
            "UPDATE conversation_messages SET message_id = 4711 WHERE workspace_id = 1 AND id = 77"
        )
        await connection.execute("INSERT INTO reply_changes (workspace_id, message_id) VALUES (1, 4711)")
        assert await replies.follow(connection, 500) == 1


async def copies_told(connection: Connection) -> None:
    """Of a hundred messages one is shown."""
    async with connection.transaction():
        await connection.execute(
            "UPDATE conversation_messages SET message_id = 4711, author = 'campaign' WHERE workspace_id = 1 AND id = 77"
        )
        await campaign_replies.tell(connection, [(1, 4700 + n) for n in range(100)])
        assert await connection.fetchval("SELECT message_id FROM reply_changes") == 4711
        await replies.follow(connection, 500)


async def unread_after_the_first(connection: Connection) -> None:
    """Of the longest conversation."""
    found = await conversations.lock(connection, WORKSPACE, 1)
    assert found is not None
    found = found._replace(unread=9, last_inbound_id=MESSAGES)
    assert await conversations.unread_after(connection, WORKSPACE, found, 1) == 9


# A page of fifty whose filter has an index is some 20 pages of it and a page a row. What a second filter leaves over is
# read in vain: at most 1,500 rows a status, four pages each.
READS = {
    "open": listing(150, statuses=("open",)),
    "all": listing(350),
    "an_agents": listing(350, assignee_id=3),
    "nobodys": listing(150, statuses=("open",), unassigned=True),
    "read_by_nobody": listing(150, statuses=("open",), unread=True),
    # Where a filter remains, it is also looked where 1,500 rows end, of an index that is not vacuumed here.
    "unread_by_an_agent": listing(2_500, statuses=("open",), unread_by=1),
    "of_a_channel": listing(350, channel_id=2),
    "of_a_common_label": listing(350, label_id=1),
    "of_a_rare_label": listing(350, label_id=7),
    "a_common_label_and_an_agents_few": listing(15_000, label_id=1, assignee_id=3),
    "a_rare_combination": listing(15_000, unread=True, label_id=3, channel_id=1, assignee_id=3),
    "shown": Read(lambda c: conversations.show(c, WORKSPACE, list(range(1, 60_000, 1_200))), 900),
    "a_long_thread": Read(lambda c: thread.read_thread(c, WORKSPACE, 1, 50), 100),
    "the_middle_of_a_long_thread": Read(
        lambda c: thread.read_thread(c, WORKSPACE, 1, 50, older_than=thread.Position(NOW.at, 1)), 100
    ),
    "a_changed_conversation_shown": unplanned(200, lambda c: conversations.show(c, WORKSPACE, [77])),
    "others_answers": unplanned(150, lambda c: replies.answered_since(c, WORKSPACE, 1, 1, None)),  # type: ignore[arg-type]
    "what_came_after_a_message": unplanned(1_100, unread_after_the_first),
    "a_conversation_told": unplanned(200, lambda c: inbox_events.append(c, conversations=[(WORKSPACE, 77)])),
    "messages_told": unplanned(200, lambda c: inbox_events.append(c, updated=[(WORKSPACE, n) for n in (7, 77, 777)])),
    "a_reply_followed": unplanned(200, followed),
    "copies_told": unplanned(600, copies_told),
    "a_word_in_nearly_all_messages": search(2_500, "w0"),
    "a_common_word": search(2_500, "w5"),
    "a_word_in_between": search(2_500, "w900"),
    "a_rare_word": search(2_500, "w45000"),
    "a_common_and_a_rare_word": search(3_500, "w0 w45000"),
    "no_such_word": search(1_500, "nowhere"),
    "the_beginning_of_many_names": contacts(1_000, "n"),
    "the_beginning_of_a_word": contacts(1_000, "s1f"),
    "an_address": contacts(1_000, "+3519100"),
}


def check(plans: list[Plan], pages: int) -> None:
    for plan in plans:
        whole = [scan for scan in plan.scans if scan.kind == "Seq Scan" and scan.table in LARGE and scan.pages]
        assert not whole, f"reads {whole[0].table} whole: {plan.statement}\n{plan.text}"
    # A function's plan counts the pages of the statements within it.
    costly = max(plans, key=lambda plan: plan.pages)
    assert costly.pages <= pages, f"touches {costly.pages} pages: {costly.statement}\n{costly.text}"


@pytest.mark.parametrize("name", READS)
async def test_a_page_of_the_inbox_stays_on_its_indexes(name: str, explained: Explained) -> None:
    read = READS[name]
    for mode in ("force_generic_plan", *["auto"] * EXECUTIONS):
        await explained.connection.execute(f"SET plan_cache_mode = {mode}")
        async with explained.connection.transaction():
            if read.planned is not None:
                await explained.connection.execute(read.planned)
            await explained.taken()
            await read.run(explained.connection)
            plans = await explained.taken()
        assert plans, "auto_explain tells nothing"
        check(plans, read.pages)


async def test_a_page_that_leaves_its_indexes_is_found_out(explained: Explained) -> None:
    await explained.taken()
    await explained.connection.fetch("SELECT FROM conversations WHERE workspace_id = 1 AND preview = 'x'")
    plans = await explained.taken()
    with pytest.raises(AssertionError):
        check(plans, 300)
