"""Classes of messages: within a channel what a person waits for overtakes what a crowd is sent (row B7)."""

from enum import IntEnum


class MessageClass(IntEnum):
    """The smaller goes first. Within a channel, order holds per recipient and class."""

    REPLY = 0
    """An agent's answer to somebody who waits for it."""
    TRANSACTIONAL = 1
    """Caused by one person's doing: a confirmation, a step of a flow."""
    BULK = 2
    """Campaigns and broadcasts."""


def direct_stream(message_class: MessageClass) -> int:
    """The `run_id` under which a channel's messages of no run are queued: 0 for replies, then downwards."""
    return -message_class
