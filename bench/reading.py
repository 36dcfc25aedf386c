"""`reading`: how long reading ahead takes: by how many rows wait, past paused rows, under an old snapshot.

Reads are `store.outbox.read_ahead`, for all channels at once and as many rows, as the worker's reader does: on
from where the last one ended, and now and then from the beginning. Under the snapshot it is the worker's own reads,
as it counts them.
"""

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from statistics import median
from typing import Any

import asyncpg
import uvloop

from bench import answer, pombo_processes, setup
from bench.place import ANSWER_PORT, Place, open_place, settle_down
from bench.results import machine
from bench.seeding import Seeded, add_run, enqueue, open_stream, seed
from bench.wire import WIRES
from pombo.domain.channels import ChannelKind
from pombo.domain.classes import MessageClass
from pombo.run.lifecycle import spare_the_collector
from pombo.sending.reader import PASS_S, ROWS_A_READ
from pombo.store import outbox
from pombo.store.database import Connection, Database
from pombo.store.outbox import BEGINNING, Reading

_WIRE = WIRES[ChannelKind.MESSENGER]
_CHANNELS = 20
_READS = 40
# Between two looks at what the worker counts; it publishes once a second.
_LOOK_S = 2.0


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="waiting")
    parser.add_argument("--paused", type=int, default=300_000, help="rows of a paused run in the way")
    parser.add_argument("--snapshot-s", type=float, default=60.0, help="how long a snapshot is held open; 0: not")
    parser.add_argument("--snapshot-rate", type=float, default=2000.0, help="messages/s sent meanwhile")


def main(options: argparse.Namespace) -> dict[str, Any]:
    document: dict[str, Any] = {"machine": machine(), "waiting": [], "paused": None, "snapshot": None}
    with open_place() as place:
        for rows in options.rows:
            document["waiting"].append(uvloop.run(_waiting(place.pombo_database(), rows, 0)))
        if options.paused:
            document["paused"] = uvloop.run(_waiting(place.pombo_database(), options.rows[0], options.paused))
        if options.snapshot_s:
            setup.ensure_programs("nginx")
            document["snapshot"] = _under_snapshot(place, options)
    return document


