"""Numbers change hands, and are written in several ways: whose what comes with them is."""

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from pombo.domain.ids import ChannelId, WorkspaceId
from pombo.ingest.ingester import Ingester
from pombo.store import contacts, conversations, inbox_people
from pombo.store.contacts import NewContact
from pombo.store.database import Connection, Database
from pombo.store.inbox_identities import Sighting
from pombo.store.secrets import SecretBox
from tests.inbox_story import (
    BOB,
    EVE,
    EVES_PHONE,
    LENT_PHONE,
    MEXICAN,
    NEW_EVE,
    NEW_PHONE,
    NEW_USER,
    PHONE,
    USER,
    WHATSAPPS,
    WRITTEN,
    address_campaign_to,
    followed,
    holdings,
    mexican_story,
    number,
    recycled_story,
    seconds,
    shown,
    status,
    text,
    whatsapp,
)
from tests.service.test_inbox_ingest import THREAD, apply, build, connection, number_of, rows

__all__ = ["connection"]  # fixture


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
