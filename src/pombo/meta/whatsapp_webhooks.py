"""Events of a WhatsApp number and its account. Statuses, of which thousands come, are read from typed members, the rest
from JSON (`whatsapp_messages`, `whatsapp_accounts`)."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial

import msgspec

from pombo.domain.channels import ChannelKind
from pombo.domain.events import StatusReceipt, Unhandled, WebhookEvent
from pombo.domain.outcomes import DeliveryState
from pombo.domain.sendkey import parse_key
from pombo.meta import json_parts, whatsapp_accounts, whatsapp_messages
from pombo.meta.json_parts import LONGEST_ID, Json, maybe_id, moment, part, parts
from pombo.meta.webhook_shapes import ABSENT, Change, NeedsJson, Status, Value

_KIND = ChannelKind.WHATSAPP

_STATES = {
    "sent": DeliveryState.ACCEPTED,
    "delivered": DeliveryState.DELIVERED,
    "read": DeliveryState.READ,
    # A voice message that was listened to.
    "played": DeliveryState.READ,
    "failed": DeliveryState.UNDELIVERED,
}

# Meta's are below 100 characters.
_LONGEST_TITLE = 500

# Whole conversations of the past: left in the log, for the history has a way of its own.
_LEFT = frozenset({"history", "smb_app_state_sync"})

_ODD = (ValueError, OverflowError, OSError, RecursionError, UnicodeError)

_decode_list = msgspec.json.Decoder(list[object]).decode


def read_change(account: str, time: int | None, change: Change) -> list[WebhookEvent]:
    """`account` (the WABA) stands in for the number in events that concern the whole account, `time` (the entry's) for
    theirs. Raises NeedsJson."""
    if change.field != "messages":
        return _read_other(account, time, change)
    value = change.value or Value()
    number = value.metadata.phone_number_id if value.metadata else None
    # Without its number an event cannot be told from another account's.
    if number is None:
        lost = [*(value.statuses or ()), *(value.messages or ()), *(value.errors or ())]
        return [_malformed(account) for _ in lost]
    events = [_receipt(number, status) for status in value.statuses or ()]
    if value.messages:
        contacts = _contacts(value.contacts)
        for raw in value.messages:
            events += _message(number, raw, contacts)
    for raw in value.errors or ():
        events += _each(number, partial(_error, number, time, raw))
    return events


def event_name(field: str) -> str:
    """A field's name as it may be stored and counted; Meta adds new ones at any time."""
    return field if field.isascii() and field.isidentifier() and len(field) <= 64 else "unknown"


def _message(number: str, raw: msgspec.Raw, contacts: Sequence[Json]) -> list[WebhookEvent]:
    return _each(number, lambda: whatsapp_messages.read_message(number, json_parts.decode(raw), contacts))


def _error(number: str, time: int | None, raw: msgspec.Raw) -> list[WebhookEvent]:
    # Meta says of most errors not when they were, and the same one told twice must be the same.
    at = moment(time) if time is not None else datetime.fromtimestamp(0, UTC)
    return [whatsapp_accounts.read_notice(number, "errors", at, json_parts.decode(raw), is_account=False)]


def _read_other(account: str, time: int | None, change: Change) -> list[WebhookEvent]:
    if change.raw is ABSENT:
        raise NeedsJson
    try:
        value = json_parts.decode(change.raw)
    except _ODD:
        return [_malformed(account)]
    name = event_name(change.field)
    number = maybe_id(part(value, "metadata").get("phone_number_id"))
    channel = number or account
    if name in _LEFT:
        return [Unhandled(_KIND, channel, name)]
    contacts = parts(value, "contacts")
    # What concerns people names a number, or nobody could be found by it.
    reads: list[Callable[[], WebhookEvent]]
    match name if number is not None else "":
        case "smb_message_echoes":
            reads = [
                partial(whatsapp_messages.read_echo, channel, item, contacts) for item in parts(value, "message_echoes")
            ]
        case "user_preferences":
            reads = [partial(whatsapp_messages.read_preference, channel, item, contacts) for item in parts(value, name)]
        case "user_id_update":
            reads = [partial(whatsapp_messages.read_user_id_update, channel, item) for item in parts(value, name)]
        case _:
            reads = [partial(_notice, channel, name, time, value, is_account=number is None)]
    return [event for read in reads for event in _each(channel, lambda read=read: [read()])]  # type: ignore[misc]


def _notice(channel: str, name: str, time: int | None, value: Json, *, is_account: bool) -> WebhookEvent:
    return whatsapp_accounts.read_notice(
        channel, name, moment(time, value.get("timestamp")), value, is_account=is_account
    )


def _each(channel: str, read: Callable[[], Sequence[WebhookEvent]]) -> list[WebhookEvent]:
    """One that is odd does not cost its neighbours."""
    try:
        return list(read())
    except _ODD:
        return [_malformed(channel)]


def _contacts(raw: msgspec.Raw) -> list[Json]:
    try:
        found = _decode_list(raw)
    except _ODD:
        return []
    return [contact for contact in found if isinstance(contact, dict)]


def _receipt(number: str, status: Status) -> WebhookEvent:
    state = _STATES.get(status.status)
    if state is None:
        return Unhandled(_KIND, number, "statuses")
    try:
        at = datetime.fromtimestamp(int(status.timestamp), UTC)
    except (ValueError, OverflowError, OSError):
        return _malformed(number)
    recipient, user_id = _recipient(status), status.recipient_user_id or None
    # PostgreSQL cannot store NUL, and no id of Meta's is empty.
    ids = f"{status.id}{recipient or ''}{user_id or ''}"
    if not (status.id and ids.isprintable() and len(ids) <= LONGEST_ID):
        return _malformed(number)
    key = parse_key(status.biz_opaque_callback_data)
    if state is not DeliveryState.UNDELIVERED or not status.errors:
        return StatusReceipt(_KIND, number, status.id, state, at, recipient, key, None, None, user_id)
    error = status.errors[0]
    title = error.title or error.message
    if title is not None:
        title = "".join(filter(str.isprintable, title[:_LONGEST_TITLE]))
    return StatusReceipt(_KIND, number, status.id, state, at, recipient, key, error.code, title, user_id)


def _malformed(channel: str) -> Unhandled:
    return Unhandled(_KIND, channel, "malformed")


def _recipient(status: Status) -> str | None:
    """In the form in which Pombo keeps recipients: a phone number with its +, else the business-scoped user id."""
    number = status.recipient_id
    return f"+{number}" if number and number.isdecimal() else number or status.recipient_user_id
