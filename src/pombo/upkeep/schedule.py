"""Runs the duties by their intervals, in one process of the whole system at a time.

Every worker process has a schedule; the one that holds the lock works, the others ask for it now and then. All duties
run at once when it is taken: the former holder may have died in the middle of any.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from pombo.store.database import Database
from pombo.store.errors import DatabaseUnavailable
from pombo.store.lock import Lock, open_lock
from pombo.telemetry import log
from pombo.upkeep import (
    channel_jobs,
    dead_workers,
    idempotency_keys,
    old_signals,
    partitions,
    settled_doubts,
    silent_streams,
    webhook_errors,
)
from pombo.upkeep.kept_receipts import KeptReceipts

# "upkee" in ASCII; any constant shared by all Pombos.
_LOCK = 0x75706B6565
# How soon another process takes over, and how soon a duty is noticed to be due.
_TICK_S = 5.0


@dataclass(frozen=True, slots=True)
class Duty:
    name: str
    every: timedelta
    run: Callable[[], Awaitable[int]]


class Upkeep:
    """`more` are duties of packages that this one must not know."""

    def __init__(
        self,
        database: Database,
        *,
        retention_days: int,
        partition_days_ahead: int,
        webhook_retention_days: int | None = None,
        more: Sequence[Duty] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._clock = clock
        self._due_at: dict[str, float] = {}
        minute, hour = timedelta(minutes=1), timedelta(hours=1)
        self._duties = [
            Duty(
                "partitions",
                hour,
                partial(partitions.run_once, database, partition_days_ahead, retention_days, webhook_retention_days),
            ),
            # A minute late is how late a receipt is at most when a process died in the wrong moment.
            Duty("kept_receipts", minute, partial(KeptReceipts().run_once, database)),
            Duty("idempotency_keys", hour, partial(idempotency_keys.run_once, database)),
            Duty(
                "webhook_errors",
                hour,
                partial(webhook_errors.run_once, database, webhook_retention_days or retention_days),
            ),
            Duty("old_signals", hour, partial(old_signals.run_once, database)),
            Duty("channel_jobs", hour, partial(channel_jobs.run_once, database)),
            Duty("settled_doubts", hour, partial(settled_doubts.run_once, database)),
            Duty("silent_streams", minute, partial(silent_streams.run_once, database)),
            Duty("dead_workers", hour, partial(dead_workers.run_once, database)),
            *more,
        ]

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set; the duty under way is finished first. Goes on whatever happens."""
        while not stop.is_set():
            try:
                async with open_lock(self._database.url, _LOCK, "pombo upkeep") as lock:
                    await self._hold(lock, stop)
            except DatabaseUnavailable:
                await _wait(stop, _TICK_S)

    async def _hold(self, lock: Lock, stop: asyncio.Event) -> None:
        while not stop.is_set():
            if await lock.take():
                await self.run_due(stop)
            else:
                # Whoever takes it next begins with all of them.
                self._due_at.clear()
            await _wait(stop, _TICK_S)

    async def run_due(self, stop: asyncio.Event) -> None:
        """Runs each duty whose time has come; what fails is logged, and due again after its interval."""
        for duty in self._duties:
            if stop.is_set() or self._clock() < self._due_at.get(duty.name, float("-inf")):
                continue
            self._due_at[duty.name] = self._clock() + duty.every.total_seconds()
            try:
                done = await duty.run()
            except Exception as error:
                # In a minute at the latest: the partitions' hour is too long to be without the next day's.
                self._due_at[duty.name] = self._clock() + min(duty.every.total_seconds(), 60.0)
                log.warning("upkeep_failed", duty=duty.name, error=f"{type(error).__name__}: {error}")
            else:
                if done:
                    log.info("upkeep_done", duty=duty.name, rows=done)


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
