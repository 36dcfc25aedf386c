"""Until when an agent may answer, and with what (Meta's rules of 2026).

Both platforms open 24 hours with the person's last message. After them Messenger allows what a person writes by hand
(the tag HUMAN_AGENT, which Meta must have granted to the app) until the seventh day, and WhatsApp approved templates.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from pombo.domain.channels import ChannelKind

STANDARD = timedelta(hours=24)
HUMAN_AGENT = timedelta(days=7)


class Allowed(StrEnum):
    MESSAGE = "message"
    """Anything."""
    HUMAN_AGENT = "human_agent"
    """A message written by a person, sent with `humanAgent`."""
    TEMPLATE = "template"
    """A WhatsApp template."""


@dataclass(frozen=True, slots=True)
class ReplyWindow:
    open: bool
    closes_at: datetime | None
    """None when the person never wrote."""
    allowed: tuple[Allowed, ...]


def reply_window(kind: ChannelKind, last_inbound_at: datetime | None, now: datetime) -> ReplyWindow:
    closes_at = None if last_inbound_at is None else last_inbound_at + STANDARD
    is_open = closes_at is not None and now < closes_at
    allowed: list[Allowed] = [Allowed.MESSAGE] if is_open else []
    if kind is ChannelKind.WHATSAPP:
        allowed.append(Allowed.TEMPLATE)
    elif not is_open and last_inbound_at is not None and now < last_inbound_at + HUMAN_AGENT:
        allowed.append(Allowed.HUMAN_AGENT)
    return ReplyWindow(is_open, closes_at, tuple(allowed))
