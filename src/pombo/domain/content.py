"""What a campaign says: text, a WhatsApp template, or a raw payload. Strings may hold Liquid variables.

Stored as JSON with a `type` tag, so a campaign's content is one column and one place to look.
"""

from typing import Any

import msgspec


class Text(msgspec.Struct, frozen=True, tag="text", forbid_unknown_fields=True):
    text: str
    preview_url: bool = False


class Template(msgspec.Struct, frozen=True, tag="template", forbid_unknown_fields=True):
    """A WhatsApp template as the Cloud API takes it: `components` is passed on, its strings rendered."""

    name: str
    language: str
    components: list[dict[str, Any]] = []


class Raw(msgspec.Struct, frozen=True, tag="raw", forbid_unknown_fields=True):
    """Sent as it is, but for rendered strings: Messenger's `message` object, or WhatsApp's body with its `type`.

    The recipient and the send key are ours to set, so a payload that brings its own is refused.
    """

    payload: dict[str, Any]


Content = Text | Template | Raw
