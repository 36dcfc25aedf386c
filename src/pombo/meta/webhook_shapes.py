"""The shapes of Meta's webhooks, as far as Pombo reads them. What is not named here is skipped without being decoded.

Fields that Meta leaves out in some cases are optional, and so is null in their place. `gc=False`: none can be part of a
cycle, and the collector need not look through thousands of them a second.
"""

from typing import Annotated

import msgspec

# What a database column of that type holds; a number beyond is no code of Meta's.
Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]

# The id of a Page, an account or a number; without control characters, of which PostgreSQL cannot store NUL.
Id = Annotated[str, msgspec.Meta(pattern=r"^[^\x00-\x1f]+$")]

ABSENT = msgspec.Raw()
NULL = msgspec.Raw(b"null")


class NeedsJson(Exception):
    """Something is to be read from `raw`, which is not filled in."""


# ---- Messenger ----


class Party(msgspec.Struct, gc=False):
    """Without an `id` for opt-ins through a plugin, which have a `user_ref`."""

    id: str | None = None


class PageMessage(msgspec.Struct, gc=False):
    mid: str | None = None
    is_echo: bool | None = None
    metadata: str | None = None


class MessageDelivery(msgspec.Struct, gc=False):
    """Milliseconds: all that was sent before has been delivered. `mids` may be missing."""

    watermark: int | None = None
    mids: list[str] | None = None


class MessageRead(msgspec.Struct, gc=False):
    watermark: int


class Messaging(msgspec.Struct, gc=False):
    sender: Party | None = None
    recipient: Party | None = None
    timestamp: int | None = None
    message: PageMessage | None = None
    delivery: MessageDelivery | None = None
    read: MessageRead | None = None
    # Under a name that no member of Meta's has.
    raw: msgspec.Raw = msgspec.field(default=ABSENT, name=" raw")
    """The whole event, for what is not named above; filled in where it is needed."""


# ---- WhatsApp ----


class StatusError(msgspec.Struct, gc=False):
    code: Int32 | None = None
    title: str | None = None
    message: str | None = None


class Status(msgspec.Struct, gc=False):
    """`timestamp` is text, in seconds. `recipient_id` is missing where Meta gives only a business-scoped user id."""

    id: str
    status: str
    timestamp: str | int
    recipient_id: str | None = None
    recipient_user_id: str | None = None
    biz_opaque_callback_data: str | None = None
    errors: list[StatusError] | None = None


class Metadata(msgspec.Struct, gc=False):
    phone_number_id: Id | None = None


class Value(msgspec.Struct, gc=False):
    metadata: Metadata | None = None
    statuses: list[Status] | None = None
    messages: list[msgspec.Raw] | None = None
    contacts: msgspec.Raw = ABSENT
    errors: list[msgspec.Raw] | None = None


class Change(msgspec.Struct, gc=False):
    """`value` is only read of the field `messages`; of others, and of Pages, `raw` is filled in with it."""

    field: str
    value: Value | None = None
    raw: msgspec.Raw = msgspec.field(default=ABSENT, name=" raw")


# ---- both ----


class Entry(msgspec.Struct, gc=False):
    """`id` is the Page's or the WhatsApp business account's. `time` is in milliseconds for Pages."""

    id: Id
    time: int | None = None
    messaging: list[Messaging] | None = None
    standby: list[Messaging] | None = None
    changes: list[Change] | None = None


class Envelope(msgspec.Struct, gc=False):
    object: str
    entry: list[Entry] | None = None


# ---- the same again, where more is needed than is named above ----


class RawChange(msgspec.Struct, gc=False):
    value: msgspec.Raw = NULL


class RawEntry(msgspec.Struct, gc=False):
    messaging: list[msgspec.Raw] | None = None
    standby: list[msgspec.Raw] | None = None
    changes: list[RawChange] | None = None


class RawEnvelope(msgspec.Struct, gc=False):
    entry: list[RawEntry] | None = None
