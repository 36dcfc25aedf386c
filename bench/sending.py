"""`sending`: the whole sender against a constant answer, as a ratio of what `wrk` gets from it.

Each case: a fresh database, the messages in the outbox, one `pombo worker` process, everything on (rendering, leases,
pacing, intents, delivery log, counters). The ceiling is measured right before and right after each case.
"""

import argparse
import time
from dataclasses import asdict, dataclass
from typing import Any

import uvloop

from bench import answer, ceiling, pombo_processes, setup
from bench.place import ANSWER_PORT, Place, open_place, settle_down, until
from bench.processes import cpu_seconds
from bench.results import machine
from bench.seeding import open_stream, seed
from bench.wire import WIRES, Wire
from pombo.domain.channels import ChannelKind
from pombo.store.database import Database


@dataclass(frozen=True, slots=True)
class Result:
    latency_s: float
    channels: int
    messages: int
    seconds: float
    worker_cpu_s: float
    database_cpu_s: float


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--channels", type=int, nargs="+", default=[1, 20, 500])
    parser.add_argument("--latency-ms", type=float, nargs="+", default=[0, 80], help="of the answers")
    parser.add_argument("--kind", choices=list(ChannelKind), default=ChannelKind.MESSENGER, type=ChannelKind)
    parser.add_argument("--variables", action="store_true", help="personalise each message")


def main(options: argparse.Namespace) -> dict[str, Any]:
    setup.ensure_programs("nginx", "wrk")
    print(f"{'latency':>8} {'channels':>8} {'messages/s':>11} {'ceiling':>9} {'ratio':>6} {'CPU ms per 1,000':>30}")
    with open_place() as place:
        results = [
            _case(place, WIRES[options.kind], latency_ms / 1000, count, options)
            for latency_ms in options.latency_ms
            for count in options.channels
        ]
    return {"machine": machine(), "kind": options.kind, "results": results}


def _case(place: Place, wire: Wire, latency_s: float, count: int, options: argparse.Namespace) -> dict[str, Any]:
    url = place.pombo_database()
    with answer.answering(place.directory, ANSWER_PORT, wire, latency_s) as server_url:
        before = ceiling.requests_per_second(place.directory, server_url, wire)
        result = uvloop.run(_measure(place, url, server_url, wire, latency_s, count, options))
        after = ceiling.requests_per_second(place.directory, server_url, wire)
    top, rate = (before + after) / 2, result.messages / result.seconds
    worker, database = (cpu * 1e6 / result.messages for cpu in (result.worker_cpu_s, result.database_cpu_s))
    print(
        f"{latency_s * 1000:>5.0f} ms {count:>8} {rate:>11,.0f} {top:>9,.0f} {rate / top:>6.2f} "
        f"worker {worker:>5.1f} + database {database:>5.1f}",
        flush=True,
    )
    return {**asdict(result), "rate": rate, "ceilings": [before, after]}


async def _measure(
    place: Place, url: str, server_url: str, wire: Wire, latency_s: float, count: int, options: argparse.Namespace
) -> Result:
    """The clock runs from the bell to the last outcome saved."""
    messages = options.messages
    async with Database.open(url, "pombo bench") as database:
        seeded = await seed(database, wire, count, messages, variables=options.variables)
    await settle_down(url)
    connection = await pombo_processes.connect(url)
    async with pombo_processes.worker(url, server_url) as worker:
        await pombo_processes.all_leased(connection)
        before = cpu_seconds(worker.processes()), place.database_cpu_s()
        began = time.perf_counter()
        await open_stream(connection, seeded)
        await until(connection, "SELECT NOT EXISTS (SELECT FROM outbox)")
        seconds = time.perf_counter() - began
        after = cpu_seconds(worker.processes()), place.database_cpu_s()
    accepted = await connection.fetchval("SELECT count(*) FROM deliveries WHERE state = 2")
    await connection.close()
    assert accepted == messages, f"{accepted} of {messages} were accepted"
    return Result(latency_s, count, messages, seconds, after[0] - before[0], after[1] - before[1])
