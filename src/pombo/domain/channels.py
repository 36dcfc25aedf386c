"""Channel kinds and the limits Meta sets for each."""

from enum import StrEnum


class ChannelKind(StrEnum):
    MESSENGER = "messenger"
    WHATSAPP = "whatsapp"


class ChannelState(StrEnum):
    ACTIVE = "active"
    """Sends."""
    STOPPED = "stopped"
    """Sends nothing until somebody acts (a dead token, a policy block); the reason stands beside it."""


AT_MAXIMUM = "the set maximum"
"""Why a channel sends as fast as it does, as long as Meta has said nothing."""

# Messenger: above 40 messages/s a Page is braked (new messages are hidden and sending stops until volume drops),
# although the Send API itself takes 300 calls/s. WhatsApp: 80 messages/s per number unless Meta upgraded it.
DEFAULT_RATE: dict[ChannelKind, float] = {ChannelKind.MESSENGER: 40.0, ChannelKind.WHATSAPP: 80.0}

# Characters. One of Meta's pages says fewer than 2,000 for Messenger, the other at most 2,000; 2,000 is accepted.
MAX_TEXT: dict[ChannelKind, int] = {ChannelKind.MESSENGER: 2000, ChannelKind.WHATSAPP: 4096}
