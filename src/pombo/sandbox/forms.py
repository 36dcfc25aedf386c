"""Form-encoded requests: Graph takes every parameter as a form field too, objects as JSON inside it."""

from typing import Any
from urllib.parse import parse_qsl

import msgspec


def is_form(content_type: bytes, body: bytes) -> bool:
    """By the declared type; a body that is plainly a JSON object is JSON whatever it is called, as with Graph."""
    if body[:1] in (b"{", b""):
        return False
    return b"json" not in content_type


def parse_form(body: bytes) -> dict[str, str]:
    """Raises UnicodeDecodeError for bytes that are not UTF-8."""
    return dict(parse_qsl(body.decode(), keep_blank_values=True))


def unfold(form: dict[str, str]) -> dict[str, Any]:
    """The form with its JSON objects and arrays decoded. Raises msgspec.DecodeError."""
    return {name: msgspec.json.decode(value) if value[:1] in ("{", "[") else value for name, value in form.items()}
