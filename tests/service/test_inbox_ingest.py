"""What people do, from the webhook queue to contacts, conversations, figures and what open browsers are told."""

import asyncio
import itertools
import json
import random
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pombo.domain.channels import ChannelKind
from pombo.domain.ids import ChannelId, WorkspaceId
from pombo.domain.opt_out import OptWords
from pombo.ingest.conversing import converse
from pombo.ingest.gathering import PersonEvent, Place
from pombo.ingest.ingester import Ingester
from pombo.meta.webhooks import parse_webhook
from pombo.store import contacts, conversations, inbox_people, inbox_threads, preferences, replies, settlement
from pombo.store.contacts import NewContact
from pombo.store.database import Connection, Database
from pombo.store.inbox_identities import Sighting
from pombo.store.secrets import SecretBox
from tests.delivery_log import House, Message
from tests.inbox_story import (
    BOB,
    EVE,
    EVES_PHONE,
    LENT_PHONE,
    MEXICAN,
    NEW_EVE,
    NEW_PHONE,
    NEW_USER,
    NUMBER,
    PAGE,
    PHONE,
    PSID,
    USER,
    WHATSAPPS,
    WRITTEN,
    account,
    address_campaign_to,
    arrive,
    followed,
    from_person,
    holdings,
    messenger_story,
    mexican_story,
    milliseconds,
    number,
    page,
    page_echo,
    recycled_story,
    seconds,
    set_the_scene,
    shown,
    status,
    text,
    whatsapp,
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


async def number_of(connection: Connection, house: House) -> int:
    channel: int = await connection.fetchval(
        "SELECT id FROM channels WHERE workspace_id = $1 AND kind = 'whatsapp'", house.workspace_id
    )
    return channel


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
    async with connection.transaction():
        await replies.follow(connection, 500)
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
        async with asyncio.timeout(20):
            while not await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                await asyncio.sleep(0.01)
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


async def test_a_paused_template_pauses_its_runs_unless_it_was_approved_since(
    database: Database, connection: Connection, box: SecretBox
) -> None:
    house = await build(connection, box)
    ingester = Ingester(database)
    content = {"type": "template", "name": "spring", "language": "en_US"}
    await connection.execute(
        "UPDATE runs SET content = $2 WHERE workspace_id = $1", house.workspace_id, json.dumps(content)
    )

    def told(event: str, after: int, name: str = "spring") -> bytes:
        value = {
            "event": event,
            "message_template_id": 1,
            "message_template_name": name,
            "message_template_language": "en-US",
            "reason": None,
            "other_info": {"title": "FIRST_PAUSE", "description": "Too many blocked it."},
        }
        return account("message_template_status_update", value, int(seconds(after)))

    states = "SELECT state, pause_reason FROM runs WHERE workspace_id = $1 ORDER BY id"
    await apply(
        ingester, connection, house, [told("APPROVED", 20), told("PAUSED", 10), told("PAUSED", 30, "autumn")], [1]
    )
    assert {row[0] for row in await rows(connection, states, house)} == {"processing"}

    await apply(ingester, connection, house, [told("PAUSED", 40)], [])
    number, messenger = await rows(connection, states, house)
    assert number == ("pausing", "Meta has set the template spring to PAUSED: Too many blocked it.")
    # Its channel belongs to no WhatsApp account.
    assert messenger == ("processing", None)

    await connection.execute(
        "UPDATE runs SET state = 'processing', pause_reason = NULL WHERE workspace_id = $1", house.workspace_id
    )
    await apply(ingester, connection, house, [told("PAUSED", 40)], [])
    assert {row[0] for row in await rows(connection, states, house)} == {"processing"}


async def test_a_disabled_account_and_a_blocked_page_stop_their_channels(
    database: Database, connection: Connection, box: SecretBox
) -> None:
    house = await build(connection, box)
    ban = {"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": "DISABLE", "waba_ban_date": "x"}}
    harmless = {"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": "SCHEDULE_FOR_DISABLE"}}
    block = {
        "recipient": {"id": PAGE},
        "timestamp": milliseconds(5),
        "policy_enforcement": {"action": "block", "reason": "Spam."},
    }
    stopped = "SELECT kind, state, stop_code, stop_reason FROM channels WHERE workspace_id = $1 ORDER BY kind"
    ingester = Ingester(database)

    await apply(ingester, connection, house, [account("account_update", harmless, int(seconds(1)))], [])
    assert [row[1] for row in await rows(connection, stopped, house)] == ["active", "active"]
    await apply(ingester, connection, house, [account("account_update", ban, int(seconds(2))), page(block)], [])

    assert await rows(connection, stopped, house) == [
        ("messenger", "stopped", "messaging_policy_enforcement", "Spam."),
        ("whatsapp", "stopped", "account_update", "Meta has disabled the WhatsApp Business account."),
    ]


