"""What two people do on a Page and a number, as Meta's webhooks tell it, and what a workspace then holds."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from pombo.domain.channels import ChannelKind
from pombo.store import webhooks
from pombo.store.database import Connection
from pombo.store.inbox_events import CONVERSATION_JSON, MESSAGE_JSON
from pombo.store.webhooks import SignedWebhook
from tests.delivery_log import House, Message
from tests.told import told

PAGE, NUMBER, ACCOUNT = "100", "106540352242922", "102290129340398"
PSID = "254459191"
PHONE, NEW_PHONE = "16505551234", "16505559999"
USER, NEW_USER = "US.13491208655302741918", "US.77777"
LENT_PHONE, EVES_PHONE = "16505550001", "16505550002"
EVE, NEW_EVE, BOB = "US.3001", "US.3002", "US.4001"
# A Mexican number as people write it, and as WhatsApp does.
WRITTEN, WHATSAPPS, MEXICAN = "525512345678", "5215512345678", "MX.4711"
# Whole seconds, and shortly ago: the delivery log has partitions for yesterday and today.
BASE = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=10)


def seconds(after: float) -> str:
    return str(int((BASE + timedelta(seconds=after)).timestamp()))


def milliseconds(after: float) -> int:
    return int((BASE + timedelta(seconds=after)).timestamp() * 1000)


def page(*events: dict[str, Any], entry: dict[str, Any] | None = None) -> bytes:
    made = {"id": PAGE, "time": milliseconds(0), "messaging": list(events), **(entry or {})}
    return json.dumps({"object": "page", "entry": [made]}).encode()


def from_person(after: float, **event: Any) -> dict[str, Any]:
    return {"sender": {"id": PSID}, "recipient": {"id": PAGE}, "timestamp": milliseconds(after), **event}


def page_echo(after: float, **message: Any) -> dict[str, Any]:
    said = {"is_echo": True, "app_id": 26390203743090, **message}
    return {"sender": {"id": PAGE}, "recipient": {"id": PSID}, "timestamp": milliseconds(after), "message": said}


def account(field: str, value: Any, time: int | None = None) -> bytes:
    entry: dict[str, Any] = {"id": ACCOUNT, "changes": [{"field": field, "value": value}]}
    if time is not None:
        entry["time"] = time
    return json.dumps({"object": "whatsapp_business_account", "entry": [entry]}).encode()


def number(field: str = "messages", **value: Any) -> bytes:
    metadata = {"display_phone_number": "15550783881", "phone_number_id": NUMBER}
    return account(field, {"messaging_product": "whatsapp", "metadata": metadata, **value})


def whatsapp(
    after: float, id: str, type: str, phone: str | None = PHONE, user: str | None = USER, name: str = "Ana", **more: Any
) -> bytes:
    """A message; Meta leaves out what it does not tell."""
    contact = {"profile": {"name": name}, "wa_id": phone, "user_id": user}
    message = {"from": phone, "from_user_id": user, "id": id, "timestamp": seconds(after), "type": type, **more}
    return number(contacts=[_without_none(contact)], messages=[_without_none(message)])


def _without_none(value: dict[str, Any]) -> dict[str, Any]:
    return {name: item for name, item in value.items() if item is not None}


def status(id: str, name: str, after: float, recipient: str = PHONE, **more: Any) -> bytes:
    said = {"id": id, "status": name, "timestamp": seconds(after), "recipient_id": recipient, **more}
    return number(statuses=[said])


def text(body: str) -> dict[str, Any]:
    return {"text": {"body": body}}


def whatsapp_story() -> list[bytes]:
    return [
        whatsapp(10, "wamid.1", "text", phone=None, name="Ana B", **text("Hello")),
        whatsapp(20, "wamid.2", "text", context={"from": NUMBER, "id": "wamid.campaign"}, **text("Yes, please")),
        whatsapp(
            30, "wamid.e1", "edit", edit={"original_message_id": "wamid.1", "message": {"type": "text"} | text("Hi")}
        ),
        whatsapp(
            35, "wamid.e2", "edit", edit={"original_message_id": "wamid.1", "message": {"type": "text"} | text("Hi!")}
        ),
        whatsapp(40, "wamid.3", "image", image={"id": "1", "mime_type": "image/png", "sha256": "x", "caption": "This"}),
        whatsapp(45, "wamid.v", "revoke", revoke={"original_message_id": "wamid.3"}),
        number(
            "smb_message_echoes",
            message_echoes=[
                {"from": "15550783881", "to": PHONE, "id": "wamid.4", "timestamp": seconds(50), "type": "text"}
                | text("Sure")
            ],
        ),
        status("wamid.4", "delivered", 51),
        status("wamid.4", "read", 55),
        whatsapp(60, "wamid.r1", "reaction", reaction={"message_id": "wamid.4", "emoji": "\u2764"}),
        whatsapp(61, "wamid.r2", "reaction", reaction={"message_id": "wamid.campaign", "emoji": "\U0001f44d"}),
        whatsapp(65, "wamid.r3", "reaction", reaction={"message_id": "wamid.4"}),
        number(
            messages=[
                {
                    "from": PHONE,
                    "id": "wamid.s",
                    "timestamp": seconds(70),
                    "type": "system",
                    "system": {"body": "Ana changed", "wa_id": NEW_PHONE, "type": "user_changed_number"},
                }
            ]
        ),
        whatsapp(80, "wamid.5", "text", phone=NEW_PHONE, user=None, **text("My new number")),
        number(
            "user_id_update",
            user_id_update=[
                {
                    "wa_id": NEW_PHONE,
                    "detail": "x",
                    "user_id": {"previous": USER, "current": NEW_USER},
                    "timestamp": int(seconds(85)),
                }
            ],
        ),
        whatsapp(90, "wamid.6", "text", phone=None, user=NEW_USER, name="Ana C", **text("STOP")),
        number(
            "user_preferences",
            user_preferences=[
                {
                    "wa_id": NEW_PHONE,
                    "detail": "x",
                    "category": "marketing_messages",
                    "value": "resume",
                    "timestamp": int(seconds(95)),
                }
            ],
        ),
        whatsapp(
            100,
            "wamid.7",
            "button",
            phone=NEW_PHONE,
            user=NEW_USER,
            name="Ana C",
            button={"payload": "BUY", "text": "Buy"},
            context={"from": NUMBER, "id": "wamid.campaign"},
        ),
        whatsapp(110, "wamid.8", "hologram", phone=NEW_PHONE, user=NEW_USER, name="Ana C", hologram={"depth": 3}),
    ]


def recycled_story() -> list[bytes]:
    """Eve changes her number, and Bob gets the one she had; she keeps writing."""
    eve = {"name": "Eve", "user": EVE, "phone": LENT_PHONE}
    moved = {"body": "Eve changed", "wa_id": EVES_PHONE, "user_id": NEW_EVE, "type": "user_changed_number"}
    new_eve = {"name": "Eve", "user": NEW_EVE, "phone": EVES_PHONE}
    bob = {"name": "Bob", "user": BOB, "phone": LENT_PHONE}
    return [
        whatsapp(110, "wamid.r1", "text", **eve, **text("I am Eve")),
        whatsapp(120, "wamid.r2", "text", **eve, **text("STOP")),
        number(
            messages=[
                {"from": LENT_PHONE, "from_user_id": EVE, "id": "wamid.r4", "timestamp": seconds(140)}
                | {"type": "system", "system": moved}
            ]
        ),
        whatsapp(150, "wamid.r5", "text", **new_eve, **text("My new number")),
        whatsapp(160, "wamid.r6", "text", **bob, **text("I am Bob")),
        whatsapp(170, "wamid.r7", "text", **new_eve, **text("Still me")),
        whatsapp(180, "wamid.r8", "text", **bob, **text("Still Bob")),
        number(
            "smb_message_echoes",
            message_echoes=[
                {"to": LENT_PHONE, "to_user_id": BOB, "id": "wamid.r9", "timestamp": seconds(190), "type": "text"}
                | text("Hello Bob")
            ],
        ),
    ]


def messenger_story() -> list[bytes]:
    sticker = {"type": "sticker", "payload": {"sticker_id": 369239263222822, "url": "https://x/sticker"}}
    twice = [sticker, {"type": "image", "payload": {"sticker_id": 369239263222822, "url": "https://x/sticker"}}]
    return [
        page(from_person(5, referral={"ref": "spring", "source": "SHORTLINK", "type": "OPEN_THREAD"})),
        page(from_person(10, postback={"mid": "m_1", "title": "Get Started", "payload": "START"})),
        page(from_person(20, message={"mid": "m_2", "text": "Is it open?"})),
        page(from_person(22, message_edit={"mid": "m_2", "text": "Are you open?", "num_edit": 1})),
        page(from_person(24, message_edit={"mid": "m_2", "text": "Are you open today?", "num_edit": 2})),
        page(from_person(26, message={"mid": "m_3", "attachments": twice})),
        page(page_echo(30, mid="m_4", text="Yes, until six.")),
        page(
            {
                "sender": {"id": PSID},
                "recipient": {"id": PAGE},
                "delivery": {"mids": ["m_4"], "watermark": milliseconds(31)},
            }
        ),
        page(from_person(33, read={"watermark": milliseconds(32)})),
        page(page_echo(34, mid="m_5", text="And tomorrow.")),
        page(from_person(36, reaction={"reaction": "love", "emoji": "\u2764", "action": "react", "mid": "m_4"})),
        page(
            from_person(
                38, message={"mid": "m_6", "text": "Small", "quick_reply": {"payload": "S"}, "reply_to": {"mid": "m_5"}}
            )
        ),
        page(entry={"messaging": [], "standby": [from_person(40, message={"mid": "m_7", "text": "Thanks"})]}),
        page(
            from_person(42, pass_thread_control={"previous_owner_app_id": None, "new_owner_app_id": 7, "metadata": ""})
        ),
        page(
            from_person(
                44, optin={"type": "notification_messages", "notification_messages_status": "STOP NOTIFICATIONS"}
            )
        ),
    ]


def mexican_story() -> list[bytes]:
    return [
        status("wamid.campaign", "delivered", 5, WHATSAPPS, recipient_user_id=MEXICAN),
        status("wamid.campaign", "read", 8, WHATSAPPS, recipient_user_id=MEXICAN),
        whatsapp(10, "wamid.stop", "text", phone=WHATSAPPS, user=MEXICAN, **text("STOP")),
    ]


async def set_the_scene(connection: Connection, house: House) -> list[Message]:
    """The channels, and for each a campaign message that was accepted at BASE."""
    sent = []
    for external_id, kind, recipient, provider_id in (
        (NUMBER, ChannelKind.WHATSAPP, f"+{PHONE}", "wamid.campaign"),
        (PAGE, ChannelKind.MESSENGER, PSID, "m_campaign"),
    ):
        channel = await house.channel(connection, external_id, kind)
        await connection.execute(
            "UPDATE channels SET waba_id = $3 WHERE workspace_id = $1 AND id = $2 AND kind = 'whatsapp'",
            house.workspace_id,
            channel,
            ACCOUNT,
        )
        campaign = await connection.fetchval(
            "INSERT INTO campaigns (workspace_id, name, channel_ids) VALUES ($1, 'Spring', $2) RETURNING id",
            house.workspace_id,
            [channel],
        )
        run = await connection.fetchval(
            """INSERT INTO runs (workspace_id, campaign_id, source, content, channel_ids, state, expanded)
               VALUES ($1, $2, 'staged', $3, $4, 'processing', true) RETURNING id""",
            house.workspace_id,
            campaign,
            json.dumps({"type": "text", "text": "Hello {{ first_name | default: 'you' }}"}),
            [channel],
        )
        message = await house.accepted(connection, channel, recipient, run_id=run)
        await connection.execute(
            "UPDATE deliveries SET provider_id = $3, intent_at = $4 WHERE workspace_id = $1 AND id = $2",
            house.workspace_id,
            message.id,
            provider_id,
            BASE,
        )
        sent.append(message)
    return sent


async def address_campaign_to(connection: Connection, house: House, recipient: str) -> int:
    """Returns the channel."""
    channel: int = await connection.fetchval(
        """UPDATE deliveries SET recipient = $2 WHERE workspace_id = $1 AND provider_id = 'wamid.campaign'
           RETURNING channel_id""",
        house.workspace_id,
        recipient,
    )
    return channel


async def arrive(connection: Connection, house: House, *bodies: bytes) -> None:
    await webhooks.append(connection, [SignedWebhook(house.workspace_id, house.app_id, body) for body in bodies])


async def holdings(connection: Connection, house: House) -> dict[str, list[Any]]:
    """All that the workspace knows of people, without ids, versions and times of our own."""
    w = house.workspace_id
    queries = {
        "contacts": """SELECT external_id, name, profile, last_inbound_at, opted_out_at, preference_at
                       FROM contacts WHERE workspace_id = $1""",
        "identities": """SELECT i.identity, i.seen_at, c.external_id, i.claimed_at FROM identities i
                         JOIN contacts c ON c.workspace_id = i.workspace_id AND c.id = i.contact_id
                         WHERE i.workspace_id = $1""",
        "conversations": """SELECT c.external_id, v.status, v.unread, v.last_message_at, v.last_inbound_at, v.preview
                            FROM conversations v JOIN contacts c
                            ON c.workspace_id = v.workspace_id AND c.id = v.contact_id WHERE v.workspace_id = $1""",
        "messages": """SELECT c.external_id, m.direction, m.author, m.run_id IS NOT NULL, m.provider_id, m.kind, m.text,
                              m.content, m.reply_to, m.reactions, m.edited_at, m.revoked_at, m.state, m.error_code, m.at
                       FROM conversation_messages m
                       JOIN conversations v ON v.workspace_id = m.workspace_id AND v.id = m.conversation_id
                       JOIN contacts c ON c.workspace_id = v.workspace_id AND c.id = v.contact_id
                       WHERE m.workspace_id = $1""",
        "signals": """SELECT c.external_id, s.kind, s.key, s.data, s.at FROM signals s
                      JOIN contacts c ON c.workspace_id = s.workspace_id AND c.id = s.contact_id
                      WHERE s.workspace_id = $1""",
        "responses": "SELECT recipient, response, at FROM run_responses WHERE workspace_id = $1",
        "figures": """SELECT sum(replied)::int, sum(clicked)::int, sum(delivered)::int, sum(read)::int
                      FROM run_deltas WHERE workspace_id = $1 GROUP BY run_id""",
        "suppressions": "SELECT kind, recipient, reason FROM suppressions WHERE workspace_id = $1",
        "profiles wanted": """SELECT c.external_id, count(j.id)::int, c.profile_asked_at IS NOT NULL FROM contacts c
                              LEFT JOIN channel_jobs j ON j.workspace_id = c.workspace_id AND j.kind = 'profile'
                                                      AND (j.payload ->> 'contactId')::bigint = c.id
                              WHERE c.workspace_id = $1 GROUP BY c.workspace_id, c.id""",
        "notices": "SELECT name, subject, data, at FROM channel_notices WHERE workspace_id = $1",
    }
    return {name: sorted((tuple(row) for row in await connection.fetch(q, w)), key=repr) for name, q in queries.items()}


async def shown(connection: Connection, house: House) -> tuple[dict[int, Any], dict[int, Any]]:
    """Conversations and messages as HTTP would show them."""
    conversations = await connection.fetch(
        f"""SELECT c.id, {CONVERSATION_JSON} FROM conversations c
            JOIN contacts p ON p.workspace_id = c.workspace_id AND p.id = c.contact_id WHERE c.workspace_id = $1""",
        house.workspace_id,
    )
    messages = await connection.fetch(
        f"SELECT m.id, {MESSAGE_JSON} FROM conversation_messages m WHERE m.workspace_id = $1", house.workspace_id
    )
    return {row[0]: json.loads(row[1]) for row in conversations}, {row[0]: json.loads(row[1]) for row in messages}


async def followed(connection: Connection, house: House) -> tuple[dict[int, Any], dict[int, Any]]:
    """The same, as a browser has it that began with nothing and followed the events."""
    held: dict[str, dict[int, Any]] = {"conversation": {}, "message": {}}
    for _, name, data in await told(connection, house.workspace_id):
        kind, _, what = name.partition(".")
        if what == "merged":
            held[kind].pop(data["id"], None)
        elif held[kind].get(data["id"], {"version": 0})["version"] <= data["version"]:
            held[kind][data["id"]] = data
    return held["conversation"], held["message"]
