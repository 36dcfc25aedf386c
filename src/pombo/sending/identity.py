"""What a worker is called in the database while its heartbeat lasts: an id that is never used again.

An identity ends when its heartbeat comes too late. Then others own its channels, and what of it has not left must not
leave any more; what is in flight goes on, and until it is all over the identity's lock is held.
"""

import asyncio
import time

from pombo.domain.ids import WorkerId
from pombo.store.errors import DatabaseUnavailable
from pombo.store.worker_lock import WorkerLock
from pombo.telemetry import log

# The lease ends by the database's clock, and by ours this part of it earlier: what is written must be on its way before
# anybody else may decide about it, though the clocks run at different speeds and writing takes its time.
_MARGIN = 1 / 8
_RETRY_S = 0.1

# Unlike the loop's clock it is read anew each time, and goes on while the machine is suspended.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def clock() -> float:
    return time.clock_gettime(_CLOCK)


class Identity:
    def __init__(self, url: str, worker_id: WorkerId, lock: WorkerLock) -> None:
        self._url = url
        self._lock = lock
        self._keeping = asyncio.create_task(self._keep(), name=f"lock of worker {worker_id}")
        self.worker_id = worker_id
        self.may_write_until = 0.0
        """By `clock`."""
        self.open = 0
        """Batches of intents, stored or being stored, of which some message's outcome is not saved yet."""

    @classmethod
    async def assume(cls, url: str, worker_id: WorkerId) -> "Identity":
        """Takes the lock of a worker just registered. Raises DatabaseUnavailable."""
        return cls(url, worker_id, await WorkerLock.take(url, worker_id))

    def renewed(self, asked_at: float, lease_s: float) -> None:
        """The database has granted the lease, to a statement that was sent after `asked_at` (by `clock`)."""
        self.may_write_until = asked_at + lease_s * (1 - _MARGIN)

    async def release(self) -> None:
        """Nothing of it is to come."""
        self._keeping.cancel()
        await asyncio.gather(self._keeping, return_exceptions=True)
        await self._lock.release()

    async def _keep(self) -> None:
        """Takes the lock again whenever its session breaks."""
        while True:
            await self._lock.lost()
            log.warning("worker_lock_lost", worker=self.worker_id)
            while True:
                try:
                    self._lock = await WorkerLock.take(self._url, self.worker_id)
                    break
                except DatabaseUnavailable:
                    await asyncio.sleep(_RETRY_S)
