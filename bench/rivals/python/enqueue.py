"""Puts messages into the queue by pgqueuer's `enqueue` of lists, as its documentation shows for many."""

import asyncpg
import uvloop
from lines import heard, tell
from pgqueuer.queries import Queries
from work import job

_AT_ONCE = 5000


async def main() -> None:
    connection = await asyncpg.connect()
    queries = Queries.from_asyncpg_connection(connection)
    await queries.install()
    # "Run `pgq autovac` after installation".
    await queries.optimize_autovacuum()
    tell({"ready": True})
    async for document in heard():
        first, count = document["enqueue"]
        for start in range(first, first + count, _AT_ONCE):
            some = min(_AT_ONCE, first + count - start)
            await queries.enqueue(["send"] * some, [job(n) for n in range(start, start + some)], [0] * some)
        tell({"enqueued": count})


uvloop.run(main())
