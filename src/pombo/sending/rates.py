"""Rates that change while a worker runs: its slice of the global rate, and what its lanes have learnt."""

from collections.abc import Callable, Iterable

from pombo.domain.ids import WorkerId
from pombo.sending.lane import Lane
from pombo.sending.pacer import TokenBucket
from pombo.store import leases
from pombo.store.database import Connection
from pombo.telemetry import log

# A worker whose slice is not free yet: none leaves, and a rate is still something that can be divided by.
NOTHING = 0.001


class GlobalRate:
    """This worker's part of the rate that holds for all channels and workers together."""

    def __init__(self, total: float, clock: Callable[[], float]) -> None:
        self._total = total
        self._clock = clock
        self.pacer = TokenBucket(NOTHING, clock())
        self.gate = TokenBucket(NOTHING, clock())
        """The same rate once more, where messages leave: what was held up on its way there must not leave at once."""

    async def tend(self, connection: Connection, worker_id: WorkerId) -> None:
        """Takes an even slice, leased with the heartbeat: live workers' slices never add up to more than the whole."""
        even = await leases.even_rate(connection, self._total)
        if self.pacer.rate > even:
            # Slower first, then the rest is free for others.
            self._set(even)
        rate = max(NOTHING, await leases.take_rate_slice(connection, worker_id, self._total, even))
        if rate != self.pacer.rate:
            self._set(rate)

    def _set(self, rate: float) -> None:
        for bucket in (self.pacer, self.gate):
            bucket.set_rate(rate, self._clock())


async def tend_lanes(connection: Connection, lanes: Iterable[Lane], now: float) -> None:
    """Faster again where it is quiet; what was learnt is kept for the channel's next owner."""
    learned = []
    for lane in lanes:
        if lane.adaptive.quiet(now):
            lane.set_rate(lane.adaptive.current, now)
            if lane.adaptive.learned is None:
                log.info("rate_restored", channel=lane.channel.id, rate=lane.adaptive.current)
        if lane.learned != (rate := lane.adaptive.learned):
            lane.learned = rate
            learned.append((lane.lease, rate))
    if learned:
        await leases.keep_learned_rates(connection, learned)
