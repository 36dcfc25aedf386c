"""One batch, for hosts that only have cron (row D4): a worker that sends at most so many messages and ends."""

import asyncio
from dataclasses import dataclass

from pombo.domain.ids import WorkspaceId
from pombo.sending.worker import Worker, WorkerOptions
from pombo.store import workers_view
from pombo.store.database import Database
from pombo.store.secrets import SecretBox

# A cron service gives up after about as long; what is not answered by then is left in doubt for the next call.
LONGEST_S = 25.0
# So long without a message to send, and there is none: two rounds of taking channels and reading.
QUIET_S = 2.5


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What one call did. Channels that a running worker owns are left to it."""

    channels: int
    accepted: int
    failed: int
    retried: int
    uncertain: int

    @property
    def processed(self) -> int:
        return self.accepted + self.failed + self.retried + self.uncertain


async def process_batch(
    database: Database, box: SecretBox, options: WorkerOptions, count: int, workspace_id: WorkspaceId | None = None
) -> BatchReport:
    """At most `count` messages, of one workspace or of all. Raises DatabaseUnavailable."""
    async with database.borrow() as connection:
        # Raises here rather than waiting for a database that is away, as a running worker would.
        await workers_view.count_live_workers(connection)
    worker, stop = Worker(database, box, options, budget=count, workspace_id=workspace_id), asyncio.Event()
    task = asyncio.create_task(worker.run(stop))
    channels = 0
    try:
        async with asyncio.timeout(LONGEST_S):
            while not task.done():
                before = worker.sender.stats.collected
                worker.saved.clear()
                waiting = asyncio.create_task(worker.saved.wait())
                await asyncio.wait([waiting, task], timeout=QUIET_S, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                channels = max(channels, len(worker.lanes))
                spent = worker.sender.budget == 0 or worker.sender.stats.collected == before
                if spent and worker.sender.quiet and not worker.writer.stats.unsaved:
                    break
    except TimeoutError:
        pass
    finally:
        # Also when the request was cancelled: its worker must not go on unseen.
        stop.set()
        await asyncio.shield(task)
    stats = worker.sender.stats
    return BatchReport(channels, stats.accepted, stats.failed, stats.retried, stats.uncertain)
