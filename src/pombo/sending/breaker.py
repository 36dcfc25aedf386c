"""The circuit breaker of one channel (row A6).

    closed ──`threshold` failures in a row──▶ open ──`timeout`──▶ half-open ──probe succeeds──▶ closed
                                               ▲                      │
                                               └─────probe fails──────┘

A success is any answer that shows that Meta takes our requests, a refusal of this one recipient included.

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
    """Told of each change of state; not of the probe that fails and the next one, but of the opening between them."""
    _probing: bool = False

    def allows(self, wanted: int, now: float) -> int:
        """How many of `wanted` may leave now; in half-open state one, until its outcome is known."""
        if self.state is BreakerState.CLOSED:
            return wanted
        if self.state is BreakerState.OPEN:
            if not wanted or self.opened_at is None or now - self.opened_at < self.timeout_s:
                return 0
            self._probing = False
            self._become(BreakerState.HALF_OPEN)
        return 0 if self._probing else min(1, wanted)

    def left(self, count: int) -> None:
        """`count` messages were let go; in half-open state the one is the probe."""
        if count and self.state is BreakerState.HALF_OPEN:
            self._probing = True

    def wait(self, now: float) -> float | None:
        """Seconds until it lets something through; None when only an outcome can change it."""
        if self.state is BreakerState.OPEN and self.opened_at is not None:
            return max(0.0, self.opened_at + self.timeout_s - now)
        return None if self._probing else 0.0

    def success(self) -> None:
        if self.state is BreakerState.CLOSED:
            self.failures = 0
        elif self.state is BreakerState.HALF_OPEN:
            self.reset()
        # While open it is an answer to what left before it opened: too old to prove that Meta is back.

    def failure(self, reason: str, now: float) -> None:
        self.failures += 1
        if not self.enabled or self.state is BreakerState.OPEN:
            return
        if self.state is BreakerState.CLOSED and self.failures < self.threshold:
            return
        self.opened_at, self.reason, self._probing = now, reason, False
        self.opens += 1
        self._become(BreakerState.OPEN)

    def undecided(self) -> None:
        """The probe did not leave after all: the next message is the probe."""
        self._probing = False

    def reset(self) -> None:
        self.failures, self.opened_at, self.reason, self._probing = 0, None, None, False
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
