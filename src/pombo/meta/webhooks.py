"""What Meta's webhooks say, as domain events.

A POST holds up to 1,000 updates of several Pages or numbers. It is decoded in one go as long as all of it has the
expected shape (2 to 4 µs a status); if something has not, `webhook_salvage` keeps the rest. What is more than receipts
is then read from its JSON, for which the body is decoded once more, into pieces.
"""

from collections.abc import Container
from typing import NamedTuple

import msgspec

from pombo.domain.channels import ChannelKind
from pombo.domain.events import Unhandled, WebhookEvent
from pombo.meta import json_parts, messenger_webhooks
from pombo.meta.messenger_webhooks import MESSAGING_FIELDS, read_messaging
from pombo.meta.webhook_salvage import MISMATCH, salvage
from pombo.meta.webhook_shapes import ABSENT, Change, Entry, Envelope, Messaging, NeedsJson, RawEnvelope
from pombo.meta.whatsapp_webhooks import event_name, read_change

_KINDS = {"page": ChannelKind.MESSENGER, "whatsapp_business_account": ChannelKind.WHATSAPP}

_decode = msgspec.json.Decoder(Envelope).decode
_decode_raw = msgspec.json.Decoder(RawEnvelope).decode
_decode_messaging = msgspec.json.Decoder(Messaging).decode


class WebhookFormatError(Exception):
    """The body is not a JSON object, so it is not Meta's."""


class ParsedWebhook(NamedTuple):
    """`object` is Meta's name of what the events concern; only `page` and `whatsapp_business_account` have events."""

    object: str
    events: list[WebhookEvent]


def parse_webhook(body: bytes, in_full: Container[str] = ()) -> ParsedWebhook:
    """Raises WebhookFormatError, and nothing else whatever the body holds.

    `in_full`: Meta's ids of messages whose echoes are read as what they say, though they carry a send key.
    """
    try:
        try:
            envelope = _decode(body)
        except MISMATCH:
            envelope, malformed = salvage(body)
            events = events_of(envelope, in_full)
            if kind := _KINDS.get(envelope.object):
                events.extend([Unhandled(kind, channel, "malformed") for channel in malformed])
        else:
            events = _events_of_whole(envelope, body, in_full)
    except (ValueError, RecursionError) as error:
        raise WebhookFormatError(f"The body is not a JSON object that can be read: {error}.") from error
    return ParsedWebhook(envelope.object, events)


def _events_of_whole(envelope: Envelope, body: bytes, in_full: Container[str]) -> list[WebhookEvent]:
    try:
        return events_of(envelope, in_full)
    except NeedsJson:
        # The same body has the same shape.
        for entry, raw in zip(envelope.entry or (), _decode_raw(body).entry or (), strict=True):
            for messaging, event in zip(entry.messaging or (), raw.messaging or (), strict=True):
                messaging.raw = event
            for messaging, event in zip(entry.standby or (), raw.standby or (), strict=True):
                messaging.raw = event
            for change, value in zip(entry.changes or (), raw.changes or (), strict=True):
                change.raw = value.value
        return events_of(envelope, in_full)


def events_of(envelope: Envelope, in_full: Container[str] = ()) -> list[WebhookEvent]:
    """Raises NeedsJson."""
    events: list[WebhookEvent] = []
    match _KINDS.get(envelope.object):
        case ChannelKind.MESSENGER:
            for entry in envelope.entry or ():
                _read_page(entry, events, in_full)
        case ChannelKind.WHATSAPP:
            for entry in envelope.entry or ():
                for change in entry.changes or ():
                    events.extend(read_change(entry.id, entry.time, change))
    return events


def _read_page(entry: Entry, events: list[WebhookEvent], in_full: Container[str]) -> None:
    for messaging in entry.messaging or ():
        events.extend(read_messaging(entry.id, entry.time, messaging, in_full))
    # What another app answers to that leads the conversation; receipts and echoes are ours all the same.
    for messaging in entry.standby or ():
        events.extend(read_messaging(entry.id, entry.time, messaging, in_full, standby=True))
    for change in entry.changes or ():
        events.extend(_read_page_change(entry, change, in_full))


def _read_page_change(entry: Entry, change: Change, in_full: Container[str]) -> list[WebhookEvent]:
    if change.raw is ABSENT:
        raise NeedsJson
    try:
        value = json_parts.decode(change.raw)
        if change.field in MESSAGING_FIELDS:
            messaging = _decode_messaging(change.raw)
            messaging.raw = change.raw
            return read_messaging(entry.id, entry.time, messaging, in_full)
    except (*MISMATCH, RecursionError):
        name = "malformed" if change.field in MESSAGING_FIELDS else event_name(change.field)
        return [Unhandled(ChannelKind.MESSENGER, entry.id, name)]
    return [messenger_webhooks.read_change(entry.id, entry.time, change.field, value)]
