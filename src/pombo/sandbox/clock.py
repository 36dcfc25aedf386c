"""The sandbox's time: the machine's, unless a test stops it and moves it forward."""

import time


class Clock:
    """Seconds since the epoch. Limits, windows and webhook delays all follow it, so a test can skip a day."""

    def __init__(self) -> None:
        self._frozen_at: float | None = None
        self._ahead = 0.0

    @property
    def is_frozen(self) -> bool:
        return self._frozen_at is not None

    def now(self) -> float:
        return time.time() + self._ahead if self._frozen_at is None else self._frozen_at

    def freeze(self, at: float | None = None) -> None:
        self._frozen_at = self.now() if at is None else at

    def advance(self, seconds: float) -> None:
        if seconds < 0:
            raise ValueError("The sandbox's clock only moves forward.")
        if self._frozen_at is None:
            self._ahead += seconds
        else:
            self._frozen_at += seconds

    def run(self) -> None:
        """Follow the machine's time again, with no offset."""
        self._frozen_at = None
        self._ahead = 0.0
