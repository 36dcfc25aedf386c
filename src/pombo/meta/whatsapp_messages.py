"""What people write to a WhatsApp number, and what the WhatsApp Business app beside us writes to them.

Read from decoded JSON member by member, so that an odd member costs nothing but itself.
"""

from collections.abc import Sequence
from datetime import datetime

from pombo.domain.channels import ChannelKind
from pombo.domain.events import Author, MessageChange, Person, Preference, SamePerson, ThreadMessage, WebhookEvent
from pombo.meta.json_parts import Json, an_id, chosen, maybe_id, moment, part, parts, storable, text

_KIND = ChannelKind.WHATSAPP

_MEDIA = frozenset({"image", "video", "document", "audio", "sticker"})


def read_message(number: str, message: Json, contacts: Sequence[Json]) -> list[WebhookEvent]:
    """Raises ValueError, OverflowError, OSError or RecursionError where something needed is missing."""
    at = moment(message.get("timestamp"))
    sender = _person(message, contacts, "from", "from_user_id")
    if message.get("type") == "system":
        return _system(number, message, at)
    if sender is None:
        raise ValueError("from nobody")
    group = maybe_id(message.get("group_id"))
    person = sender if group is None else Person(group)
    if change := _change(number, message, person, at, "contact"):
        return [change]
    kind, words, content = _content(message)
    if group is not None:
        content["sender"] = {"address": sender.address, "name": sender.name}
    context = part(message, "context")
    content |= chosen(context, "forwarded", frequentlyForwarded="frequently_forwarded", product="referred_product")
    content |= chosen(message, "referral", "errors")
    return [
        ThreadMessage(
            _KIND,
            number,
            an_id(message.get("id")),
            person,
            at,
            "contact",
            kind,
            words,
            content,
            maybe_id(context.get("id")),
            opens_window=group is None,
        )
    ]


def read_echo(number: str, message: Json, contacts: Sequence[Json]) -> WebhookEvent:
    """Of the business app on the same number (coexistence): `from` is the business, `to` the person."""
    at = moment(message.get("timestamp"))
    person = _person(message, contacts, "to", "to_user_id")
    if person is None:
        raise ValueError("to nobody")
    if change := _change(number, message, person, at, "business"):
        return change
    kind, words, content = _content(message)
    reply_to = maybe_id(part(message, "context").get("id"))
    provider_id = an_id(message.get("id"))
    return ThreadMessage(_KIND, number, provider_id, person, at, "app", kind, words, content, reply_to)


def read_preference(number: str, item: Json, contacts: Sequence[Json]) -> Preference:
    person = _person(item, contacts, "wa_id", "user_id")
    value = text(item, "value")
    if person is None or value not in ("stop", "resume", "signup"):
        raise ValueError("not a preference")
    return Preference(_KIND, number, person, moment(item.get("timestamp")), value != "stop")


def read_user_id_update(number: str, item: Json) -> SamePerson:
    ids = part(item, "user_id")
    current, phone = an_id(ids.get("current")), _phone(item.get("wa_id"))
    person = Person(phone, (current,)) if phone else Person(current)
    return SamePerson(_KIND, number, person, (an_id(ids.get("previous")),), moment(item.get("timestamp")))


def _system(number: str, message: Json, at: datetime) -> list[WebhookEvent]:
    """A new number, a new user id, or a new identity key; there are no `contacts`, and `from` is who it was."""
    system = part(message, "system")
    kind = text(system, "type") or "system"
    before = _person(message, (), "from", "from_user_id")
    new_phone, new_id = _phone(system.get("wa_id") or system.get("new_wa_id")), maybe_id(system.get("user_id"))
    now = [address for address in (new_phone, new_id) if address]
    if before is None:
        if not now:
            raise ValueError("of nobody")
        before = Person(now[0])
    events: list[WebhookEvent] = []
    shown: Author = "system"
    content = chosen(system, "type", "identity") | {"type": kind}
    if now and kind != "customer_identity_changed":
        after = Person(now[0], tuple(now[1:]))
        events.append(SamePerson(_KIND, number, after, (before.address, *before.others), at))
    provider_id = an_id(message.get("id"))
    events.append(ThreadMessage(_KIND, number, provider_id, before, at, shown, "system", text(system, "body"), content))
    return events


