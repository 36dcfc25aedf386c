"""The send key: what we put on the wire so that an echo or a status can name the very attempt it belongs to.

Messenger carries it in `message.metadata` (returned in `message_echoes`), WhatsApp in `biz_opaque_callback_data`
(returned in `statuses`). Shape: `pombo1.<message id>.<attempt>.<day of the intent, YYYYMMDD>`. The day tells in which
partition of the delivery log to look. Anything that does not match exactly is somebody else's and is left alone.
"""

import re
from datetime import date
from typing import NamedTuple

from pombo.domain.ids import MessageId

PREFIX = "pombo1"
_SHAPE = re.compile(r"pombo1\.([1-9][0-9]{0,18})\.([1-9][0-9]{0,3})\.([0-9]{4})([0-9]{2})([0-9]{2})", re.ASCII)
_MAX_BIGINT = 2**63 - 1


class SendKey(NamedTuple):
    message_id: MessageId
    attempt: int
    day: date


def format_day(day: date) -> str:
    """The part of the key that is the same for all messages of one day."""
    return f"{day:%Y%m%d}"


def format_key(message_id: int, attempt: int, day: str) -> str:
    """Takes the day already formatted: this runs once a message."""
    return f"{PREFIX}.{message_id}.{attempt}.{day}"


def parse_key(text: str | None) -> SendKey | None:
    """None for whatever is not ours: no text, another prefix, numbers out of range, a day that does not exist."""
    match = _SHAPE.fullmatch(text) if text else None
    if match is None:
        return None
    message_id, attempt, year, month, day = map(int, match.groups())
    if message_id > _MAX_BIGINT:
        return None
    try:
        return SendKey(MessageId(message_id), attempt, date(year, month, day))
    except ValueError:
        return None
