"""SIGHUP: a running role reads its settings anew, from `.env` and its environment."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pombo.settings import Settings, SettingsError, load_settings
from pombo.telemetry import log

_STDIN = 0


class Reload:
    """`settings` are always good ones: wrong ones are refused with a log line, and nothing is interrupted for them."""

    def __init__(self, settings: Settings, stop: asyncio.Event) -> None:
        self.settings = settings
        self.wanted = asyncio.Event()
        """Set when there are new settings; whoever takes them up clears it."""
        self._stop = stop
        self._in_terminal = os.isatty(_STDIN)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._hung_up)

    def _hung_up(self) -> None:
        if self._in_terminal and not os.isatty(_STDIN):
            # The signal's first meaning: the terminal was closed.
            self._stop.set()
            return
        try:
            self.settings = load_settings()
        except (SettingsError, OSError, ValueError) as error:
            log.error("settings_refused", reason="; ".join(str(error).splitlines()))
            return
        self.wanted.set()


@asynccontextmanager
async def first_of(*events: asyncio.Event) -> AsyncIterator[asyncio.Event]:
    """An event that is set when one of these is."""
    first = asyncio.Event()

    async def watch(event: asyncio.Event) -> None:
        await event.wait()
        first.set()

    watching = [asyncio.create_task(watch(event)) for event in events]
    try:
        yield first
    finally:
        for task in watching:
            task.cancel()
