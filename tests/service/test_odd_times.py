"""Events that come late, or with times that cannot be."""

from datetime import UTC, datetime, timedelta

from pombo.domain.channels import ChannelKind
from pombo.ingest.ingester import Ingester
from pombo.store.database import Connection, Database
from pombo.store.secrets import SecretBox
from tests.delivery_log import House
from tests.inbox_story import (
    BASE,
    BOB,
    EVE,
    EVES_PHONE,
    LENT_PHONE,
    NUMBER,
    PAGE,
    arrive,
    from_person,
    page,
    status,
    text,
    whatsapp,
)


async def comes(database: Database, connection: Connection, house: House, *bodies: bytes) -> None:
    for body in bodies:
        await arrive(connection, house, body)
        while await Ingester(database).run_once():
            pass


async def test_a_message_that_is_read_late_takes_no_number_from_its_new_owner(
    database: Database, box: SecretBox
) -> None:
    async with database.borrow() as connection:
        house = await House.build(connection, box)
        channel_id = await house.channel(connection, NUMBER, ChannelKind.WHATSAPP)
        eve = {"user": EVE, "name": "Eve"}
        await comes(
            database,
            connection,
            house,
            whatsapp(1, "wamid.1", "text", phone=LENT_PHONE, **eve, **text("I am Eve")),
        )
        message = await house.accepted(connection, channel_id, f"+{LENT_PHONE}")
        await connection.execute("UPDATE deliveries SET intent_at = $1", BASE + timedelta(seconds=10))
        await comes(
            database,
            connection,
            house,
            whatsapp(15, "wamid.2", "text", phone=EVES_PHONE, **eve, **text("My new number")),
            whatsapp(20, "wamid.3", "text", phone=LENT_PHONE, user=BOB, name="Bob", **text("I am Bob")),
            status(message.provider_id, "read", 30, recipient=EVES_PHONE, recipient_user_id=EVE),
        )
        holder = "SELECT p.name FROM identities i JOIN contacts p ON p.id = i.contact_id WHERE i.identity = $1"
        names = [await connection.fetchval(holder, f"+{phone}") for phone in (LENT_PHONE, EVES_PHONE)]
        assert names == ["Bob", "Eve"]


async def test_what_claims_to_be_from_the_future_is_from_when_it_came(database: Database, box: SecretBox) -> None:
    async with database.borrow() as connection:
        house = await House.build(connection, box)
        await house.channel(connection, PAGE)
        far = from_person(0, message={"mid": "m_1", "text": "x"}) | {"timestamp": 253402300799000}
        await comes(database, connection, house, page(far))
        times = await connection.fetchrow(
            """SELECT v.last_message_at, v.last_inbound_at, c.last_inbound_at FROM conversations v
               JOIN contacts c ON c.workspace_id = v.workspace_id AND c.id = v.contact_id"""
        )
        now = datetime.now(UTC)
        assert all(now - timedelta(minutes=1) < time <= now for time in times)
        # A watch that is a little fast is believed: order within a thread goes by it.
        fast = int((now + timedelta(seconds=30)).timestamp() * 1000)
        soon = from_person(0, message={"mid": "m_2", "text": "y"}) | {"timestamp": fast}
        await comes(database, connection, house, page(soon))
        last = await connection.fetchval("SELECT last_message_at FROM conversations")
        assert last.timestamp() * 1000 == fast
