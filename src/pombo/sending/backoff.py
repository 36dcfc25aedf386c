"""How long a message, or a throttled lane, waits before it tries again."""

from collections.abc import Callable

from pombo.domain.outcomes import Backoff

# Meta's own services recover within seconds or minutes; an hour bounds what a long outage adds up to.
LONGEST_S = 3600.0


def retry_delay(failures: int, prescribed: Backoff | None, chance: Callable[[], float]) -> float:
    """Seconds before the next attempt, after `failures` (1, 2, ...) of them.

    Usually 1, 2, 4, ... s, half of it at random so that a burst of failures does not come back as one. What Meta
    prescribes (pair limits: 1, 4, 16 … s) is lengthened by up to a tenth instead, since earlier would only fail again.
    `chance` gives uniform numbers in [0, 1).
    """
    if prescribed is not None:
        return float(min(prescribed.first_s * prescribed.factor ** (failures - 1), LONGEST_S)) * (1 + 0.1 * chance())
    return float(min(2 ** (failures - 1), LONGEST_S)) * (0.5 + 0.5 * chance())
