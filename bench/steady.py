"""`steady`: many channels, each at its own rate, all at once: the rate reached, and how even it is.

Default: 500 channels at 40 messages/s each, Meta's brake for a Page: 20,000/s in all.
"""

import argparse
import asyncio
import time
from typing import Any

import uvloop

from bench import answer, pombo_processes, setup
from bench.place import ANSWER_PORT, Place, open_place, settle_down
from bench.processes import cpu_seconds
from bench.results import machine
from bench.seeding import open_stream, seed
from bench.wire import WIRES
from pombo.domain.channels import ChannelKind
from pombo.store.database import Database

# Lanes begin with empty buckets and closed connections.
_WARM_UP_S = 3.0


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--channels", type=int, default=500)
    parser.add_argument("--rate", type=float, default=40.0, help="of each channel, messages/s")
    parser.add_argument("--seconds", type=float, default=20.0, help="measured, after a few to warm up")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="of the answers")
    parser.add_argument("--sockets", type=int, default=500)


def main(options: argparse.Namespace) -> dict[str, Any]:
    setup.ensure_programs("nginx")
    wire, latency_s = WIRES[ChannelKind.MESSENGER], options.latency_ms / 1000
    with open_place() as place, answer.answering(place.directory, ANSWER_PORT, wire, latency_s) as server_url:
        url = place.pombo_database()
        figures = uvloop.run(_measure(place, url, server_url, options))
    print(
        f"{options.channels} channels at {options.rate:g}/s: {figures['rate']:,.0f} of {figures['wanted']:,.0f} "
        f"messages/s; a channel from {figures['least']:.1f} to {figures['most']:.1f}/s, median {figures['median']:.1f}"
    )
    return {"machine": machine(), "channels": options.channels, "latency_ms": options.latency_ms, **figures}


async def _measure(place: Place, url: str, server_url: str, options: argparse.Namespace) -> dict[str, Any]:
    wire = WIRES[ChannelKind.MESSENGER]
    # What is left over at the end keeps every channel busy until then.
    each = int(options.rate * (options.seconds + _WARM_UP_S) * 1.1) + 50
    async with Database.open(url, "pombo bench") as database:
        seeded = await seed(database, wire, options.channels, each * options.channels, rate=options.rate)
    await settle_down(url)
    connection = await pombo_processes.connect(url)
    async with pombo_processes.worker(url, server_url, options.sockets) as worker:
        await pombo_processes.all_leased(connection)
        await open_stream(connection, seeded)
        await asyncio.sleep(_WARM_UP_S)
        before, began = (cpu_seconds(worker.processes()), place.database_cpu_s()), time.perf_counter()
        since = await connection.fetchval("SELECT clock_timestamp()")
        await asyncio.sleep(options.seconds)
        until = await connection.fetchval("SELECT clock_timestamp()")
        after, seconds = (cpu_seconds(worker.processes()), place.database_cpu_s()), time.perf_counter() - began
        peak = worker.peak_rss_mb()
    row = await connection.fetchrow(
        """SELECT sum(n) AS total, min(n) AS least, max(n) AS most,
                  percentile_cont(0.5) WITHIN GROUP (ORDER BY n) AS median
           FROM (
               SELECT c.id, count(d.id) AS n FROM unnest($3::bigint[]) AS c (id)
               LEFT JOIN deliveries d ON d.channel_id = c.id AND d.accepted_at >= $1 AND d.accepted_at < $2
               GROUP BY c.id
           ) sent""",
        since,
        until,
        seeded.channel_ids,
    )
    await connection.close()
    assert row is not None
    total = int(row["total"])
    return {
        "wanted": options.channels * options.rate,
        "seconds": seconds,
        "rate": total / seconds,
        "least": row["least"] / seconds,
        "median": float(row["median"]) / seconds,
        "most": row["most"] / seconds,
        "worker_cpu_ms_per_1000": (after[0] - before[0]) * 1e6 / max(total, 1),
        "database_cpu_ms_per_1000": (after[1] - before[1]) * 1e6 / max(total, 1),
        "peak_rss_mb": peak,
    }
