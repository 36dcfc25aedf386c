"""Does a thing again and again, as soon as its bell rings and once a second without."""

import asyncio
from collections.abc import Awaitable, Callable

from pombo.store.database import TRY_AGAIN
from pombo.store.errors import DatabaseUnavailable
from pombo.telemetry import log

# The bell only saves waiting for this.
POLL_S = 1.0


async def repeat(name: str, step: Callable[[], Awaitable[object]], bell: asyncio.Event, stop: asyncio.Event) -> None:
    """Until `stop` is set. Goes on whatever happens; each step is one or more whole transactions."""
    while not stop.is_set():
        bell.clear()
        try:
            await step()
        except (DatabaseUnavailable, *TRY_AGAIN) as error:
            log.warning("database_away", loop=name, reason=str(error))
        except Exception:
            log.exception("duty_failed", loop=name)
        waiting = [asyncio.create_task(event.wait()) for event in (stop, bell)]
        try:
            await asyncio.wait(waiting, timeout=POLL_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
