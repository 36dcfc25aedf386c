"""`reply`: how long an agent's reply takes from the API to being accepted, while bulk messages wait and are sent.

One `pombo worker`, one `pombo api`. Replies are posted at an even pace, each in a conversation of its own, in turn over
all channels; the answering server says when it answered them. Its latency is in the figures, and taken off in one.
"""

import argparse
import asyncio
import contextlib
import json
import time
from array import array
from statistics import quantiles
from typing import Any

import uvloop

from bench import answer, pombo_processes
from bench.answer import Answerer
from bench.place import ANSWER_PORT, RECEIVER_PORT, Place, open_place, settle_down
from bench.results import machine
from bench.seeding import UNLIMITED, Seeded, open_stream, seed
from bench.server import Serving
from bench.wire import TEXT, WIRES, Wire
from pombo.domain.channels import ChannelKind
from pombo.store.database import Database

# Replies' recipients begin here, after all bulk ones.
_FIRST_REPLY = 100_000_000
_WARM_UP_S = 3.0
_CONNECTIONS = 8
_END_S = 30.0
# Numbered from 1; each contact has just written.
_CONVERSATIONS = """
WITH person AS (
    SELECT n, ($2::bigint[])[1 + (n - 1) % cardinality($2)] AS channel_id, recipient
    FROM unnest($3::text[]) WITH ORDINALITY AS r (recipient, n)
), contact AS (
    INSERT INTO contacts (workspace_id, id, channel_id, external_id, last_inbound_at)
    SELECT $1, n, channel_id, recipient, now() FROM person
), known AS (
    INSERT INTO identities (workspace_id, channel_id, identity, contact_id)
    SELECT $1, channel_id, recipient, n FROM person
)
INSERT INTO conversations (workspace_id, id, channel_id, contact_id, last_inbound_at)
SELECT $1, n, channel_id, n, now() FROM person
"""
_POST = (
    b"POST /api/send-message HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %b\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--waiting", type=int, default=1_000_000, help="bulk messages at the start")
    parser.add_argument("--replies", type=float, default=50.0, help="a second")
    parser.add_argument("--seconds", type=float, default=20.0, help="of replies")
    parser.add_argument("--channels", type=int, default=20)
    parser.add_argument(
        "--rates", type=float, nargs="+", default=[UNLIMITED, 40.0], help="of each channel, messages/s; a case each"
    )
    parser.add_argument("--latency-ms", type=float, nargs="+", default=[0, 80], help="of the answers")


def main(options: argparse.Namespace) -> dict[str, Any]:
    with open_place() as place:
        results = [
            _case(place, latency_ms, rate, options) for rate in options.rates for latency_ms in options.latency_ms
        ]
    return {"machine": machine(), "waiting": options.waiting, "replies_per_s": options.replies, "results": results}


def _case(place: Place, latency_ms: float, rate: float, options: argparse.Namespace) -> dict[str, Any]:
    wire = WIRES[ChannelKind.MESSENGER]
    count = int(options.replies * options.seconds)
    watched = range(_FIRST_REPLY, _FIRST_REPLY + count)
    with answer.ours(Serving(wire.kind, ANSWER_PORT, latency_ms / 1000, watched=watched)) as server:
        figures = uvloop.run(_measure(place, place.pombo_database(), server, wire, count, rate, options))
    result = {"latency_ms": latency_ms, "rate_per_channel": None if rate == UNLIMITED else rate, **figures}
    limit = "no limit" if rate == UNLIMITED else f"{rate:g}/s a channel"
    print(
        f"{latency_ms:.0f} ms, {limit}: p50 {result['p50_ms']:.1f}, p99 {result['p99_ms']:.1f}, "
        f"most {result['max_ms']:.1f} ms; bulk {result['bulk_rate']:,.0f}/s",
        flush=True,
    )
    return result


async def _measure(
    place: Place, url: str, server: Answerer, wire: Wire, count: int, rate: float, options: argparse.Namespace
) -> dict[str, Any]:
    async with Database.open(url, "pombo bench") as database:
        seeded = await seed(database, wire, options.channels, options.waiting, rate=rate)
        recipients = [wire.recipient(_FIRST_REPLY + n) for n in range(count)]
        async with database.transaction() as made:
            await made.execute(_CONVERSATIONS, seeded.workspace_id, seeded.channel_ids, recipients)
    await settle_down(url)
    connection = await pombo_processes.connect(url)
    async with pombo_processes.worker(url, server.url), pombo_processes.api(url):
        await pombo_processes.all_leased(connection)
        await open_stream(connection, seeded)
        await asyncio.sleep(_WARM_UP_S)
        answered, began = (await asyncio.to_thread(server.counts))["answered"], time.monotonic()
        posted = await _post_replies(seeded, count, options.replies)
        bulk = (await asyncio.to_thread(server.counts))["answered"] - answered
        seconds = time.monotonic() - began
        times = await _all_answered(server)
    await connection.close()
    took = sorted((at - since) * 1000 for at, since in zip(times, posted, strict=True))
    percentiles = quantiles(took, n=100, method="inclusive")
    return {
        "replies": count,
        "p50_ms": percentiles[49],
        "p99_ms": percentiles[98],
        "max_ms": took[-1],
        "bulk_rate": max(0, bulk - count) / seconds,
    }


async def _post_replies(seeded: Seeded, count: int, rate: float) -> "array[float]":
    """Posts at the pace, whether or not earlier ones were answered; returns when each was posted (time.monotonic)."""
    posted = array("d", bytes(8 * count))
    free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(_CONNECTIONS):
        free.put_nowait(await asyncio.open_connection("127.0.0.1", RECEIVER_PORT))

    async def post(n: int) -> None:
        document = {
            "conversationId": n + 1,
            "content": {"type": "text", "text": TEXT},
        }
        body = json.dumps(document).encode()
        posted[n] = time.monotonic()
        reader, writer = await free.get()
        writer.write(_POST % (seeded.api_key.encode(), len(body), body))
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        answer = await reader.readexactly(length)
        free.put_nowait((reader, writer))
        if b" 202 " not in head.split(b"\r\n", 1)[0]:
            raise RuntimeError(f"POST /api/send-message was answered with {head.splitlines()[0]!r}: {answer[:500]!r}")

    began = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for n in range(count):
            await asyncio.sleep(max(0.0, began + n / rate - time.monotonic()))
            tasks.create_task(post(n))
    while not free.empty():
        free.get_nowait()[1].close()
    return posted


async def _all_answered(server: Answerer) -> "array[float]":
    times = await asyncio.to_thread(server.answered_at)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_END_S):
            while not all(times):
                await asyncio.sleep(0.1)
                times = await asyncio.to_thread(server.answered_at)
    assert all(times), f"{sum(not at for at in times)} of {len(times)} replies were never accepted"
    return times