def _change(number: str, message: Json, person: Person, at: datetime, by: str) -> MessageChange | None:
    who = "contact" if by == "contact" else "business"
    match message.get("type"):
        case "reaction":
            reaction = part(message, "reaction")
            target, emoji = an_id(reaction.get("message_id")), text(reaction, "emoji")
            return MessageChange(_KIND, number, target, person, at, "reaction", who, text=emoji)  # type: ignore[arg-type]
        case "revoke":
            target = an_id(part(message, "revoke").get("original_message_id"))
            return MessageChange(_KIND, number, target, person, at, "revoke", who)  # type: ignore[arg-type]
        case "edit":
            edit = part(message, "edit")
            _, words, content = _content(part(edit, "message"))
            target = an_id(edit.get("original_message_id"))
            return MessageChange(_KIND, number, target, person, at, "edit", who, 0, words, content)  # type: ignore[arg-type]
    return None


def _content(message: Json) -> tuple[str, str | None, Json]:
    kind = message.get("type")
    said = part(message, kind) if isinstance(kind, str) else {}
    if isinstance(kind, str) and kind in _MEDIA and said:
        one = {"type": kind} | chosen(
            said, "id", "url", "sha256", "voice", "animated", mimeType="mime_type", fileName="filename"
        )
        return kind, text(said, "caption"), {"attachments": [one]}
    match kind:
        case "text" if said:
            return "text", text(said, "body"), {}
        case "location" if said:
            location = chosen(said, "latitude", "longitude", "name", "address", "url")
            return "location", text(said, "name") or text(said, "address"), {"location": location}
        case "contacts":
            cards = storable(parts(message, "contacts"))
            names = [text(part(card, "name"), "formatted_name") for card in cards]
            return "contacts", ", ".join(filter(None, names)) or None, {"contacts": cards}
        case "button" if said:
            return "button", text(said, "text"), chosen(said, "payload")
        case "interactive" if said:
            return _interactive(said)
        case "order" if said:
            order = chosen(said, catalogId="catalog_id", items="product_items")
            return "order", text(said, "text"), {"order": order}
        case "request_welcome":
            return "request_welcome", None, {}
    rest = {name: value for name, value in message.items() if name not in _ENVELOPE}
    return "unsupported", None, {"original": storable(rest)}


_ENVELOPE = frozenset(
    [
        "id",
        "from",
        "from_user_id",
        "from_parent_user_id",
        "to",
        "to_user_id",
        "timestamp",
        "context",
        "referral",
        "errors",
        "group_id",
    ]
)


def _interactive(said: Json) -> tuple[str, str | None, Json]:
    kind = text(said, "type") or ""
    answer = part(said, kind)
    if kind in ("button_reply", "list_reply") and answer:
        content = {"reply": {"type": kind} | chosen(answer, "id", "title", "description")}
        return "interactive", text(answer, "title"), content
    if kind == "nfm_reply" and answer:
        content = {"reply": {"type": kind} | chosen(answer, "name", response="response_json")}
        return "interactive", text(answer, "body"), content
    return "interactive", None, {"reply": storable(said)}


def _person(message: Json, contacts: Sequence[Json], phone_name: str, user_name: str) -> Person | None:
    """By whatever Meta gives: the phone number may be missing (people with a username), so may the user id."""
    said, user = message.get(phone_name), maybe_id(message.get(user_name))
    named = [c for c in contacts if (said and c.get("wa_id") == said) or (user and c.get("user_id") == user)]
    if not named and len(contacts) == 1:
        [only] = contacts
        # Of the one contact that there is, unless it is somebody else.
        if not (said and only.get("wa_id")) and not (user and only.get("user_id")):
            named = [only]
    contact = named[0] if named else {}
    phone = _phone(said) or _phone(contact.get("wa_id"))
    user = user or maybe_id(contact.get("user_id"))
    addresses = [address for address in (phone, user) if address]
    if not addresses:
        return None
    profile = part(contact, "profile")
    return Person(addresses[0], tuple(addresses[1:]), text(profile, "name"), text(profile, "username"))


def _phone(value: object) -> str | None:
    """In Pombo's form; what is no number (a user id) as it is."""
    said = maybe_id(value)
    if said is None:
        return None
    digits = said.removeprefix("+")
    return f"+{digits}" if digits.isascii() and digits.isdecimal() else said
