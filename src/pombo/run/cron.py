"""What one call of `/api/queue/worker` does where no worker is running: all that a worker would, in small."""

import asyncio
from collections.abc import Awaitable, Callable

from pombo.campaigns.cancelling import CancelDuty
from pombo.campaigns.expand import Expander
from pombo.campaigns.figures import FiguresDuty
from pombo.campaigns.pauses import PauseDuty
from pombo.domain.ids import WorkspaceId
from pombo.domain.opt_out import OptWords
from pombo.inbox.duties import wake_snoozed
from pombo.inbox.following import ReplyFollower
from pombo.ingest.ingester import Ingester
from pombo.run.place import Place
from pombo.run.worker_role import worker_options
from pombo.sending.once import BatchReport, process_batch
from pombo.settings import Settings
from pombo.store import workers_view
from pombo.store.database import Database

# Each of what comes before sending: a cron service gives a call about half a minute in all.
_SHARE_S = 3.0


async def one_batch(
    settings: Settings, place: Place, database: Database, workspace_id: WorkspaceId | None, count: int
) -> BatchReport:
    """Applies webhooks, expands audiences, sends one batch, counts, shows replies. Raises DatabaseUnavailable."""
    async with database.borrow() as connection:
        alone = not await workers_view.count_live_workers(connection)
    if alone:
        words = OptWords(settings.opt_out_words, settings.opt_in_words)
        await _while_there_is_work(Ingester(database, words).run_once)
        await _while_there_is_work(Expander(database).run_once)
    report = await process_batch(database, place.box, worker_options(settings), count, workspace_id)
    if alone:
        await PauseDuty(database).run_once()
        await CancelDuty(database).run_once()
        await FiguresDuty(database).run_once()
        await _while_there_is_work(ReplyFollower(database).run_once)
        await wake_snoozed(database)
    return report


async def _while_there_is_work(step: Callable[[], Awaitable[int | bool]]) -> None:
    clock = asyncio.get_running_loop().time
    until = clock() + _SHARE_S
    while clock() < until and await step():
        pass
