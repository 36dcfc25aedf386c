"""`pombo worker`: sends, expands audiences, applies webhooks, keeps figures and tends the tables."""

import asyncio
import contextlib
import os
import signal
from datetime import timedelta
from functools import partial
from pathlib import Path

from pombo.campaigns.cancelling import CancelDuty
from pombo.campaigns.expand import Expander
from pombo.campaigns.figures import FiguresDuty
from pombo.campaigns.pauses import PauseDuty
from pombo.campaigns.sweep import sweep_abandoned
from pombo.domain.opt_out import OptWords
from pombo.inbox.duties import strip_deleted_labels, wake_snoozed
from pombo.inbox.following import ReplyFollower
from pombo.ingest.history import HistoryReader
from pombo.ingest.ingester import Ingester
from pombo.run.lifecycle import database_when_there, spare_the_collector, stop_on_signals, stop_with_supervisor
from pombo.run.media import media_files
from pombo.run.place import Place
from pombo.run.reload import Reload, first_of
from pombo.sending.worker import Worker, WorkerOptions
from pombo.settings import Settings
from pombo.store import channel_jobs, replies, webhooks
from pombo.store.audience import DUE_BELL
from pombo.store.channels import LEASE_BELL
from pombo.store.database import Database
from pombo.store.direct import parse_due
from pombo.store.run_control import CONTROL_BELL
from pombo.store.runs import NEW_RUN_BELL
from pombo.telemetry import log
from pombo.upkeep import old_events
from pombo.upkeep.schedule import Duty, Upkeep

_DUTIES_S = 3.0
_SWEEP_EVERY = timedelta(minutes=5)
_WAKE_EVERY = timedelta(seconds=5)
_STRIP_EVERY = timedelta(minutes=1)


def worker_options(settings: Settings) -> WorkerOptions:
    return WorkerOptions(
        graph_api_url=settings.graph_api_url,
        graph_api_version=settings.graph_api_version,
        concurrency=settings.worker_concurrency,
        max_sockets=settings.max_sockets,
        global_rate=settings.rate_limit_max_jobs_per_second,
        attempts=settings.send_attempts,
        content_failures=settings.content_failures_in_a_row,
        answer_timeout_s=settings.answer_timeout_s,
        lease_s=settings.lease_s,
        breaker_enabled=settings.circuit_breaker_enabled,
        breaker_threshold=settings.circuit_breaker_threshold,
        breaker_timeout_s=settings.circuit_breaker_timeout_ms / 1000,
        outcome_batch=settings.log_batch_size,
        outcome_linger_s=settings.log_batch_interval_ms / 1000,
        most_media_bytes=settings.media_max_mb * 2**20,
    )


def _ring_due(worker: Worker, payload: str) -> None:
    """The payload names a direct message's stream; without one, any may have something."""
    if (stream := parse_due(payload)) is None:
        worker.ring()
    else:
        worker.ring_direct(*stream)


def _stop_once(file: Path) -> None:
    """For tests of what no scheduler can be asked for: stops this process between the look at its deadline and the
    first byte of a message, once for each time that the file is made. Whoever removes it has stopped."""
    with contextlib.suppress(FileNotFoundError):
        file.unlink()
        os.kill(os.getpid(), signal.SIGSTOP)


async def run_worker(settings: Settings, place: Place) -> None:
    """Until SIGTERM or SIGINT; SIGHUP ends what it does in the same way, and begins anew. Raises SchemaError."""
    stop = stop_on_signals()
    reload = Reload(settings, stop)
    watching = asyncio.create_task(stop_with_supervisor(stop), name="supervisor")
    try:
        async with database_when_there(place.database_url, "pombo worker", stop) as database:
            while database is not None and not stop.is_set():
                reload.wanted.clear()
                async with first_of(stop, reload.wanted) as end:
                    await _work(reload.settings, place, database, end)
                if not stop.is_set():
                    log.info("settings_reloaded")
    finally:
        watching.cancel()


async def _work(settings: Settings, place: Place, database: Database, stop: asyncio.Event) -> None:
    worker = Worker(database, place.box, worker_options(settings), files=media_files(settings))
    if stop_file := os.environ.get("POMBO_TEST_STOP_BEFORE_WRITE"):
        worker.sender.before_write = partial(_stop_once, Path(stop_file))
    words = OptWords(settings.opt_out_words, settings.opt_in_words)
    expander, ingester, history = Expander(database), Ingester(database, words), HistoryReader(database, words)
    pauses, cancelling = PauseDuty(database), CancelDuty(database)
    event_retention = timedelta(hours=settings.event_retention_hours)
    follower = ReplyFollower(database)

    def ring_control(_: str) -> None:
        pauses.bell.set()
        cancelling.bell.set()

    bells = {
        DUE_BELL: lambda payload: _ring_due(worker, payload),
        LEASE_BELL: lambda _: worker.ring_leases(),
        NEW_RUN_BELL: lambda _: expander.bell.set(),
        CONTROL_BELL: ring_control,
        webhooks.BELL: lambda _: ingester.bell.set(),
        channel_jobs.BELL: lambda _: worker.jobs.bell.set(),
        channel_jobs.FETCHED_BELL: lambda _: history.bell.set(),
        replies.BELL: lambda _: follower.bell.set(),
    }

    spare_the_collector()
    # Bells only save waiting for the next poll, so that losing them loses nothing.
    listening = asyncio.create_task(database.keep_listening(bells, began=worker.ring), name="bells")
    duties = [
        asyncio.create_task(worker.run(stop), name="sending"),
        asyncio.create_task(expander.run(stop), name="expander"),
        asyncio.create_task(ingester.run(stop), name="ingest"),
        asyncio.create_task(history.run(stop), name="history"),
        asyncio.create_task(follower.run(stop), name="replies"),
        asyncio.create_task(FiguresDuty(database).run(stop), name="figures"),
        asyncio.create_task(pauses.run(stop), name="pauses"),
        asyncio.create_task(cancelling.run(stop), name="cancelling"),
        asyncio.create_task(
            Upkeep(
                database,
                retention_days=settings.log_retention_days,
                webhook_retention_days=settings.webhook_retention_days,
                partition_days_ahead=settings.partition_days_ahead,
                more=[
                    Duty("abandoned_uploads", _SWEEP_EVERY, partial(sweep_abandoned, database)),
                    Duty("old_events", _SWEEP_EVERY, partial(old_events.run_once, database, event_retention)),
                    Duty("snoozed_conversations", _WAKE_EVERY, partial(wake_snoozed, database)),
                    Duty("deleted_labels", _STRIP_EVERY, partial(strip_deleted_labels, database)),
                ],
            ).run(stop),
            name="upkeep",
        ),
    ]
    try:
        done, _ = await asyncio.wait(duties, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        stop.set()
        listening.cancel()
        # Sending bounds its own end. The others' work is done in transactions that can be done again at any time.
        sending, *others = duties
        await asyncio.wait([sending])
        _, late = await asyncio.wait(others, timeout=_DUTIES_S)
        for task in late:
            task.cancel()
        ended = await asyncio.gather(*duties, listening, return_exceptions=True)
        log.info("worker_stopped", failed=sum(isinstance(end, Exception) for end in ended))