async def _waiting(url: str, rows: int, paused: int) -> dict[str, Any]:
    """Reads of one run's rows; those of a paused one lie between them in time and on disk."""
    spare_the_collector()
    async with Database.open(url, "pombo bench") as database:
        seeded = await seed(database, _WIRE, _CHANNELS, rows // 2)
        if paused:
            await _add_paused(database, seeded, paused)
        await enqueue(database, _WIRE, seeded, rows // 2, rows - rows // 2)
        async with database.borrow() as connection:
            await open_stream(connection, seeded)
        await settle_down(url)
        async with database.borrow() as connection:
            beginning: Cursors = [BEGINNING] * _CHANNELS
            first = [(await _read(connection, seeded, beginning))[0] for _ in range(5)]
            following = await _read_on(connection, seeded)
    figures = {
        "rows": rows,
        "paused": paused,
        "from_beginning_ms": median(first),
        "on_ms": median(took for took, _ in following),
        "on_most_ms": max(took for took, _ in following),
        "rows_a_read": median(count for _, count in following),
    }
    print(
        f"{rows:>10,} waiting, {paused:>7,} paused: {figures['rows_a_read']:,.0f} rows in {figures['on_ms']:.1f} ms "
        f"(most {figures['on_most_ms']:.1f}), from the beginning {figures['from_beginning_ms']:.1f} ms",
        flush=True,
    )
    return figures


async def _add_paused(database: Database, seeded: Seeded, count: int) -> None:
    run_id = await add_run(database, seeded.workspace_id, seeded.channel_ids, count)
    other = Seeded(seeded.workspace_id, seeded.channel_ids, run_id, seeded.api_key)
    await enqueue(database, _WIRE, other, 0, count)
    async with database.borrow() as connection:
        await open_stream(connection, other, "paused")


Rows = Sequence[Any]
Cursors = list[tuple[Any, int]]


async def _read(connection: Connection, seeded: Seeded, cursors: Cursors) -> tuple[float, Rows]:
    """Milliseconds and rows of one read."""
    limit = ROWS_A_READ // len(seeded.channel_ids)
    readings = [
        Reading(seeded.workspace_id, channel_id, seeded.run_id, due_at, id, limit)
        for channel_id, (due_at, id) in zip(seeded.channel_ids, cursors, strict=True)
    ]
    began = time.perf_counter()
    rows = await outbox.read_ahead(connection, readings)
    return (time.perf_counter() - began) * 1000, rows


async def _read_on(connection: Connection, seeded: Seeded) -> list[tuple[float, int]]:
    """Milliseconds and number of rows of each.

    A read begins where the one before ended, and at the end of what waits from the beginning again.
    """
    cursors: Cursors = [BEGINNING] * len(seeded.channel_ids)
    reads = []
    for _ in range(_READS):
        took, rows = await _read(connection, seeded, cursors)
        if not rows:
            cursors = [BEGINNING] * len(seeded.channel_ids)
            continue
        reads.append((took, len(rows)))
        for number, due_at, id, *_ in rows:
            cursors[number - 1] = (due_at, id)
    return reads


# --- under a snapshot -------------------------------------------------------------------------------------------------


def _under_snapshot(place: Place, options: argparse.Namespace) -> dict[str, Any]:
    with answer.at_once(place.directory, ANSWER_PORT, _WIRE) as server_url:
        url = place.pombo_database()
        figures = uvloop.run(_send_under_snapshot(url, server_url, options.snapshot_s, options.snapshot_rate))
    print(
        f"{figures['sent']:,} messages sent under a snapshot of {figures['seconds']:.0f} s ({figures['rate']:,.0f}/s): "
        f"a read took {figures['begin_ms']:.1f} ms at first, {figures['end_ms']:.1f} ms at last, "
        f"{figures['most_ms']:.1f} ms at most; at last {figures['share_at_last']:.1%} of the time went into reading",
        flush=True,
    )
    return figures


async def _send_under_snapshot(url: str, server_url: str, seconds: float, rate: float) -> dict[str, Any]:
    async with Database.open(url, "pombo bench") as database:
        messages = int(rate * seconds * 1.2)
        seeded = await seed(database, _WIRE, _CHANNELS, messages, rate=rate / _CHANNELS)
    await settle_down(url)
    connection = await pombo_processes.connect(url)
    looks: list[tuple[int, float]] = []
    async with pombo_processes.worker(url, server_url), _snapshot(url):
        await pombo_processes.all_leased(connection)
        await open_stream(connection, seeded)
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            await asyncio.sleep(_LOOK_S)
            looks.append(await _published(connection))
        took = time.perf_counter() - began
    sent = await connection.fetchval("SELECT count(*) FROM deliveries")
    await connection.close()
    # A pass from the beginning, which wades through what is dead, happens every PASS_S seconds: each span holds some.
    span = max(1, round(PASS_S[MessageClass.BULK] / _LOOK_S))
    spans = [_mean_ms(looks[i], looks[i + span]) for i in range(0, len(looks) - span, span)] or [0.0]
    return {
        "seconds": took,
        "sent": sent,
        "rate": sent / took,
        "begin_ms": spans[0],
        "end_ms": spans[-1],
        "most_ms": max(spans),
        "share_at_last": (looks[-1][1] - looks[-1 - span][1]) / (span * _LOOK_S) if len(looks) > span else 0.0,
        "spans_ms": spans,
    }


@asynccontextmanager
async def _snapshot(url: str) -> AsyncIterator[None]:
    """What a forgotten transaction or a long backup does: nothing that dies meanwhile can be cleaned up."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction(isolation="repeatable_read"):
            await connection.fetchval("SELECT count(*) FROM pg_class")
            yield
    finally:
        await connection.close()


async def _published(connection: asyncpg.Connection) -> tuple[int, float]:
    """Reads and seconds of reading since the worker's start."""
    stats = await connection.fetchval("SELECT stats FROM worker_stats ORDER BY updated_at DESC LIMIT 1")
    performance = json.loads(stats)["performance"] if stats else {}
    return performance.get("read_ahead_reads", 0), performance.get("read_ahead_seconds", 0.0)


def _mean_ms(before: tuple[int, float], after: tuple[int, float]) -> float:
    """Of a read between two looks."""
    return (after[1] - before[1]) * 1000 / max(1, after[0] - before[0])
