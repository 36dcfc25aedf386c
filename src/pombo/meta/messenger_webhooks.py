"""Events of a Page: echoes, deliveries and reads; what else comes is named and left to later."""

from datetime import UTC, datetime

from pombo.domain.channels import ChannelKind
from pombo.domain.events import Echo, StatusReceipt, Unhandled, Watermark, WebhookEvent
from pombo.domain.outcomes import DeliveryState
from pombo.domain.sendkey import parse_key
from pombo.meta.webhook_shapes import MessageDelivery, Messaging, PageMessage, Party

_KIND = ChannelKind.MESSENGER

# Member of the event: name of the subscribed field.
_NAMES = {
    "message_edit": "message_edits",
    "reaction": "message_reactions",
    "postback": "messaging_postbacks",
    "referral": "messaging_referrals",
    "optin": "messaging_optins",
    "pass_thread_control": "messaging_handovers",
    "take_thread_control": "messaging_handovers",
    "request_thread_control": "messaging_handovers",
    "app_roles": "messaging_handovers",
    "policy_enforcement": "messaging_policy_enforcement",
    "response_feedback": "response_feedback",
    "messaging_feedback": "messaging_feedback",
    "account_linking": "messaging_account_linking",
    "order": "send_cart",
}
_NOTHING = (b"", b"null")


def read_messaging(page: str, entry_time: int | None, messaging: Messaging) -> list[WebhookEvent]:
    """`entry_time` (milliseconds) stands in for the event's own time, which Meta leaves out of some deliveries."""
    time = messaging.timestamp if messaging.timestamp is not None else entry_time
    try:
        if messaging.message is not None and messaging.message.is_echo:
            return [_echo(page, time, messaging, messaging.message)]
        if messaging.delivery is not None:
            return _deliveries(page, time, messaging, messaging.delivery)
        if messaging.read is not None:
            return [_watermark(page, time, messaging, DeliveryState.READ, messaging.read.watermark)]
    except (ValueError, OverflowError, OSError):
        # Something is missing, or a time lies outside the calendar.
        return [Unhandled(_KIND, page, "malformed")]
    return [Unhandled(_KIND, page, _name(messaging))]


def _echo(page: str, time: int | None, messaging: Messaging, message: PageMessage) -> Echo:
    recipient = _id(_party(messaging.recipient))
    return Echo(_KIND, page, _id(message.mid), recipient, _moment(time), parse_key(message.metadata))


def _deliveries(page: str, time: int | None, messaging: Messaging, delivery: MessageDelivery) -> list[WebhookEvent]:
    """By message ids where Meta gives them, else all up to the watermark."""
    if not delivery.mids:
        return [_watermark(page, time, messaging, DeliveryState.DELIVERED, delivery.watermark)]
    at = _moment(time if time is not None else delivery.watermark)
    recipient = _party(messaging.sender)
    return [
        StatusReceipt(_KIND, page, _id(mid), DeliveryState.DELIVERED, at, recipient and _id(recipient))
        for mid in delivery.mids
    ]


def _watermark(
    page: str, time: int | None, messaging: Messaging, state: DeliveryState, watermark: int | None
) -> Watermark:
    recipient = _id(_party(messaging.sender))
    return Watermark(
        _KIND, page, recipient, state, until=_moment(watermark), at=_moment(time if time is not None else watermark)
    )


def _moment(milliseconds: int | None) -> datetime:
    if milliseconds is None:
        raise ValueError("no time")
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _party(party: Party | None) -> str | None:
    return None if party is None else party.id


def _id(text: str | None) -> str:
    """An id that can be stored; PostgreSQL has no place for NUL."""
    if not text or not text.isprintable():
        raise ValueError("no id")
    return text


def _name(messaging: Messaging) -> str:
    if messaging.message is not None:
        return "messages"
    present = (name for member, name in _NAMES.items() if bytes(getattr(messaging, member)) not in _NOTHING)
    return next(present, "unknown")
