"""The circuit breaker of one channel (row A6).

    closed ──`threshold` failures in a row──▶ open ──`timeout`──▶ half-open ──probe succeeds──▶ closed
                                               ▲                      │
                                               └─────probe fails──────┘

A success is any answer that shows that Meta takes our requests, a refusal of this one recipient included. While half
open only the probe's own fate counts: an answer to something that left before tells nothing of now.

The breaker is its lane's memory. That it is open is noted in the table `cooldowns` as well, so that a channel's next
owner waits like the last one instead of beginning with as many attempts as it has sockets, each of them a doubt.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(slots=True)
class Breaker:
    threshold: int
    timeout_s: float
    enabled: bool = True
    state: BreakerState = BreakerState.CLOSED
    failures: int = 0
    """In a row."""
    opened_at: float | None = None
    reason: str | None = None
    opens: int = 0
    """How often it has opened, failed probes included."""
    changed: Callable[["Breaker"], None] | None = None
    """Told of each change of state."""
    probe: int | None = None
    """The message that is under way to see whether Meta is back."""

    def allows(self, wanted: int, now: float) -> int:
        """How many of `wanted` may leave now; in half-open state one, until its outcome is known."""
        if self.state is BreakerState.CLOSED:
            return wanted
        if self.state is BreakerState.OPEN:
            if not wanted or self.opened_at is None or now - self.opened_at < self.timeout_s:
                return 0
            self._become(BreakerState.HALF_OPEN)
        return 0 if self.probe is not None else min(1, wanted)

    def let_go(self, message_id: int) -> None:
        """The message, first of those allowed, is on its way; in half-open state it is the probe."""
        if self.state is BreakerState.HALF_OPEN:
            self.probe = message_id

    def wait(self, now: float) -> float | None:
        """Seconds until it lets something through; None when only an outcome can change it."""
        if self.state is BreakerState.OPEN and self.opened_at is not None:
            return max(0.0, self.opened_at + self.timeout_s - now)
        return None if self.probe is not None else 0.0

    def success(self, message_id: int) -> None:
        if self.state is BreakerState.CLOSED:
            self.failures = 0
        elif self.probe == message_id:
            self.reset()

    def failure(self, message_id: int, reason: str, now: float) -> None:
        self.failures += 1
        if not self.enabled or self.state is BreakerState.OPEN:
            return
        if self.failures < self.threshold if self.state is BreakerState.CLOSED else self.probe != message_id:
            return
        self.opened_at, self.reason, self.probe = now, reason, None
        self.opens += 1
        self._become(BreakerState.OPEN)

    def undecided(self, message_id: int) -> None:
        """It did not leave after all; if it was the probe, the next message is."""
        if self.probe == message_id:
            self.probe = None

    def reset(self) -> None:
        self.failures, self.opened_at, self.reason, self.probe = 0, None, None, None
        self._become(BreakerState.CLOSED)

    def take_over(self, failures: int, reason: str, left_s: float, now: float) -> None:
        """Open as it was at the channel's last owner; the probe is due in `left_s` (at once, if that is over)."""
        if self.enabled:
            self.state, self.failures, self.reason = BreakerState.OPEN, failures, reason
            self.opened_at = now + left_s - self.timeout_s

    def _become(self, state: BreakerState) -> None:
        if state is not self.state:
            self.state = state
            if self.changed is not None:
                self.changed(self)
