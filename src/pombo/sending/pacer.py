"""The rate of one channel: a token bucket, exact because the lane is the only sender of its channel."""

from pombo.domain.classes import MessageClass

# A bucket this deep lets a lane that was kept waiting (an intent's commit, a timer's grain) catch up, yet never exceeds
# the rate by more than a tenth of a second's worth in any window. Two at least, so that one can be kept for a reply.
BURST_S = 0.1
LEAST_BURST = 2.0
RESERVED_FOR_REPLIES = 1.0


def reserve_of(message_class: MessageClass) -> float:
    """What messages of the class must leave in a bucket."""
    return 0.0 if message_class is MessageClass.REPLY else RESERVED_FOR_REPLIES


class TokenBucket:
    """In any window of T seconds at most `rate * T + burst` are taken.

    It starts empty, so that a takeover never doubles the rate. Times are seconds of any monotonic clock. What is not a
    reply leaves a token in the bucket (`reserve`), so that a reply need not wait for the next.
    """

    __slots__ = ("_at", "_tokens", "burst", "rate", "started")

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self.burst = max(LEAST_BURST, rate * BURST_S)
        self._tokens = 0.0
        self._at = self.started = now

    def set_rate(self, rate: float, now: float) -> None:
        self._refill(now)
        self.rate = rate
        self.burst = max(LEAST_BURST, rate * BURST_S)
        self._tokens = min(self._tokens, self.burst)

    def take(self, wanted: int, now: float, reserve: float = 0.0) -> int:
        """Takes up to `wanted` tokens, leaving `reserve` in the bucket, and returns how many."""
        self._refill(now)
        taken = min(wanted, int(max(0.0, self._tokens - reserve)))
        self._tokens -= taken
        return taken

    def give_back(self, count: int) -> None:
        """Returns tokens that were taken at this very moment, in excess; later, others may have left in their place."""
        self._tokens = min(self.burst, self._tokens + count)

    def wait(self, now: float, reserve: float = 0.0) -> float:
        """Seconds until the next token above the reserve."""
        self._refill(now)
        missing = 1.0 + reserve - self._tokens
        return 0.0 if missing <= 0 else missing / self.rate

    def _refill(self, now: float) -> None:
        # A clock that stands still or jumps back adds nothing.
        if now > self._at:
            self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate)
            self._at = now
