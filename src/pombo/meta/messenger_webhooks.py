"""Events of a Page. Receipts and our own echoes, of which thousands come, are read from typed members; the rest, once
it is known to be there, from the event's JSON (`messenger_messages`)."""

from collections.abc import Container
from datetime import UTC, datetime

from pombo.domain.channels import ChannelKind
from pombo.domain.events import (
    ChannelNotice,
    Echo,
    Person,
    PersonSignal,
    StatusReceipt,
    Unhandled,
    Watermark,
    WebhookEvent,
)
from pombo.domain.outcomes import DeliveryState
from pombo.domain.sendkey import SendKey, parse_key
from pombo.meta import json_parts, messenger_messages
from pombo.meta.json_parts import Json, an_id, chosen, moment, part, storable
from pombo.meta.template_notices import template_notice
from pombo.meta.webhook_shapes import ABSENT, MessageDelivery, Messaging, NeedsJson, PageMessage, Party
from pombo.meta.whatsapp_webhooks import event_name

_KIND = ChannelKind.MESSENGER

MESSAGING_FIELDS = frozenset(
    [
        "messages",
        "message_echoes",
        "message_edits",
        "message_deliveries",
        "message_reads",
        "message_reactions",
        "messaging_postbacks",
        "messaging_referrals",
        "messaging_optins",
        "messaging_handovers",
        "messaging_policy_enforcement",
        "response_feedback",
        "messaging_feedback",
        "messaging_account_linking",
        "send_cart",
        "standby",
    ]
)
"""Some of Meta's pages show events of these fields in `changes`, as its dashboard sends them for a test."""

# What reading an event's JSON may raise.
_ODD = (ValueError, OverflowError, OSError, RecursionError, UnicodeError)


def read_messaging(
    page: str, entry_time: int | None, messaging: Messaging, in_full: Container[str] = (), *, standby: bool = False
) -> list[WebhookEvent]:
    """`entry_time` (milliseconds) stands in for the event's own time, which Meta leaves out of some deliveries.

    Echoes with a send key are read for the key alone, unless their message is one of `in_full`.
    Raises NeedsJson.
    """
    time = messaging.timestamp if messaging.timestamp is not None else entry_time
    try:
        message = messaging.message
        if message is not None and message.is_echo and message.mid not in in_full:
            key = parse_key(message.metadata)
            if key is not None:
                return [_echo(page, time, messaging, message, key)]
        if messaging.delivery is not None:
            return _deliveries(page, time, messaging, messaging.delivery)
        if messaging.read is not None:
            return [_watermark(page, time, messaging, DeliveryState.READ, messaging.read.watermark)]
        if messaging.raw is ABSENT:
            raise NeedsJson
        event = json_parts.decode(messaging.raw)
        return messenger_messages.read_event(page, entry_time, event, standby=standby)
    except _ODD:
        # Something is missing, or a time lies outside the calendar.
        return [Unhandled(_KIND, page, "malformed")]


def read_change(page: str, entry_time: int | None, field: str, value: Json) -> WebhookEvent:
    try:
        if field == "inbox_labels":
            person = Person(an_id(part(value, "user").get("id")))
            data = chosen(value, "action", "label")
            return PersonSignal(_KIND, page, person, moment(entry_time), "inbox_label", data)
        if field == "messenger_template_status_update":
            return template_notice(_KIND, page, field, moment(entry_time), value, is_account=False)
        if field.startswith("messenger_"):
            return ChannelNotice(_KIND, page, event_name(field), moment(entry_time), storable(value))
    except _ODD:
        return Unhandled(_KIND, page, "malformed")
    return Unhandled(_KIND, page, event_name(field))


def _echo(page: str, time: int | None, messaging: Messaging, message: PageMessage, key: SendKey) -> Echo:
    recipient = an_id(_party(messaging.recipient))
    return Echo(_KIND, page, an_id(message.mid), recipient, _moment(time), key)


def _deliveries(page: str, time: int | None, messaging: Messaging, delivery: MessageDelivery) -> list[WebhookEvent]:
    """By message ids where Meta gives them, else all up to the watermark."""
    if not delivery.mids:
        return [_watermark(page, time, messaging, DeliveryState.DELIVERED, delivery.watermark)]
    at = _moment(time if time is not None else delivery.watermark)
    recipient = _party(messaging.sender)
    return [
        StatusReceipt(_KIND, page, an_id(mid), DeliveryState.DELIVERED, at, recipient and an_id(recipient))
        for mid in delivery.mids
    ]


def _watermark(
    page: str, time: int | None, messaging: Messaging, state: DeliveryState, watermark: int | None
) -> Watermark:
    recipient = an_id(_party(messaging.sender))
    return Watermark(
        _KIND, page, recipient, state, until=_moment(watermark), at=_moment(time if time is not None else watermark)
    )


def _moment(milliseconds: int | None) -> datetime:
    if milliseconds is None:
        raise ValueError("no time")
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _party(party: Party | None) -> str | None:
    return None if party is None else party.id
