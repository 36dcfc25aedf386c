"""The people at the other end. Nobody needs to be registered: whoever is not is reachable, in a window by default."""

from typing import Literal

import msgspec

WINDOW = 24 * 3600.0
"""The standard window after a person's last message, in seconds."""
HUMAN_AGENT_WINDOW = 7 * 24 * 3600.0
"""How long the HUMAN_AGENT tag reaches on Messenger."""

Standing = Literal["reachable", "unknown", "blocked", "opted_out"]


class Person(msgspec.Struct, frozen=True, gc=False):
    """`unknown`: nobody on Messenger or WhatsApp; `blocked`: blocks this channel; `opted_out`: stopped marketing.

    `last_inbound` is in seconds since the epoch, None where the channel's window policy decides.
    """

    standing: Standing = "reachable"
    last_inbound: float | None = None


NOBODY_SPECIAL = Person()


def in_window(person: Person, now: float, *, policy: Literal["open", "closed"], length: float = WINDOW) -> bool:
    if person.last_inbound is None:
        return policy == "open"
    return now - person.last_inbound < length
