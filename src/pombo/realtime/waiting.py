"""Waiting for the first of several events."""

import asyncio


async def wait_for_any(seconds: float, *events: asyncio.Event) -> None:
    """Until one of them is set, or so long."""
    if any(event.is_set() for event in events):
        return
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waiting:
            each.cancel()
