"""What every reader of recipients shares: its outputs, its limits, and what may be stored."""

import re
from typing import Any, Protocol

import msgspec

from pombo.store.audience import RejectedLine, StagedLine

# Longer than any phone number, page-scoped id or business-scoped user id (131 characters).
MAX_RECIPIENT = 200
# As text. A message's longest text has 16 KiB; whoever needs more variables than four of them has made a mistake.
MAX_VARIABLES = 64 * 1024
# Levels of lists and objects within a recipient's variables, or a field of the request.
MAX_DEPTH = 32

_encode = msgspec.json.Encoder().encode
_NOT_STORABLE = re.compile("[\x00\ud800-\udfff]")


class AudienceReader(Protocol):
    """Takes the bytes of a request as they come, and makes lines of them."""

    fields: dict[str, Any]
    """What the request says besides its recipients, as far as it has been read."""
    lines: list[StagedLine]
    """Recipients not yet taken by the caller, who empties this list. Not normalised; channel 0 where none was named."""
    rejects: list[RejectedLine]
    """Also for the caller to empty."""
    has_recipients: bool
    """Whether there was a list of recipients at all."""

    def feed(self, data: bytes) -> None:
        """Raises BodyInvalid."""

    def finish(self) -> None:
        """All has come. Raises BodyInvalid when that cannot be."""


def storable(text: str) -> bool:
    """PostgreSQL holds neither NUL nor half a surrogate pair."""
    return _NOT_STORABLE.search(text) is None


def cleaned(text: str) -> str:
    """For showing a text that cannot be used."""
    return _NOT_STORABLE.sub("\ufffd", text[:MAX_RECIPIENT])


def make_line(line: int, recipient: str, channel_id: int, variables: dict[str, Any]) -> StagedLine | RejectedLine:
    """A line as it will be stored, unless its strings cannot be."""
    if len(recipient) > MAX_RECIPIENT:
        reason = f"A recipient has at most {MAX_RECIPIENT} characters; this one has {len(recipient)}."
        return RejectedLine(line, cleaned(recipient), "recipient_too_long", reason)
    if not storable(recipient):
        return RejectedLine(
            line, cleaned(recipient), "text_invalid", "The recipient holds characters that are no text."
        )
    if not variables:
        return StagedLine(line, channel_id, recipient, None)
    try:
        encoded = _encode(variables)
    except UnicodeEncodeError:
        return RejectedLine(line, recipient, "text_invalid", "A variable holds half of a surrogate pair.")
    if len(encoded) > MAX_VARIABLES:
        reason = f"The variables have {len(encoded)} bytes; at most {MAX_VARIABLES} are allowed."
        return RejectedLine(line, recipient, "variables_too_large", reason)
    # A backslash followed by u0000 in the text itself also looks like this, so it is only a reason to look closely.
    if b"\\u0000" in encoded and holds_unstorable(variables):
        return RejectedLine(line, recipient, "text_invalid", "A variable holds a NUL character (\\u0000); remove it.")
    return StagedLine(line, channel_id, recipient, encoded.decode())


def holds_unstorable(value: object) -> bool:
    """Whether a string or a key anywhere within `value` cannot be stored."""
    match value:
        case str():
            return not storable(value)
        case dict():
            return any(holds_unstorable(key) or holds_unstorable(member) for key, member in value.items())
        case list():
            return any(map(holds_unstorable, value))
        case _:
            return False
