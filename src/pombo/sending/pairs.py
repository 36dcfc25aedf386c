"""WhatsApp's pair limit: how often one number may write to one person.

Meta (About the platform, 2026): one message in 6 s to the same user, a burst of up to 45 borrowed from the time that
follows. Kept here so that a lane rather waits for one recipient than meets error 131056.
"""

PAIR_INTERVAL_S = 6.0
PAIR_BURST = 45

# So many recipients are remembered before those whose time has passed are forgotten: a minute's at 80 messages/s.
_SWEEP_AT = 5000


class PairLimit:
    """A generic cell rate per recipient: one number each, forgotten when it no longer limits anything."""

    __slots__ = ("_free_at", "_sweep_at")

    def __init__(self) -> None:
        self._free_at: dict[str, float] = {}
        """When the recipient's borrowed time is paid back."""
        self._sweep_at = _SWEEP_AT

    def take(self, recipient: str, now: float) -> float:
        """0.0 and counted when the message may leave now, else the seconds to wait, and not counted."""
        free_at = self._free_at.get(recipient, now)
        wait = free_at - now - (PAIR_BURST - 1) * PAIR_INTERVAL_S
        if wait > 0:
            return wait
        self._free_at[recipient] = max(free_at, now) + PAIR_INTERVAL_S
        if len(self._free_at) > self._sweep_at:
            self._sweep(now)
        return 0.0

    def _sweep(self, now: float) -> None:
        self._free_at = {recipient: at for recipient, at in self._free_at.items() if at > now}
        # Twice what is left, so that sweeping costs a constant part of each message.
        self._sweep_at = max(_SWEEP_AT, 2 * len(self._free_at))
