"""How long a message, or a throttled lane, waits before it tries again."""

from collections.abc import Callable

# Meta's own services recover within seconds or minutes; an hour bounds what a long outage adds up to.
LONGEST_S = 3600.0


def retry_delay(failures: int, base: float | None, chance: Callable[[], float]) -> float:
    """Seconds before the next attempt, after `failures` (1, 2, ...) of them.

    Usually 1, 2, 4, ... s, half of it at random so that a burst of failures does not come back as one. With `base`, the
    delay that Meta prescribes (`base ** n`, n = 0, 1, ...; pair limits: 4 s), lengthened by up to a tenth, since
    earlier would only fail again. `chance` gives uniform numbers in [0, 1).
    """
    if base is not None:
        return float(min(base ** (failures - 1), LONGEST_S)) * (1 + 0.1 * chance())
    return float(min(2 ** (failures - 1), LONGEST_S)) * (0.5 + 0.5 * chance())
