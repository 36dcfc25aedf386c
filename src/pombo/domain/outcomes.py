"""What became of one attempt to send. Expected outcomes are values, never exceptions."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import msgspec


class ErrorClass(StrEnum):
    """Decides what happens next (row A5)."""

    RATE_LIMIT = "rate_limit"
    """Slow down, retry."""
    AUTH = "auth"
    """Stop the channel, alert."""
    PERMANENT = "permanent"
    """Fail this one."""
    TRANSIENT = "transient"
    """Retry; only given to errors that prove the message was not accepted."""
    AMBIGUOUS = "ambiguous"
    """May have been accepted: never resent blindly."""
    POLICY = "policy"
    """Pause the channel or the template."""


class ErrorScope(StrEnum):
    """Whom an error concerns: how far its consequence reaches."""

    MESSAGE = "message"
    RECIPIENT = "recipient"
    TEMPLATE = "template"
    """All messages of this template (or content), on the numbers of the WhatsApp account that it belongs to."""
    CHANNEL = "channel"
    ACCOUNT = "account"
    """All numbers of the WhatsApp account."""
    APP = "app"
    """All channels of this kind that belong to the same Meta app."""


WIDE = frozenset({ErrorScope.CHANNEL, ErrorScope.ACCOUNT, ErrorScope.APP})
"""Scopes in which the message itself is blameless: what holds it back holds all others of its channel back."""


class Backoff(NamedTuple):
    """Retry n (from 0) waits `first_s * factor ** n` seconds."""

    first_s: int
    factor: int


@dataclass(frozen=True, slots=True)
class SendError:
    """One error as Meta (or the connection) gave it, with our reading of it.

    `code` is Meta's; 0 with subcode 0 also stands for a failure of the connection, told apart by `title`.
    """

    code: int
    subcode: int
    title: str
    error_class: ErrorClass
    scope: ErrorScope
    proves_not_accepted: bool
    words: str
    next_step: str
    backoff: Backoff | None = None
    """Where Meta says how long to wait."""
    opt_out: bool = False
    """The recipient wants no more campaigns: to be suppressed."""

    @property
    def full_code(self) -> str:
        """`code`, or `code/subcode`."""
        return f"{self.code}/{self.subcode}" if self.subcode else str(self.code)


# Structs, not dataclasses: one is made per message, and a frozen dataclass takes four times as long to make.
class Accepted(msgspec.Struct, frozen=True, gc=False):
    provider_id: str


class Retry(msgspec.Struct, frozen=True):
    """Proven not accepted, and worth another attempt; the lane decides when (back-off, attempts left)."""

    error: SendError


class Failed(msgspec.Struct, frozen=True):
    """Proven not accepted, and another attempt would end the same way."""

    error: SendError


class Uncertain(msgspec.Struct, frozen=True):
    """Nothing proves either way; only evidence (an echo, a status) may settle it."""

    error: SendError


Outcome = Accepted | Retry | Failed | Uncertain


class DeliveryState(StrEnum):
    """The states of the delivery log, in the order in which a message passes through them.

    `rank` is what is stored: states never move backwards, so an update keeps the greater rank. `failed` lies below
    `accepted`, because evidence may turn a failed message into an accepted one; an accepted message that Meta later
    reports as failed (asynchronous 131026 and the like) becomes `undelivered`.
    """

    CANCELLED = "cancelled"
    FAILED = "failed"
    ACCEPTED = "accepted"
    UNDELIVERED = "undelivered"
    DELIVERED = "delivered"
    READ = "read"

    @property
    def rank(self) -> int:
        return _RANKS[self]


_RANKS = {
    DeliveryState.CANCELLED: 0,
    DeliveryState.FAILED: 1,
    DeliveryState.ACCEPTED: 2,
    DeliveryState.UNDELIVERED: 3,
    DeliveryState.DELIVERED: 4,
    DeliveryState.READ: 5,
}
