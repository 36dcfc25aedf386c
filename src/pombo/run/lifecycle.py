"""Signals, and what a role does while the database is not there yet."""

import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pombo.store.database import Database
from pombo.store.errors import DatabaseUnavailable
from pombo.telemetry import log

# Set by the supervisor for its children: the process whose end is theirs too.
SUPERVISOR_VARIABLE = "POMBO_SUPERVISOR_PID"
_RETRY_S = 1.0


def spare_the_collector() -> None:
    """Once a role has started: what it has loaded is never garbage, and searching it all takes a tenth of a second.

    Nothing of ours makes many cycles, so that the young are looked at less often, too: 3 % of a busy worker's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def stop_on_signals() -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT; a second one ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def handle(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, handle, number)
    return stop


async def stop_with_supervisor(stop: asyncio.Event) -> None:
    """A child whose supervisor was killed stops too, rather than working on unseen."""
    supervisor = int(os.environ.get(SUPERVISOR_VARIABLE, "0"))
    while supervisor and not stop.is_set():
        if os.getppid() != supervisor:
            log.warning("supervisor_gone")
            stop.set()
        await asyncio.sleep(1.0)


@asynccontextmanager
async def database_when_there(url: str, application: str, stop: asyncio.Event) -> AsyncIterator[Database | None]:
    """Waits for the database; None when `stop` was set meanwhile. Raises SchemaError."""
    while not stop.is_set():
        opened = Database.open(url, application)
        try:
            database = await opened.__aenter__()
        except DatabaseUnavailable as error:
            log.warning("database_away", role=application, reason=str(error))
            try:
                async with asyncio.timeout(_RETRY_S):
                    await stop.wait()
            except TimeoutError:
                pass
            continue
        try:
            yield database
        finally:
            await opened.__aexit__(None, None, None)
        return
    yield None
