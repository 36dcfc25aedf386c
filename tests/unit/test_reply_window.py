"""The reply window."""

from datetime import UTC, datetime, timedelta

import pytest

from pombo.domain.channels import ChannelKind
from pombo.domain.reply_window import Allowed, reply_window

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
MESSENGER, WHATSAPP = ChannelKind.MESSENGER, ChannelKind.WHATSAPP


@pytest.mark.parametrize(
    ("kind", "hours", "is_open", "allowed"),
    [
        (MESSENGER, 0, True, ("message",)),
        (MESSENGER, 23.99, True, ("message",)),
        (MESSENGER, 24, False, ("human_agent",)),
        (MESSENGER, 7 * 24 - 0.01, False, ("human_agent",)),
        (MESSENGER, 7 * 24, False, ()),
        (WHATSAPP, 23.99, True, ("message", "template")),
        (WHATSAPP, 24, False, ("template",)),
        (WHATSAPP, 9999, False, ("template",)),
    ],
)
def test_it_closes_on_the_hour(kind: ChannelKind, hours: float, is_open: bool, allowed: tuple[str, ...]) -> None:
    window = reply_window(kind, NOW - timedelta(hours=hours), NOW)
    assert (window.open, window.allowed) == (is_open, tuple(map(Allowed, allowed)))
    assert window.closes_at == NOW - timedelta(hours=hours) + timedelta(hours=24)


def test_nobody_who_never_wrote_has_one() -> None:
    assert reply_window(MESSENGER, None, NOW).allowed == ()
    assert reply_window(WHATSAPP, None, NOW).allowed == (Allowed.TEMPLATE,)
    assert reply_window(MESSENGER, None, NOW).closes_at is None
