"""What Meta's webhooks say, as plain values. `pombo.meta.webhooks` makes them, `pombo.ingest` applies them.

Times are aware datetimes in UTC. `channel` is Meta's id of the Page or the phone number. Ids and numbers come from
outside and may be anything; the parser lets only what fits these types through. They are structs and not frozen
dataclasses because one is made for each status: 0.1 µs instead of 2.
"""

from datetime import datetime
from typing import Any, Literal

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
    user_id: str | None = None
    """WhatsApp's business-scoped one, which comes besides the number."""


class Watermark(msgspec.Struct, frozen=True, gc=False):
    """Messenger: all that was sent to `recipient` up to `until` is now in `state` (DELIVERED or READ)."""

    kind: ChannelKind
    channel: str
    recipient: str
    state: DeliveryState
    until: datetime
    at: datetime


class Echo(msgspec.Struct, frozen=True, gc=False):
    """Messenger's copy of what we sent: evidence that the attempt named by `key` was accepted.

    Of what others sent through the same Page a ThreadMessage tells.
    """

    kind: ChannelKind
    channel: str
    provider_id: str
    recipient: str
    at: datetime
    key: SendKey


class Person(msgspec.Struct, frozen=True):
    """Whom a conversation is with. All ids are in the form of `pombo.domain.phones`, and all are one person's."""

    address: str
    """What to write to: a phone number before a business-scoped user id; a page-scoped id; a group's id."""
    others: tuple[str, ...] = ()
    name: str | None = None
    username: str | None = None


Author = Literal["contact", "app", "system"]
"""Who wrote it: the person, another program (or a person in Meta's own inbox) on our side, or Meta itself."""


class ThreadMessage(msgspec.Struct, frozen=True):
    """Something that a conversation shows. `provider_id` is Meta's, or made of what it says where Meta gives none.

    `type` is Meta's word for what it is (text, image, postback, order …), `unsupported` for what nobody knows.
    """

    kind: ChannelKind
    channel: str
    provider_id: str
    person: Person
    at: datetime
    author: Author
    type: str
    text: str | None = None
    content: dict[str, Any] = {}
    reply_to: str | None = None
    opens_window: bool = False
    """Whether it opens Meta's 24-hour window."""


class MessageChange(msgspec.Struct, frozen=True):
    """An edit, a revocation or a reaction, of the message that Meta calls `provider_id`; of several the latest holds.

    `text` is the new text, or the emoji; a reaction without one is taken back.
    """

    kind: ChannelKind
    channel: str
    provider_id: str
    person: Person
    at: datetime
    change: Literal["edit", "revoke", "reaction"]
    by: Literal["contact", "business"]
    number: int = 0
    """Orders edits of the same moment."""
    text: str | None = None
    content: dict[str, Any] = {}


class SamePerson(msgspec.Struct, frozen=True):
    """Meta says that `person` was called `former` until `at`."""

    kind: ChannelKind
    channel: str
    person: Person
    former: tuple[str, ...]
    at: datetime


class Preference(msgspec.Struct, frozen=True):
    """The person has told Meta whether marketing messages are welcome."""

    kind: ChannelKind
    channel: str
    person: Person
    at: datetime
    is_welcome: bool


class PersonSignal(msgspec.Struct, frozen=True):
    """Something a person did that no conversation shows; for what listens (flows)."""

    kind: ChannelKind
    channel: str
    person: Person
    at: datetime
    name: str
    data: dict[str, Any] = {}
    opens_window: bool = False


class ChannelNotice(msgspec.Struct, frozen=True):
    """What Meta tells of a channel, or of all channels of the account that `channel` then names."""

    kind: ChannelKind
    channel: str
    name: str
    at: datetime
    data: dict[str, Any] = {}
    is_account: bool = False
    subject: str = ""
    """What of the channel it is about: a template's `name language`."""
    stops: Literal["", "channel", "template"] = ""
    """What must send no more, for the `reason`."""
    reason: str = ""


class Unhandled(msgspec.Struct, frozen=True, gc=False):
    """Understood as an event, but nothing acts on it yet; it stays in the webhook log under this name."""

    kind: ChannelKind
    channel: str
    name: str


WebhookEvent = (
    StatusReceipt
    | Watermark
    | Echo
    | ThreadMessage
    | MessageChange
    | SamePerson
    | Preference
    | PersonSignal
    | ChannelNotice
    | Unhandled
)
