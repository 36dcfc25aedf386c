"""The rate that a channel has learned (row E4): lower when Meta says so, back up when it is quiet.

Meta names neither a rate nor a time to wait. So a refusal for being too fast halves the rate, and usage headers near
their end take a fifth of it. Each quiet period gives back half of the way to the rate that was too fast, which is about
where the limit lies, or a twentieth of the maximum, whichever is more: from half to full in a minute.
"""

from dataclasses import dataclass

from pombo.domain.channels import AT_MAXIMUM

# Answers of messages that left together say the same thing: one step for all of them.
_STEP_EVERY_S = 2.0
QUIET_S = 10.0
_LOWER_BY_ERROR = 0.5
_LOWER_BY_USAGE = 0.8
_RAISE = 0.05
# The channel must stay alive enough to learn that it may go faster again.
LEAST = 0.02
# Percent of a limit that Meta's headers report; at 100 it refuses.
HIGH_USAGE = 80.0


@dataclass(slots=True)
class AdaptiveRate:
    """Messages/s, never above `maximum`; `reason` says in words why it is what it is. Times as for the pacer."""

    maximum: float
    current: float
    reason: str = AT_MAXIMUM
    changed_at: float = float("-inf")
    too_fast: float = 0.0
    """The rate that Meta last complained of."""

    @property
    def learned(self) -> float | None:
        """The rate to begin with the next time; None: the maximum."""
        return None if self.current >= self.maximum else self.current

    def refused(self, now: float, why: str) -> bool:
        """Meta refused for being too fast; True when the rate changed."""
        return self._lower(_LOWER_BY_ERROR, now, why)

    def usage(self, percent: float, now: float) -> bool:
        """Meta's headers tell how much of a limit is used; True when the rate changed."""
        if percent < HIGH_USAGE:
            return False
        return self._lower(_LOWER_BY_USAGE, now, f"Meta reports {percent:.0f} % of a limit as used")

    def quiet(self, now: float) -> bool:
        """Call it now and then; True when the rate was raised."""
        if self.current >= self.maximum or now - self.changed_at < QUIET_S:
            return False
        step = max(_RAISE * self.maximum, (self.too_fast - self.current) / 2)
        self.current = min(self.maximum, self.current + step)
        self.changed_at = now
        if self.current == self.maximum:
            self.reason = AT_MAXIMUM
        return True

    def set_maximum(self, maximum: float) -> None:
        """What was learnt is kept as a part of the maximum."""
        scale = maximum / self.maximum
        self.current, self.too_fast, self.maximum = self.current * scale, self.too_fast * scale, maximum

    def _lower(self, factor: float, now: float, why: str) -> bool:
        if now - self.changed_at < _STEP_EVERY_S and self.current < self.maximum:
            return False
        self.too_fast = self.current
        self.current = max(self.maximum * LEAST, self.current * factor)
        self.reason, self.changed_at = why, now
        return True
