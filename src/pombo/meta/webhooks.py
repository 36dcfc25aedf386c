"""What Meta's webhooks say, as domain events.

A POST holds up to 1,000 updates of several Pages or numbers. It is decoded in one go as long as all of it has the
expected shape (2 to 4 µs a status); if something has not, `webhook_salvage` keeps the rest.
"""

from typing import NamedTuple

import msgspec

from pombo.domain.channels import ChannelKind
from pombo.domain.events import Unhandled, WebhookEvent
from pombo.meta.messenger_webhooks import read_messaging
from pombo.meta.webhook_salvage import MISMATCH, salvage
from pombo.meta.webhook_shapes import Entry, Envelope
from pombo.meta.whatsapp_webhooks import event_name, read_change

_KINDS = {"page": ChannelKind.MESSENGER, "whatsapp_business_account": ChannelKind.WHATSAPP}

_decode = msgspec.json.Decoder(Envelope).decode


class WebhookFormatError(Exception):
    """The body is not a JSON object, so it is not Meta's."""


class ParsedWebhook(NamedTuple):
    """`object` is Meta's name of what the events concern; only `page` and `whatsapp_business_account` have events."""

    object: str
    events: list[WebhookEvent]


def parse_webhook(body: bytes) -> ParsedWebhook:
    """Raises WebhookFormatError, and nothing else whatever the body holds."""
    malformed: list[str] = []
    try:
        try:
            envelope = _decode(body)
        except MISMATCH:
            envelope, malformed = salvage(body)
    except (ValueError, RecursionError) as error:
        raise WebhookFormatError(f"The body is not a JSON object that can be read: {error}.") from error
    events = events_of(envelope)
    if kind := _KINDS.get(envelope.object):
        events.extend([Unhandled(kind, channel, "malformed") for channel in malformed])
    return ParsedWebhook(envelope.object, events)


def events_of(envelope: Envelope) -> list[WebhookEvent]:
    events: list[WebhookEvent] = []
    match _KINDS.get(envelope.object):
        case ChannelKind.MESSENGER:
            for entry in envelope.entry or ():
                _read_page(entry, events)
        case ChannelKind.WHATSAPP:
            for entry in envelope.entry or ():
                for change in entry.changes or ():
                    events.extend(read_change(entry.id, change))
    return events


def _read_page(entry: Entry, events: list[WebhookEvent]) -> None:
    for messaging in entry.messaging or ():
        events.extend(read_messaging(entry.id, entry.time, messaging))
    # What another app answers to that leads the conversation; receipts and echoes are ours all the same.
    for messaging in entry.standby or ():
        events.extend(read_messaging(entry.id, entry.time, messaging))
    names = [event_name(change.field) for change in entry.changes or ()]
    events.extend([Unhandled(ChannelKind.MESSENGER, entry.id, name) for name in names])
