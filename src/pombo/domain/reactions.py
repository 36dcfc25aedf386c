"""What Pombo does about an error of Meta's (row A5): one rule, for the judge and for the documentation."""

from enum import StrEnum
from typing import Protocol, assert_never

from pombo.domain.outcomes import WIDE, ErrorClass, ErrorScope


class Reaction(StrEnum):
    DOUBT = "doubt"
    """The message is uncertain: only evidence settles it."""
    FAIL = "fail"
    """The message fails, for another attempt would end the same way."""
    RETRY = "retry"
    """The message alone waits and is tried again; the attempt counts."""
    SLOW_DOWN = "slow_down"
    """The channels concerned send nothing for a while; the message waits, and the attempt does not count."""
    STOP = "stop"
    """The channels concerned stop until somebody acts; the message waits, and the attempt does not count."""
    PAUSE_RUNS = "pause_runs"
    """The campaigns with this template are paused; the message waits, and the attempt does not count."""


class Read(Protocol):
    """An error that was read by the table, or a row of it."""

    @property
    def error_class(self) -> ErrorClass: ...
    @property
    def scope(self) -> ErrorScope: ...
    @property
    def proves_not_accepted(self) -> bool: ...


def reaction_to(error: Read) -> Reaction:
    if not error.proves_not_accepted:
        return Reaction.DOUBT
    scope = error.scope
    match error.error_class:
        case ErrorClass.AUTH | ErrorClass.POLICY:
            if scope is ErrorScope.TEMPLATE:
                return Reaction.PAUSE_RUNS
            return Reaction.STOP if scope in WIDE else Reaction.FAIL
        case ErrorClass.RATE_LIMIT:
            if scope is ErrorScope.TEMPLATE:
                return Reaction.PAUSE_RUNS
            return Reaction.SLOW_DOWN if scope in WIDE else Reaction.RETRY
        case ErrorClass.TRANSIENT:
            return Reaction.SLOW_DOWN if scope in WIDE else Reaction.RETRY
        case ErrorClass.PERMANENT | ErrorClass.AMBIGUOUS:
            return Reaction.FAIL
        case _:
            assert_never(error.error_class)
