"""The circuit breaker of one channel (row A6).

    closed ──`threshold` failures in a row──▶ open ──`timeout`──▶ half-open ──probe succeeds──▶ closed
                                               ▲                      │
                                               └─────probe fails──────┘

A success is any answer that shows that Meta takes our requests, a refusal of this one recipient included.
"""

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
    _probing: bool = False

    def allows(self, wanted: int, now: float) -> int:
        """How many of `wanted` may leave now; in half-open state one, until its outcome is known."""
        if self.state is BreakerState.CLOSED:
            return wanted
        if self.state is BreakerState.OPEN:
            if self.opened_at is None or now - self.opened_at < self.timeout_s:
                return 0
            self.state = BreakerState.HALF_OPEN
            self._probing = False
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

    def success(self) -> bool:
        """True when this closes the breaker."""
        if self.state is BreakerState.OPEN:
            # An answer to what left before it opened: too old to prove that Meta is back.
            return False
        was_half_open = self.state is BreakerState.HALF_OPEN
        self.reset()
        return was_half_open

    def failure(self, reason: str, now: float) -> bool:
        """True when this opens the breaker."""
        self.failures += 1
        if not self.enabled or self.state is BreakerState.OPEN:
            return False
        if self.state is BreakerState.CLOSED and self.failures < self.threshold:
            return False
        self.state, self.opened_at, self.reason, self._probing = BreakerState.OPEN, now, reason, False
        return True

    def undecided(self) -> None:
        """The probe did not leave after all: the next message is the probe."""
        self._probing = False

    def reset(self) -> None:
        self.state, self.failures, self.opened_at, self.reason = BreakerState.CLOSED, 0, None, None
        self._probing = False
