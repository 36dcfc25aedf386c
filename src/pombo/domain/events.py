"""What Meta's webhooks say, as plain values. `pombo.meta.webhooks` makes them, `pombo.ingest` applies them.

Times are aware datetimes in UTC. `channel` is Meta's id of the Page or the phone number. Ids and numbers come from
outside and may be anything; the parser lets only what fits these types through. They are structs and not frozen
dataclasses because one is made for each status: 0.1 µs instead of 2.
"""

from datetime import datetime

import msgspec

from pombo.domain.channels import ChannelKind
from pombo.domain.outcomes import DeliveryState
from pombo.domain.sendkey import SendKey


class StatusReceipt(msgspec.Struct, frozen=True, gc=False):
    """One message's new state, by provider id (WhatsApp `statuses`, Messenger `delivery.mids`).

    `state` is ACCEPTED (Meta's "sent"), DELIVERED, READ or UNDELIVERED (Meta's "failed").
    """

    kind: ChannelKind
    channel: str
    provider_id: str
    state: DeliveryState
    at: datetime
    recipient: str | None = None
    key: SendKey | None = None
    error_code: int | None = None
    error_title: str | None = None


class Watermark(msgspec.Struct, frozen=True, gc=False):
    """Messenger: all that was sent to `recipient` up to `until` is now in `state` (DELIVERED or READ)."""

    kind: ChannelKind
    channel: str
    recipient: str
    state: DeliveryState
    until: datetime
    at: datetime


class Echo(msgspec.Struct, frozen=True, gc=False):
    """Messenger's copy of what the Page sent: evidence that the attempt named by `key` was accepted."""

    kind: ChannelKind
    channel: str
    provider_id: str
    recipient: str
    at: datetime
    key: SendKey | None


class Unhandled(msgspec.Struct, frozen=True, gc=False):
    """Understood as an event, but nothing acts on it yet; it stays in the webhook log under this name."""

    kind: ChannelKind
    channel: str
    name: str


WebhookEvent = StatusReceipt | Watermark | Echo | Unhandled
