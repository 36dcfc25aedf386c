"""What people do, from the webhook queue to contacts, conversations, figures and what open browsers are told."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pombo.domain.channels import ChannelKind
from pombo.domain.ids import WorkspaceId
from pombo.domain.opt_out import OptWords
from pombo.ingest.conversing import converse
from pombo.ingest.gathering import PersonEvent, Place
from pombo.ingest.ingester import Ingester
from pombo.meta.webhooks import parse_webhook
from pombo.store import contacts, inbox_threads, preferences, replies, settlement
from pombo.store.contacts import NewContact
from pombo.store.database import Connection, Database
from pombo.store.secrets import SecretBox
from tests.delivery_log import House, Message
from tests.inbox_story import (
    NEW_USER,
    NUMBER,
    PAGE,
    PHONE,
    PSID,
    USER,
    arrive,
    followed,
    from_person,
    holdings,
    messenger_story,
    milliseconds,
    page,
    page_echo,
    recycled_story,
    set_the_scene,
    shown,
    text,
    whatsapp,
    whatsapp_story,
)
from tests.locks import blocked

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


async def number_of(connection: Connection, house: House) -> int:
    channel: int = await connection.fetchval(
        "SELECT id FROM channels WHERE workspace_id = $1 AND kind = 'whatsapp'", house.workspace_id
    )
    return channel


async def follow(connection: Connection) -> None:
    """What has become of messages of threads."""
    async with connection.transaction():
        await replies.follow(connection, 500)


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
    await follow(connection)
    assert await connection.fetchval("SELECT count(*) FROM webhook_queue") == 0
    assert await connection.fetch("SELECT error FROM webhook_errors") == []


async def rows(connection: Connection, query: str, house: House) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await connection.fetch(query, house.workspace_id)]


THREAD = """SELECT provider_id, author, kind, text, state, reactions::text FROM conversation_messages
            WHERE workspace_id = $1 AND channel_id = (SELECT id FROM channels WHERE workspace_id = $1 AND kind = '{}')
            ORDER BY at, id"""


async def test_a_story_ends_as_it_should(database: Database, connection: Connection, box: SecretBox) -> None:
    house = await build(connection, box)
    await apply(Ingester(database), connection, house, whatsapp_story() + messenger_story(), [1] * 100)

    assert await rows(connection, THREAD.format("whatsapp"), house) == [
        ("wamid.campaign", "campaign", "text", "Hello you", "accepted", '{"contact": "\U0001f44d"}'),
        ("wamid.1", "contact", "text", "Hi!", None, "{}"),
        ("wamid.2", "contact", "text", "Yes, please", None, "{}"),
        ("wamid.3", "contact", "image", None, None, "{}"),
        ("wamid.4", "app", "text", "Sure", "read", "{}"),
        ("wamid.s", "system", "system", "Ana changed", None, "{}"),
        ("wamid.5", "contact", "text", "My new number", None, "{}"),
        ("wamid.6", "contact", "text", "STOP", None, "{}"),
        ("wamid.7", "contact", "button", "Buy", None, "{}"),
        ("wamid.8", "contact", "unsupported", None, None, "{}"),
    ]
    thread = await rows(connection, THREAD.format("messenger"), house)
    assert [(row[1], row[2], row[3], row[4]) for row in thread] == [
        ("campaign", "text", "Hello you", "read"),
        ("system", "referral", None, None),
        ("contact", "postback", "Get Started", None),
        ("contact", "text", "Are you open today?", None),
        ("contact", "sticker", None, None),
        ("app", "text", "Yes, until six.", "read"),
        ("app", "text", "And tomorrow.", "accepted"),
        ("contact", "quick_reply", "Small", None),
        ("contact", "text", "Thanks", None),
        ("system", "handover", None, None),
    ]
    held = await holdings(connection, house)
    assert [(row[0], row[1], row[4] is None) for row in held["contacts"]] == [
        ("+16505559999", "Ana C", True),
        ("254459191", None, False),
    ]
    assert {(row[0], row[2]) for row in held["identities"]} == {
        ("254459191", "254459191"),
        *((name, "+16505559999") for name in ("+16505551234", "+16505559999", USER, NEW_USER)),
    }
    assert [row[:3] for row in held["conversations"]] == [("+16505559999", "open", 7), ("254459191", "open", 5)]
    assert [row[:2] for row in held["responses"]] == [
        ("+16505551234", "clicked"),
        ("+16505551234", "replied"),
        ("254459191", "clicked"),
        ("254459191", "replied"),
    ]
    assert held["suppressions"] == [("messenger", "254459191", preferences.REASON)]
    assert await followed(connection, house) == await shown(connection, house)


async def test_applied_again_it_changes_nothing_and_tells_nobody(
    database: Database, connection: Connection, box: SecretBox
) -> None:
    house = await build(connection, box)
    story = whatsapp_story() + messenger_story()
    await apply(Ingester(database), connection, house, story, [])
    before = await holdings(connection, house), await shown(connection, house)
    told = await connection.fetchval("SELECT count(*) FROM events")

    await apply(Ingester(database), connection, house, story, [1] * 100)

    assert (await holdings(connection, house), await shown(connection, house)) == before
    assert await connection.fetchval("SELECT count(*) FROM events") == told


async def test_two_quick_first_messages_in_parallel_transactions_make_one_conversation(
    database: Database, connection: Connection, box: SecretBox
) -> None:
    house = await build(connection, box)
    bodies = [whatsapp(n, f"wamid.q{n}", "text", **text(f"quick {n}")) for n in range(12)]
    bodies += [whatsapp(20 + n, f"wamid.u{n}", "text", phone=None, **text(f"by id {n}")) for n in range(12)]
    await arrive(connection, house, *bodies)

    async def work() -> None:
        while await Ingester(database).run_once(limit=2):
            pass

    await asyncio.gather(*(work() for _ in range(6)))

    held = await holdings(connection, house)
    assert [row[:3] for row in held["conversations"]] == [("+16505551234", "open", 24)]
    assert len(held["contacts"]) == 1
    assert await followed(connection, house) == await shown(connection, house)


async def test_the_constraint_alone_keeps_a_second_conversation_out(
    database: Database, connection: Connection, box: SecretBox
) -> None:
    house = await build(connection, box)
    channel = await connection.fetchval("SELECT id FROM channels WHERE workspace_id = $1 LIMIT 1", house.workspace_id)
    contact = await connection.fetchval(
        "INSERT INTO contacts (workspace_id, channel_id, external_id) VALUES ($1, $2, 'x') RETURNING id",
        house.workspace_id,
        channel,
    )
    key = (house.workspace_id, channel, contact)
    opened = await asyncio.gather(*(_open(database, key) for _ in range(8)))
    assert len({tuple(one.values()) for one in opened}) == 1


async def _open(database: Database, key: tuple[int, int, int]) -> dict[tuple[int, int], int]:
    async with database.transaction() as connection:
        return await inbox_threads.open_conversations(connection, {key})


async def test_a_contact_that_was_imported_is_the_one_who_writes(
    database: Database, connection: Connection, box: SecretBox
) -> None:
    house = await build(connection, box)
    channel = await number_of(connection, house)
    await contacts.save_contacts(
        connection, WorkspaceId(house.workspace_id), [NewContact(channel, f"+{PHONE}", {"first_name": "Ana"})]
    )
    await apply(Ingester(database), connection, house, [whatsapp(10, "wamid.1", "text", **text("Hello"))], [])

    assert await rows(connection, "SELECT external_id, attributes FROM contacts WHERE workspace_id = $1", house) == [
        (f"+{PHONE}", '{"first_name": "Ana"}')
    ]
    thread = await rows(connection, THREAD.format("whatsapp"), house)
    assert [row[3] for row in thread] == ["Hello Ana", "Hello"]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("sizes", [[], [1, 1, 1]])
async def test_a_reaction_that_is_taken_back_within_the_same_second_is_gone(
    database: Database, connection: Connection, box: SecretBox, order: tuple[int, ...], sizes: list[int]
) -> None:
    house = await build(connection, box)
    said = [
        whatsapp(10, "wamid.1", "text", **text("Hi")),
        whatsapp(20, "wamid.r1", "reaction", reaction={"message_id": "wamid.1", "emoji": "\u2764"}),
        whatsapp(20, "wamid.r2", "reaction", reaction={"message_id": "wamid.1", "emoji": ""}),
    ]
    await apply(Ingester(database), connection, house, [said[place] for place in order], list(sizes))
    assert (
        await connection.fetchval("SELECT reactions FROM conversation_messages WHERE provider_id = 'wamid.1'") == "{}"
    )


async def test_what_one_member_of_a_group_asks_for_is_not_the_group_s_wish(
    database: Database, connection: Connection, box: SecretBox
) -> None:
    house = await build(connection, box)
    said = [
        whatsapp(10, "wamid.1", "text", group_id="Y2FwaV9ncm91cA==", **text("STOP")),
        whatsapp(20, "wamid.2", "text", **text("Hello")),
    ]
    await apply(Ingester(database), connection, house, said, [])
    assert (await holdings(connection, house))["suppressions"] == []
    assert await rows(connection, "SELECT opted_out_at FROM contacts WHERE workspace_id = $1", house) == [(None,)] * 2


def keyed_echo(message: Message, mid: str, text: str) -> bytes:
    return page(page_echo(2, mid=mid, text=text, metadata=message.key))


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_what_another_pombo_sends_on_the_page_is_shown_once(
    database: Database, connection: Connection, box: SecretBox, order: tuple[int, ...]
) -> None:
    house = await build(connection, box)
    theirs = await house.prepare(connection, await house.channel(connection, PAGE), PSID)
    echo = keyed_echo(theirs, "m_theirs", "It left this morning.")
    question = page(from_person(1, message={"mid": "m_1", "text": "Where is it?"}))
    mark = page(from_person(3, read={"watermark": milliseconds(3)}))
    story = [[echo, question, mark][place] for place in order]
    await apply(Ingester(database), connection, house, [*story, *story, echo, echo], [1, 1, 1])
    assert [row[:5] for row in await rows(connection, THREAD.format("messenger"), house)] == [
        ("m_campaign", "campaign", "text", "Hello you", "read"),
        ("m_1", "contact", "text", "Where is it?", None),
        ("m_theirs", "app", "text", "It left this morning.", "read"),
    ]
    assert await followed(connection, house) == await shown(connection, house)


@pytest.mark.parametrize("where", ["outbox", "in doubt", "settled", "failed", "days ago"])
async def test_an_echo_of_our_own_message_is_never_shown_as_somebody_else_s(
    database: Database, connection: Connection, box: SecretBox, where: str
) -> None:
    house = await build(connection, box)
    channel = await house.channel(connection, PAGE)
    ours = await house.prepare(connection, channel, PSID, days_ago=3 if where == "days ago" else 0)
    if where in ("outbox", "in doubt"):
        await house.queue(connection, ours, "s" if where == "outbox" else "u")
    elif where in ("settled", "failed"):
        await house.accept(connection, ours)
        if where == "failed":
            await connection.execute("UPDATE deliveries SET state = 1, provider_id = NULL WHERE id = $1", ours.id)
    echoes = [keyed_echo(ours, "m_ours", "Hello"), keyed_echo(ours, "m_twice", "Hello")]
    echoes.append(keyed_echo(ours, "m_thrice", "Hello"))
    await apply(Ingester(database), connection, house, echoes + echoes, [1, 2])
    assert await connection.fetchval("SELECT count(*) FROM conversation_messages WHERE author = 'app'") == 0


async def test_an_echo_while_its_message_is_settled_is_not_shown_as_somebody_else_s(
    database: Database, connection: Connection, box: SecretBox
) -> None:
    house = await build(connection, box)
    ours = await house.prepare(connection, await house.channel(connection, PAGE), PSID)
    await house.queue(connection, ours)
    await arrive(connection, house, keyed_echo(ours, "m_ours", "Hello"))
    async with database.transaction() as settling:
        accepted = settlement.Settled(
            house.workspace_id, ours.channel_id, ours.id, 1, ours.day, settlement.ACCEPTED, "m_ours"
        )
        await settlement.settle(settling, [accepted])
        applying = asyncio.create_task(Ingester(database).run_once())
        await blocked(connection)
    assert await applying == 1
    assert await connection.fetchval("SELECT count(*) FROM conversation_messages WHERE author = 'app'") == 0


@pytest.mark.parametrize("status", ["closed", "snoozed"])
async def test_a_message_opens_its_conversation_again_but_an_echo_does_not(
    database: Database, connection: Connection, box: SecretBox, status: str
) -> None:
    house = await build(connection, box)
    ingester = Ingester(database)
    await apply(ingester, connection, house, [page(from_person(1, message={"mid": "m_1", "text": "a"}))], [])
    await connection.execute(
        """UPDATE conversations SET status = $2, unread = 0,
               snoozed_until = CASE WHEN $2 = 'snoozed' THEN now() + interval '1 day' END WHERE workspace_id = $1""",
        house.workspace_id,
        status,
    )
    await apply(ingester, connection, house, [page(page_echo(2, mid="m_2", text="b"))], [])
    conversations = "SELECT status, unread, preview FROM conversations WHERE workspace_id = $1"
    assert await rows(connection, conversations, house) == [(status, 0, "b")]
    await apply(ingester, connection, house, [page(from_person(3, message={"mid": "m_3", "text": "c"}))], [])
    assert await rows(connection, conversations, house) == [("open", 1, "c")]


async def test_merged_conversations_keep_what_both_had(
    database: Database, connection: Connection, box: SecretBox
) -> None:
    house = await build(connection, box)
    ingester = Ingester(database)
    apart = [
        whatsapp(10, "wamid.1", "text", user=None, **text("by number")),
        whatsapp(20, "wamid.2", "text", phone=None, **text("by id")),
    ]
    await apply(ingester, connection, house, apart, [])
    first, second = await connection.fetch(
        "SELECT id FROM conversations WHERE workspace_id = $1 ORDER BY id", house.workspace_id
    )
    await connection.execute(
        """INSERT INTO conversation_reads (workspace_id, conversation_id, agent_id, until)
           VALUES ($1, $2, 7, 1), ($1, $3, 7, 2), ($1, $3, 8, 2)""",
        house.workspace_id,
        first["id"],
        second["id"],
    )
    await connection.execute(
        "UPDATE conversations SET label_ids = ARRAY[id], assignee_id = 5 WHERE workspace_id = $1 AND id = $2",
        house.workspace_id,
        second["id"],
    )

    await apply(ingester, connection, house, [whatsapp(30, "wamid.3", "text", **text("by both"))], [])

    kept = await connection.fetchrow(
        "SELECT id, unread, label_ids, assignee_id, preview FROM conversations WHERE workspace_id = $1",
        house.workspace_id,
    )
    assert tuple(kept)[1:] == (3, [second["id"]], 5, "by both")
    reads = await connection.fetch("SELECT conversation_id, agent_id FROM conversation_reads ORDER BY agent_id")
    assert [tuple(row) for row in reads] == [(kept["id"], 7), (kept["id"], 8)]
    assert await followed(connection, house) == await shown(connection, house)


async def test_who_opted_out_on_two_channels_must_opt_in_on_both(
    database: Database, connection: Connection, box: SecretBox
) -> None:
    house = await build(connection, box)
    other = await house.channel(connection, "777", ChannelKind.WHATSAPP)
    assert other

    def said(words: str, after: int, number_id: str = NUMBER) -> bytes:
        return whatsapp(after, f"wamid.o{after}", "text", user=None, **text(words)).replace(
            NUMBER.encode(), number_id.encode()
        )

    ingester = Ingester(database)
    suppressed = "SELECT recipient FROM suppressions WHERE workspace_id = $1"
    await apply(ingester, connection, house, [said("Stop.", 1), said("UNSUBSCRIBE", 2, "777")], [])
    assert await rows(connection, suppressed, house) == [(f"+{PHONE}",)]
    await apply(ingester, connection, house, [said("please do not start", 3), said("Start", 4)], [])
    assert await rows(connection, suppressed, house) == [(f"+{PHONE}",)]
    await apply(ingester, connection, house, [said("start", 5, "777")], [])
    assert await rows(connection, suppressed, house) == []


async def test_people_of_one_workspace_are_nobody_in_another(
    database: Database, connection: Connection, box: SecretBox
) -> None:
    ours, theirs = await build(connection, box), await build(connection, box)
    await apply(Ingester(database), connection, ours, whatsapp_story(), [])
    assert (await holdings(connection, theirs))["contacts"] == []
    assert await connection.fetchval("SELECT count(*) FROM events WHERE workspace_id = $1", theirs.workspace_id) == 0


async def test_a_message_for_a_channel_of_another_app_reaches_nobody(
    database: Database, connection: Connection, box: SecretBox
) -> None:
    house = await build(connection, box)
    stranger = await House.build(connection, box, "stranger", "the stranger's secret")
    await apply(Ingester(database), connection, stranger, [*whatsapp_story(), *messenger_story()], [])
    assert await connection.fetchval("SELECT count(*) FROM contacts") == 0
    assert (await holdings(connection, house))["notices"] == []


# The law that all of it stands on: any order, any repetition, any division into batches, end in the same rows.

_reference: dict[str, list[Any]] = {}


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), sizes=st.lists(st.integers(1, 12), max_size=12))
async def test_any_order_and_repetition_ends_in_the_same_rows_and_figures(
    database: Database, connection: Connection, box: SecretBox, seed: int, sizes: list[int]
) -> None:
    story = whatsapp_story() + messenger_story() + recycled_story()
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


async def test_a_batch_on_tables_never_analyzed_reads_a_few_rows_a_message(
    database: Database, connection: Connection, box: SecretBox
) -> None:
    """The planner takes them for empty and would, left alone, read them whole for each message."""
    house = await build(connection, box)
    channel = await number_of(connection, house)
    place = Place(house.workspace_id, channel)

    def said(first: int, count: int) -> list[tuple[Place, PersonEvent]]:
        bodies = [
            whatsapp(n / 100, f"wamid.{n}", "text", phone=f"1777{n % 700:07}", user=f"US.{n % 700}", **text(f"{n}"))
            for n in range(first, first + count)
        ]
        return [(place, event) for body in bodies for event in parse_webhook(body).events]  # type: ignore[misc]

    async with database.transaction() as ingest:
        await converse(ingest, said(0, 700), OptWords())
    async with database.transaction() as ingest:
        await converse(ingest, said(700, 400), OptWords())
        read = dict(
            await ingest.fetch(
                "SELECT relname, seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE schemaname = 'pombo'"
            )
        )
    tables = ("contacts", "identities", "conversations", "conversation_messages", "message_changes")
    assert {table: read[table] for table in tables if read[table] > 400 * 25} == {}
