"""pgqueuer's worker: a connection of its own for the queue, one HTTP session in the shared resources."""

import asyncio
import json

import aiohttp
import asyncpg
import uvloop
from lines import heard, tell
from log import DeliveryLog
from pgqueuer import PgQueuer
from pgqueuer.models import Context, Job
from work import HEADERS, WORK, body, target

# As many jobs as connections, fetched by 50: of 25 to 500 the fastest here. A batch may be half of the jobs at most.
_TASKS = WORK["connections"]
_BATCH = min(50, _TASKS // 2)


async def main() -> None:
    # "Always use a direct connection for the QueueManager"; the pool is for what the application does.
    connection = await asyncpg.connect()
    async with (
        asyncpg.create_pool(min_size=1, max_size=4) as pool,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=_TASKS), headers=HEADERS) as http,
    ):
        log = DeliveryLog(pool)
        pgqueuer = PgQueuer.from_asyncpg_connection(connection, resources={"http": http, "log": log})

        @pgqueuer.entrypoint("send")
        async def send(job: Job, context: Context) -> None:
            message = json.loads(job.payload or b"")
            async with context.resources["http"].post(target(message), data=body(message)) as answer:
                answer.raise_for_status()
                document = await answer.json()
            context.resources["log"].accepted(message, document["messages"][0]["id"])

        tell({"ready": True})
        lines = heard()
        await anext(lines)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(log.run())
            tasks.create_task(pgqueuer.run(batch_size=_BATCH, max_concurrent_tasks=_TASKS))


uvloop.run(main())
