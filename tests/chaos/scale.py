"""How large the tests are: short in `make test`, long in `make chaos` (POMBO_CHAOS=long)."""

import os
from dataclasses import dataclass

LONG = os.environ.get("POMBO_CHAOS") == "long"
SEED = int(os.environ.get("POMBO_SEED", "1"))
"""All that is random follows from it, but for how long things take."""


@dataclass(frozen=True, slots=True)
class Scale:
    pages: int
    numbers: int
    workers: int
    messages: int
    """Of a scenario."""
    times: int
    """How often a scenario's mishap befalls it."""
    rate: float
    """Of a channel: slow enough that a scenario's messages outlast its mishaps; what is left then leaves faster."""
    latency_ms: float
    """Meta's, half of it at random: long enough that something is always in flight."""
    lease_s: float
    answer_timeout_s: float
    grace_s: float
    """Above lease + 2 × answer time-out, with what webhooks take here on top."""
    patience_s: float
    """How long anything may take that must happen: a failure, never a measurement."""


SHORT_SCALE = Scale(3, 3, 2, 1_500, 1, 12.0, 200.0, 1.5, 1.0, 4.5, 90.0)
LONG_SCALE = Scale(10, 10, 3, 20_000, 8, 25.0, 400.0, 3.0, 3.0, 12.0, 900.0)
SCALE = LONG_SCALE if LONG else SHORT_SCALE