async def test_what_meta_tells_of_an_account_is_kept_once_for_its_channels(
    database: Database, connection: Connection, box: SecretBox
) -> None:
    house = await build(connection, box)
    quality = {"display_phone_number": "15550783881", "event": "THROUGHPUT_UPGRADE", "current_limit": "TIER_UNLIMITED"}
    bodies = [account("phone_number_quality_update", quality, int(seconds(3)))] * 3
    await apply(Ingester(database), connection, house, bodies, [2])
    held = await holdings(connection, house)
    assert [(row[0], row[1]) for row in held["notices"]] == [("phone_number_quality_update", "15550783881")]


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


THREADS = """SELECT c.external_id, m.text FROM conversation_messages m
             JOIN conversations v ON v.workspace_id = m.workspace_id AND v.id = m.conversation_id
             JOIN contacts c ON c.workspace_id = v.workspace_id AND c.id = v.contact_id
             WHERE m.workspace_id = $1 AND m.author <> 'campaign' ORDER BY m.at, m.id"""
STRANGER = "US.999"


@pytest.mark.parametrize("sizes", [[], [1] * 100])
async def test_a_number_that_comes_with_another_user_id_is_another_persons_from_then_on(
    database: Database, connection: Connection, box: SecretBox, sizes: list[int]
) -> None:
    house = await build(connection, box)
    ingester = Ingester(database)
    ana = [
        whatsapp(10, "wamid.1", "text", **text("I am Ana")),
        whatsapp(20, "wamid.2", "text", **text("STOP")),
    ]
    await apply(ingester, connection, house, ana, sizes)
    await connection.execute("UPDATE conversations SET label_ids = '{7}' WHERE workspace_id = $1", house.workspace_id)

    bob = [
        whatsapp(30, "wamid.3", "text", user=STRANGER, name="Bob", **text("I am Bob")),
        whatsapp(40, "wamid.4", "text", user=None, name="Bob", **text("By number alone")),
        whatsapp(50, "wamid.5", "text", phone=None, **text("Ana again")),
        # Late.
        whatsapp(25, "wamid.6", "text", **text("Ana before")),
    ]
    await apply(ingester, connection, house, bob + ana, sizes)

    assert await rows(connection, THREADS, house) == [
        (USER, "I am Ana"),
        (USER, "STOP"),
        (USER, "Ana before"),
        (f"+{PHONE}", "I am Bob"),
        (f"+{PHONE}", "By number alone"),
        (USER, "Ana again"),
    ]
    held = await holdings(connection, house)
    assert [row[:2] for row in held["contacts"]] == [(f"+{PHONE}", "Bob"), (USER, "Ana")]
    assert [row[1] for row in held["suppressions"]] == [USER]
    labels = """SELECT c.external_id, v.label_ids FROM conversations v
                JOIN contacts c ON c.workspace_id = v.workspace_id AND c.id = v.contact_id
                WHERE v.workspace_id = $1 ORDER BY 1"""
    assert await rows(connection, labels, house) == [(f"+{PHONE}", []), (USER, [7])]
    assert await followed(connection, house) == await shown(connection, house)


async def test_a_number_that_its_owner_had_left_is_the_next_ones(
    database: Database, connection: Connection, box: SecretBox
) -> None:
    house = await build(connection, box)
    changed = {"body": "Ana changed", "wa_id": NEW_PHONE, "type": "user_changed_number"}
    change = {"from": PHONE, "id": "wamid.s", "timestamp": seconds(20), "type": "system", "system": changed}
    story = [
        whatsapp(10, "wamid.1", "text", **text("I am Ana")),
        number(messages=[change]),
        whatsapp(30, "wamid.2", "text", user=STRANGER, name="Bob", **text("I am Bob")),
        whatsapp(40, "wamid.3", "text", phone=NEW_PHONE, user=NEW_USER, **text("Ana with a new id")),
    ]

    await apply(Ingester(database), connection, house, story + story, [1] * 100)

    assert await rows(connection, THREADS, house) == [
        (f"+{NEW_PHONE}", "I am Ana"),
        (f"+{NEW_PHONE}", "Ana changed"),
        (f"+{PHONE}", "I am Bob"),
        (f"+{NEW_PHONE}", "Ana with a new id"),
    ]


async def test_two_who_swap_their_numbers_are_each_written_to_at_their_own(
    database: Database, connection: Connection, box: SecretBox
) -> None:
    house = await build(connection, box)
    before = [
        whatsapp(10, "wamid.1", "text", **text("Ana")),
        whatsapp(11, "wamid.2", "text", phone=NEW_PHONE, user=STRANGER, **text("Bob")),
    ]
    after = [
        whatsapp(20, "wamid.3", "text", phone=NEW_PHONE, **text("Ana")),
        whatsapp(21, "wamid.4", "text", user=STRANGER, **text("Bob")),
    ]
    ingester = Ingester(database)
    await apply(ingester, connection, house, before, [])
    await apply(ingester, connection, house, after, [])

    ana, bob = (f"+{NEW_PHONE}", "Ana"), (f"+{PHONE}", "Bob")
    assert await rows(connection, THREADS, house) == [ana, bob, ana, bob]
    assert await followed(connection, house) == await shown(connection, house)


