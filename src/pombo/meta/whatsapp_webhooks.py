"""Events of a WhatsApp number: statuses of what was sent; what else comes is named and left to later."""

from datetime import UTC, datetime

from pombo.domain.channels import ChannelKind
from pombo.domain.events import StatusReceipt, Unhandled, WebhookEvent
from pombo.domain.outcomes import DeliveryState
from pombo.domain.sendkey import parse_key
from pombo.meta.webhook_shapes import Change, Status, Value

_KIND = ChannelKind.WHATSAPP

_STATES = {
    "sent": DeliveryState.ACCEPTED,
    "delivered": DeliveryState.DELIVERED,
    "read": DeliveryState.READ,
    # A voice message that was listened to.
    "played": DeliveryState.READ,
    "failed": DeliveryState.UNDELIVERED,
}


def read_change(account: str, change: Change) -> list[WebhookEvent]:
    """`account` (the WABA) stands in for the number in events that concern the whole account."""
    value = change.value or Value()
    number = value.metadata and value.metadata.phone_number_id
    channel = number or account
    if change.field != "messages":
        return [Unhandled(_KIND, channel, event_name(change.field))]
    # Without its number a status cannot be told from another account's.
    events = [_receipt(number, status) if number else _malformed(channel) for status in value.statuses or ()]
    events.extend([Unhandled(_KIND, channel, "messages")] * len(value.messages or ()))
    events.extend([Unhandled(_KIND, channel, "errors")] * len(value.errors or ()))
    return events


def event_name(field: str) -> str:
    """A field's name as it may be stored and counted; Meta adds new ones at any time."""
    return field if field.isascii() and field.isidentifier() and len(field) <= 64 else "unknown"


def _receipt(number: str, status: Status) -> WebhookEvent:
    state = _STATES.get(status.status)
    if state is None:
        return Unhandled(_KIND, number, "statuses")
    try:
        at = datetime.fromtimestamp(int(status.timestamp), UTC)
    except (ValueError, OverflowError, OSError):
        return _malformed(number)
    recipient = _recipient(status)
    # PostgreSQL cannot store NUL, and no id of Meta's is empty.
    if not (status.id and status.id.isprintable() and (recipient is None or recipient.isprintable())):
        return _malformed(number)
    key = parse_key(status.biz_opaque_callback_data)
    if state is not DeliveryState.UNDELIVERED or not status.errors:
        return StatusReceipt(_KIND, number, status.id, state, at, recipient, key)
    error = status.errors[0]
    title = error.title or error.message
    if title is not None:
        title = "".join(filter(str.isprintable, title))
    return StatusReceipt(_KIND, number, status.id, state, at, recipient, key, error.code, title)


def _malformed(channel: str) -> Unhandled:
    return Unhandled(_KIND, channel, "malformed")


def _recipient(status: Status) -> str | None:
    """In the form in which Pombo keeps recipients: a phone number with its +, else the business-scoped user id."""
    number = status.recipient_id
    return f"+{number}" if number and number.isdecimal() else number or status.recipient_user_id
