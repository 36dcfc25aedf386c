"""One run of one system: all of its messages as fast as it can, or at a given pace."""

import asyncio
import time
from array import array
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from bench import answer
from bench.place import ANSWER_PORT, Place
from bench.processes import cpu_seconds
from bench.receipts import LAST_S
from bench.rivals.system import Running, System, Work
from bench.server import Serving
from bench.wire import WIRES
from pombo.domain.channels import ChannelKind

_WIRE = WIRES[ChannelKind.WHATSAPP]
# How often a paced run enqueues: each time what has become due meanwhile.
_TICK_S = 0.05
_RECEIPTS_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Case:
    """What is the same for all systems."""

    latency_s: float
    channels: int = 20
    connections: int = 500
    processes: int = 1


@dataclass(frozen=True, slots=True)
class Run:
    """As fast as it can."""

    seconds: float
    """From the start signal to the last outcome stored; with receipts also to the last one applied, less the delay
    with which that one is posted after its message was accepted."""
    messages: int
    cpu_ms_per_1000: dict[str, float] = field(default_factory=dict)
    peak_rss_mb: dict[str, float] = field(default_factory=dict)
    read: int = 0
    """Messages whose last receipt was applied."""
    refused: int = 0
    """Receipts that the receiver did not answer with 200."""


async def full(system: System, place: Place, case: Case, messages: int, with_receipts: bool) -> Run:
    """Raises what the system failed with."""
    with ExitStack() as stack:
        ours = None
        if with_receipts:
            serving = Serving(_WIRE.kind, ANSWER_PORT, case.latency_s, receipts=system.receipts)
            ours = stack.enter_context(answer.ours(serving))
            url = ours.url
        else:
            url = stack.enter_context(answer.answering(place.directory, ANSWER_PORT, _WIRE, case.latency_s))
        work = Work(messages, messages, case.channels, case.connections, case.processes, url, with_receipts)
        async with system.open(place, work) as running:
            before, began = _cpu(place, running), time.perf_counter()
            await running.go()
            await running.all_stored()
            seconds = time.perf_counter() - began
            read = refused = 0
            if ours is not None:
                counts = await _all_posted(ours, messages)
                read, refused = await running.all_applied(), counts["refused"]
                seconds = max(seconds, time.perf_counter() - began - LAST_S)
            after = _cpu(place, running)
            peak = {part: sum(child.peak_rss_mb() for child in children) for part, children in running.parts.items()}
            accepted = await running.accepted()
        assert accepted == messages, f"{accepted} of {messages} are in the delivery log"
    cpu = {part: (after[part] - before[part]) * 1e6 / messages for part in after}
    return Run(seconds, messages, cpu, peak, read, refused)


def _cpu(place: Place, running: Running) -> dict[str, float]:
    used = {part: sum(cpu_seconds(child.processes()) for child in children) for part, children in running.parts.items()}
    return {"database": place.database_cpu_s(), **used}


async def _all_posted(ours: answer.Answerer, messages: int) -> dict[str, Any]:
    async with asyncio.timeout(_RECEIPTS_TIMEOUT_S):
        while True:
            counts = await asyncio.to_thread(ours.counts)
            if counts["answered"] >= messages and counts["posted"] + counts["refused"] >= counts["owed"]:
                return counts
            await asyncio.sleep(0.05)


async def paced(system: System, place: Place, case: Case, rates: dict[str, float], seconds: float) -> list[float]:
    """Seconds from due to answered of each message, ascending; messages become due at the system's rate of `rates`.

    They are due when the system is told to enqueue them, which it does by its own call for many; what it answers with
    is of the same server for all.
    """
    rate = rates[system.name]
    messages = int(rate * seconds)
    serving = Serving(_WIRE.kind, ANSWER_PORT, case.latency_s, watched=range(messages))
    with answer.ours(serving) as ours:
        work = Work(0, messages, case.channels, case.connections, case.processes, ours.url, False)
        async with system.open(place, work) as running:
            await running.go()
            # Connections are made and code is compiled in the first second, for all of them alike; it is in p99.
            due = array("d")
            began = time.monotonic()
            while len(due) < messages:
                now = time.monotonic()
                count = min(int((now - began) * rate), messages) - len(due)
                if count > 0:
                    first = len(due)
                    due.extend([now] * count)
                    await running.enqueue(first, count)
                await asyncio.sleep(max(0.0, now + _TICK_S - time.monotonic()))
            await running.all_stored()
        answered = ours.answered_at()
    assert all(answered), f"{sum(not at for at in answered)} of {messages} were never answered"
    return sorted(at - since for at, since in zip(answered, due, strict=True))