async def test_a_story_of_a_number_that_changes_hands_ends_as_it_should(
    database: Database, connection: Connection, box: SecretBox
) -> None:
    house = await build(connection, box)
    await apply(Ingester(database), connection, house, recycled_story(), [])
    held = await holdings(connection, house)
    eve, bob = f"+{EVES_PHONE}", f"+{LENT_PHONE}"
    owners = {EVE: eve, NEW_EVE: eve, eve: eve, BOB: bob, bob: bob}
    assert {row[0]: row[2] for row in held["identities"]} == owners
    assert {row[1] for row in held["suppressions"]} == {EVE, NEW_EVE, eve}
    assert {(row[0], row[6]) for row in held["messages"]} == {
        *((eve, said) for said in ("I am Eve", "STOP", "Eve changed", "My new number", "Still me")),
        *((bob, said) for said in ("I am Bob", "Still Bob", "Hello Bob")),
    }


async def test_a_former_number_is_its_owners_until_the_next_one_comes_with_it(
    database: Database, connection: Connection, box: SecretBox
) -> None:
    """A receipt names the number written to, another that WhatsApp has for it, and the user's id."""
    house = await build(connection, box)
    channel = await number_of(connection, house)
    began = datetime(2026, 11, 1, tzinfo=UTC)

    async def seen(hours: int, *now: str, formerly: Sequence[str] = ()) -> int:
        at = began + timedelta(hours=hours)
        ids: dict[str, datetime | None] = dict.fromkeys(now, at) | dict.fromkeys(formerly)
        async with database.transaction() as ingest:
            return (await inbox_people.resolve(ingest, [Sighting(house.workspace_id, channel, at, ids)])).contacts[0]

    first = await seen(0, "+5511900000000")
    assert await seen(1, "+551190000000", "US.1", formerly=["+5511900000000"]) == first
    assert await seen(2, "+5511900000000", "US.2") != first


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("sizes", [[], [1] * 100])
async def test_who_answers_from_a_number_that_whatsapp_writes_otherwise_is_the_one_written_to(
    database: Database, connection: Connection, box: SecretBox, order: tuple[int, ...], sizes: list[int]
) -> None:
    house = await build(connection, box)
    channel = await address_campaign_to(connection, house, f"+{WRITTEN}")
    story = mexican_story()

    await apply(Ingester(database), connection, house, [*(story[n] for n in order), *story], sizes)

    held = await holdings(connection, house)
    everything = {f"+{WRITTEN}", f"+{WHATSAPPS}", MEXICAN}
    assert {(row[0], row[2]) for row in held["identities"]} == {(one, f"+{WHATSAPPS}") for one in everything}
    assert {row[1] for row in held["suppressions"]} == everything
    assert [row[:2] for row in held["responses"]] == [(f"+{WRITTEN}", "replied")]
    thread = await rows(connection, THREAD.format("whatsapp"), house)
    assert [(row[0], row[4]) for row in thread] == [("wamid.campaign", "read"), ("wamid.stop", None)]
    async with connection.transaction():
        place = WorkspaceId(house.workspace_id), ChannelId(channel)
        assert await conversations.lock_of(connection, *place, f"+{WRITTEN}") is not None
    assert await followed(connection, house) == await shown(connection, house)


async def test_an_imported_contact_answers_from_the_number_that_whatsapp_gives_it(
    database: Database, connection: Connection, box: SecretBox
) -> None:
    house = await build(connection, box)
    channel = await address_campaign_to(connection, house, f"+{WRITTEN}")
    imported = [NewContact(ChannelId(channel), f"+{WRITTEN}", {"first_name": "Ana"})]
    await contacts.save_contacts(connection, WorkspaceId(house.workspace_id), imported)

    # Older webhooks bring no user id.
    story = [
        whatsapp(10, "wamid.stop", "text", phone=WHATSAPPS, user=None, **text("STOP")),
        status("wamid.campaign", "delivered", 5, WHATSAPPS),
    ]
    await apply(Ingester(database), connection, house, story, [1] * 100)
    await contacts.save_contacts(connection, WorkspaceId(house.workspace_id), imported)

    assert await rows(connection, "SELECT external_id, attributes FROM contacts WHERE workspace_id = $1", house) == [
        (f"+{WHATSAPPS}", '{"first_name": "Ana"}')
    ]
    held = await holdings(connection, house)
    assert {row[1] for row in held["suppressions"]} == {f"+{WRITTEN}", f"+{WHATSAPPS}"}
    assert [row[:2] for row in held["responses"]] == [(f"+{WRITTEN}", "replied")]


async def test_a_status_that_calls_its_recipient_as_the_message_did_makes_nobody_a_contact(
    database: Database, connection: Connection, box: SecretBox
) -> None:
    house = await build(connection, box)
    told = status("wamid.campaign", "delivered", 5, recipient_user_id=USER)
    await apply(Ingester(database), connection, house, [told], [])
    assert (await holdings(connection, house))["contacts"] == []


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
