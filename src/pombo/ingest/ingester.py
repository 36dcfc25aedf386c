"""The loop that takes queued webhooks and applies them in batches."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from pombo.ingest.gathering import ReadWebhook, channel_names, gather, waves
from pombo.ingest.status_errors import heed
from pombo.meta.webhooks import WebhookFormatError, parse_webhook
from pombo.store import channel_evidence, receipts, settlement, webhooks
from pombo.store.database import TRY_AGAIN, Connection, Database
from pombo.store.errors import DatabaseUnavailable
from pombo.store.receipts import AcceptedMessage
from pombo.store.webhooks import QueuedWebhook
from pombo.telemetry import log

# Webhooks of a batch; and so many bytes at most, because one webhook may hold 1,000 updates: 256 kB are some 800 of
# them, which hold the event loop, that lanes share, for about 20 ms in all.
_BATCH = 500
_BATCH_BYTES = 256 * 1024
# Nobody rings when a NOTIFY is lost.
_POLL_S = 1.0
# While webhooks trickle in, so long is gathered: a batch costs about the same for one as for fifty.
_GATHER_S = 0.02
# A bad webhook's attempts, 2, 4, 8 and 16 s apart: enough to outlive a hiccup, not to hide a bug.
_ATTEMPTS = 5
# A deadlock takes the server a second to notice; as many in a row are no accident.
_TRIES = 5
_ERROR_LENGTH = 500


class Ingester:
    """Ring `bell` upon a NOTIFY on `webhooks.BELL`."""

    def __init__(self, database: Database) -> None:
        self.bell = asyncio.Event()
        self._database = database

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set; the batch under way is finished first. Goes on whatever happens."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                self.bell.clear()
                try:
                    taken = await self.run_once()
                except DatabaseUnavailable as error:
                    log.warning("database_away", loop="ingest", reason=str(error))
                    await _first(_POLL_S, stopping)
                except Exception:
                    log.exception("ingest_failed")
                    await _first(_POLL_S, stopping)
                else:
                    if taken == 0:
                        await self._rest(stopping)
                    elif taken < _BATCH:
                        await _first(_GATHER_S, stopping)
        finally:
            stopping.cancel()

    async def run_once(self, limit: int = _BATCH) -> int:
        """Takes a batch and applies it; returns how many webhooks it took. Raises DatabaseUnavailable."""
        async with self._database.transaction(bounded=False) as queue:
            taken = await webhooks.take(queue, limit, _BATCH_BYTES)
            if not taken:
                return 0
            batch, unreadable = _read(taken)
            if unreadable:
                await webhooks.give_up(queue, unreadable)
            try:
                await self._apply(batch)
            except DatabaseUnavailable:
                raise
            except Exception:
                log.warning("webhook_batch_failed", webhooks=len(batch), exc_info=True)
                await self._apply_one_by_one(queue, batch)
            else:
                await webhooks.finish(queue, [webhook for webhook, _ in batch])
            return len(taken)

    async def _apply_one_by_one(self, queue: Connection, batch: Sequence[ReadWebhook]) -> None:
        for webhook, events in batch:
            try:
                await self._apply([(webhook, events)])
            except DatabaseUnavailable:
                raise
            except Exception as error:
                await _set_aside(queue, webhook, error)
            else:
                await webhooks.finish(queue, [webhook])

    async def _apply(self, batch: Sequence[ReadWebhook]) -> None:
        for tries_left in reversed(range(_TRIES)):
            try:
                await self._try_to_apply(batch)
            except TRY_AGAIN:
                if not tries_left:
                    raise
                log.info("ingest_tries_again", webhooks=len(batch))
            else:
                return

    async def _try_to_apply(self, batch: Sequence[ReadWebhook]) -> None:
        names = channel_names(batch)
        if not names:
            return
        async with self._database.transaction() as connection:
            channels = await webhooks.resolve_channels(connection, names)
            if len(channels) < len(names):
                log.info("webhook_channels_unknown", channels=len(names) - len(channels))
            findings = gather(batch, channels)
            evidence, heard = await receipts.sift(connection, findings.evidence)
            for wave in waves(evidence):
                await settlement.settle_evidence(connection, wave)
            heard += (await receipts.sift(connection, evidence))[1]
            await heed(connection, findings.failures)
            unmatched = await receipts.apply(connection, findings.receipts)
            await receipts.keep(connection, unmatched, findings.watermarks)
            await channel_evidence.note(connection, heard)
        settled = [AcceptedMessage(e.workspace_id, e.channel_id, e.message_id, e.provider_id, e.day) for e in evidence]
        if settled or unmatched or findings.watermarks:
            async with self._database.transaction() as connection:
                await receipts.catch_up(connection, unmatched, findings.watermarks, settled)

    async def _rest(self, stopping: asyncio.Task[bool]) -> None:
        ringing = asyncio.create_task(self.bell.wait())
        try:
            await _first(_POLL_S, stopping, ringing)
        finally:
            ringing.cancel()


def _read(taken: Sequence[QueuedWebhook]) -> tuple[list[ReadWebhook], list[tuple[QueuedWebhook, str]]]:
    """The events of those that can be read, and what is wrong with the others."""
    batch: list[ReadWebhook] = []
    unreadable: list[tuple[QueuedWebhook, str]] = []
    for webhook in taken:
        if webhook.body is None:
            unreadable.append((webhook, "Its bytes are no longer in the log: its retention is over."))
            continue
        try:
            batch.append((webhook, parse_webhook(webhook.body).events))
        except WebhookFormatError as error:
            unreadable.append((webhook, _in_words(error)))
            log.warning("webhook_unreadable", workspace_id=webhook.workspace_id, webhook_id=webhook.id)
    return batch, unreadable


async def _set_aside(queue: Connection, webhook: QueuedWebhook, error: Exception) -> None:
    attempts = webhook.attempts + 1
    log.error(
        "webhook_failed",
        workspace_id=webhook.workspace_id,
        webhook_id=webhook.id,
        attempts=attempts,
        given_up=attempts >= _ATTEMPTS,
        exc_info=error,
    )
    if attempts >= _ATTEMPTS:
        await webhooks.give_up(queue, [(webhook, _in_words(error))])
    else:
        await webhooks.postpone(queue, webhook, _in_words(error), timedelta(seconds=2**attempts))


def _in_words(error: Exception) -> str:
    # PostgreSQL's text takes no NUL.
    return f"{type(error).__name__}: {error}".replace("\0", "")[:_ERROR_LENGTH]


async def _first(timeout: float, *tasks: asyncio.Task[bool]) -> None:
    await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
