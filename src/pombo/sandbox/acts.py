"""What a person can do, as a script names it; the same on both channels as far as both have it."""

from typing import Annotated, Any, Literal

import msgspec

ActType = Literal[
    "text",
    "image",
    "video",
    "audio",
    "file",
    "sticker",
    "location",
    "contacts",
    "order",
    "tap",
    "reaction",
    "edit",
    "unsend",
    "referral",
    "opt_in",
    "opt_out",
    "read",
    "new_number",
    "unsupported",
    "other_app",
    "raw",
]


class MediaSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A made-up file of `size` bytes, unless its content is given. Without a type it is the usual one of its kind."""

    mime_type: str | None = None
    filename: str | None = None
    size: Annotated[int, msgspec.Meta(ge=0, le=100 * 1024 * 1024)] = 0
    content_base64: str | None = None
    voice: bool = False


class Act(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One thing that a person does, `after_ms` after the one before.

    `tap`: a quick reply, button or row, with its title and payload; without them, the first of the last message that
    has any. `message_id` is the message that it is about (reaction, edit, unsend, tap), by default the last that fits;
    `reply_to` the one that is quoted ("last": ours). `other_app`: what somebody sends in the channel's own inbox.
    `raw`: `data` is the event, or the change's value, and `field` names the webhook field.
    """

    type: ActType
    after_ms: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    text: str | None = None
    title: str | None = None
    payload: str | None = None
    tap: str | None = None
    message_id: str | None = None
    reply_to: str | None = None
    emoji: str | None = None
    """None takes a reaction back."""
    media: MediaSpec = MediaSpec()
    data: dict[str, Any] | None = None
    """What the event's own object holds beside or instead of what stands above: a location, contacts, a referral."""
    field: str = "messages"
