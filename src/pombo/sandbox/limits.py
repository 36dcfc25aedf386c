"""Meta's rate limits, each able to say whether one more call or message may pass at a given time."""

from typing import Protocol


class Limit(Protocol):
    def take(self, now: float) -> bool: ...


class Unlimited:
    def take(self, now: float) -> bool:
        return True


class TokenBucket:
    """At most `rate` a second, and one second's worth at once: how Meta's "calls per second" are read here."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._burst = max(1.0, rate)
        self._tokens = self._burst
        self._at = 0.0

    def take(self, now: float) -> bool:
        tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if tokens < 1:
            self._tokens = tokens
            return False
        self._tokens = tokens - 1
        return True


class Brake:
    """Messenger's brake: a Page above `rate` messages a second for a while cannot send until its volume drops.

    Meta says no more than that. Here the volume fills a bucket that leaks at `rate`; the brake goes on when the bucket
    overflows, is fed by refused attempts too, and comes off once the bucket is half empty. Five seconds' worth fit, so
    that a sender at the rate never feels it, while one at twice the rate does after five seconds.
    """

    _SECONDS_HELD = 5.0

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._capacity = max(1.0, rate * self._SECONDS_HELD)
        self._level = 0.0
        self._at = 0.0
        self._on = False

    def take(self, now: float) -> bool:
        self._level = max(0.0, self._level - (now - self._at) * self._rate)
        self._at = now
        if self._on and self._level <= self._capacity / 2:
            self._on = False
        self._level = min(self._capacity + 1, self._level + 1)
        if self._level > self._capacity:
            self._on = True
        return not self._on


class PairLimit:
    """WhatsApp's limit per (number, recipient): 1 message in 6 s, of which 45 may be borrowed at once.

    GCRA: per recipient one number, the time at which all that was sent is paid for.
    """

    _INTERVAL = 6.0
    _BURST = 45

    def __init__(self) -> None:
        self._paid_at: dict[str, float] = {}
        self._sweep_at = 10_000

    def __len__(self) -> int:
        """How many recipients are kept in mind."""
        return len(self._paid_at)

    def take(self, recipient: str, now: float) -> bool:
        paid_at = self._paid_at.get(recipient, now)
        if paid_at < now:
            paid_at = now
        if paid_at - now > (self._BURST - 1) * self._INTERVAL:
            return False
        self._paid_at[recipient] = paid_at + self._INTERVAL
        if len(self._paid_at) > self._sweep_at:
            self._sweep(now)
        return True

    def _sweep(self, now: float) -> None:
        """Forget who has nothing left to pay; the next sweep waits until there are twice as many as remained."""
        self._paid_at = {recipient: at for recipient, at in self._paid_at.items() if at > now}
        self._sweep_at = max(10_000, 2 * len(self._paid_at))


def per_second(rate: float | None) -> Limit:
    return Unlimited() if rate is None else TokenBucket(rate)


def brake(rate: float | None) -> Limit:
    return Unlimited() if rate is None else Brake(rate)
