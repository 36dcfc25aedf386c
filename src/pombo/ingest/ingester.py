"""The loop that takes queued webhooks and applies them in batches."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

from pombo.domain.opt_out import OptWords
from pombo.ingest.answering import answer
from pombo.ingest.apart import apart
from pombo.ingest.conversing import Shown, converse
from pombo.ingest.gathering import Findings, ReadWebhook, account_names, channel_names, gather, in_full
from pombo.ingest.notices import heed
from pombo.ingest.people import renamed
from pombo.ingest.settling import settle
from pombo.meta.webhooks import WebhookFormatError, parse_webhook
from pombo.store import app_receipts, early_receipts, inbox_people, webhooks
from pombo.store.database import Connection, Database
from pombo.store.errors import DatabaseUnavailable
from pombo.store.events import ring
from pombo.store.planning import KEPT_AND_REPEATABLE
from pombo.store.receipts import Receipt
from pombo.store.webhooks import QueuedWebhook
from pombo.telemetry import log

# Webhooks of a batch; and so many bytes at most, because one webhook may hold 1,000 updates: 256 kB are some 800 of
# them, which hold the event loop, that lanes share, for about 20 ms in all.
_BATCH = 500
_BATCH_BYTES = 256 * 1024
# Where the bytes end a batch, no more are locked than are likely to fit: the rest is for the other loop, or process.
_LEAST_BATCH = 20
# Nobody rings when a NOTIFY is lost.
_POLL_S = 1.0
# Where no more waits than one batch takes, they are taken so far apart: one of a few costs about the same as one of
# some tens, and all that a stream of small ones takes of the machine, browsers wait for.
_GATHER_S = 0.025
# One takes and shows the next batch while the other sees to what follows from the last.
_LOOPS = 2
# A bad webhook's attempts, 2, 4, 8 and 16 s apart: enough to outlive a hiccup, not to hide a bug.
_ATTEMPTS = 5
_ERROR_LENGTH = 500


class _Turns:
    """One at a time; whoever has the turn may pass it on before its end."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Callable[[], None]]:
        """Gives what passes it on."""
        await self._lock.acquire()
        has_it = True

        def pass_on() -> None:
            nonlocal has_it
            if has_it:
                has_it = False
                self._lock.release()

        try:
            yield pass_on
        finally:
            pass_on()


class Ingester:
    """Ring `bell` upon a NOTIFY on `webhooks.BELL`."""

    def __init__(self, database: Database, words: OptWords | None = None) -> None:
        self.bell = asyncio.Event()
        self._database = database
        self._words = words or OptWords()
        self._batch = _BATCH
        self._turns = _Turns()
        self._gathers_until = float("-inf")
        # Batches under way that have left some of what waits.
        self._leaving = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set; the batches under way are finished first. Goes on whatever happens."""
        async with asyncio.TaskGroup() as loops:
            for _ in range(_LOOPS):
                loops.create_task(self._take_turns(stop))

    async def _take_turns(self, stop: asyncio.Event) -> None:
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                async with self._turns.turn() as pass_on:
                    await self._take_one(pass_on, stopping)
        finally:
            stopping.cancel()

    async def _take_one(self, pass_on: Callable[[], None], stopping: asyncio.Task[bool]) -> None:
        loop = asyncio.get_running_loop()
        if (pause := self._gathers_until - loop.time()) > 0:
            await _first(pause, stopping)
        if stopping.done():
            return
        self.bell.clear()
        try:
            taken = await self._apply_some(self._batch, pass_on)
        except DatabaseUnavailable as error:
            log.warning("database_away", loop="ingest", reason=str(error))
            await _first(_POLL_S, stopping)
        except Exception:
            log.exception("ingest_failed")
            await _first(_POLL_S, stopping)
        else:
            if not taken:
                await self._rest(stopping)

    async def run_once(self, limit: int = _BATCH) -> int:
        """Takes a batch and applies it; returns how many webhooks it took. Raises DatabaseUnavailable."""
        async with self._turns.turn() as pass_on:
            return await self._apply_some(limit, pass_on)

    async def _apply_some(self, limit: int, pass_on: Callable[[], None]) -> int:
        """How many webhooks it took. Calls `pass_on` when the next batch may be taken."""
        leaves_some = False
        try:
            async with self._database.transaction(webhooks.PATIENT, bounded=False) as queue:
                taken = await webhooks.take(queue, limit, _BATCH_BYTES)
                if not taken.webhooks:
                    return 0
                leaves_some = taken.is_full
                if leaves_some:
                    self._leaving += 1
                    likely = 2 * (len(taken.webhooks) if taken.by_bytes else self._batch)
                    self._batch = max(_LEAST_BATCH, min(_BATCH, likely))
                    # What this loop waits for the database, the other has for reading.
                    pass_on()
                elif not self._leaving:
                    self._gathers_until = asyncio.get_running_loop().time() + _GATHER_S
                await self._apply_taken(queue, taken.webhooks, pass_on)
                return len(taken.webhooks)
        finally:
            if leaves_some:
                self._leaving -= 1
                # What was locked in excess is free.
                self.bell.set()

    async def _apply_taken(
        self, queue: Connection, taken: Sequence[QueuedWebhook], pass_on: Callable[[], None]
    ) -> None:
        batch, unreadable = _read(taken)
        if unreadable:
            await webhooks.give_up(queue, unreadable)
        try:
            await self._apply(batch, pass_on)
        except DatabaseUnavailable:
            raise
        except Exception:
            log.warning("webhook_batch_failed", webhooks=len(batch), exc_info=True)
            await self._apply_one_by_one(queue, batch, pass_on)
        else:
            await webhooks.finish(queue, [webhook for webhook, _ in batch])

    async def _apply_one_by_one(
        self, queue: Connection, batch: Sequence[ReadWebhook], pass_on: Callable[[], None]
    ) -> None:
        for webhook, events in batch:
            try:
                await self._apply([(webhook, events)], pass_on)
            except DatabaseUnavailable:
                raise
            except Exception as error:
                await _set_aside(queue, webhook, error)
            else:
                await webhooks.finish(queue, [webhook])

    async def _apply(self, batch: Sequence[ReadWebhook], pass_on: Callable[[], None]) -> None:
        follow = await self._settle_and_show(batch)
        # No browser that the next batch concerns shall wait for what follows.
        pass_on()
        if follow is not None:
            await follow()

    async def _settle_and_show(self, batch: Sequence[ReadWebhook]) -> Callable[[], Awaitable[None]] | None:
        """Returns what is then to be done for what was said."""
        names, accounts = channel_names(batch), account_names(batch)
        if not names and not accounts:
            return None
        async with self._database.borrow() as connection:
            channels = await webhooks.resolve_channels(connection, names)
            of_accounts = await webhooks.resolve_accounts(connection, accounts)
        unknown = len(names) - len(channels) + len(accounts) - len(of_accounts)
        if unknown:
            log.info("webhook_channels_unknown", channels=unknown)
        findings = gather(batch, channels, of_accounts)
        unmatched: list[Receipt] = []
        if findings.evidence or findings.failures or findings.receipts or findings.watermarks:
            settled = await apart(self._database, partial(settle, findings=findings))
            unmatched = settled.unmatched
            if settled.unknown:
                findings.people.extend(in_full(batch, channels, settled.unknown))
            findings.people.extend(renamed(settled.renamed))
            if settled.accepted or unmatched or findings.watermarks:
                await apart(
                    self._database,
                    partial(
                        early_receipts.catch_up,
                        receipts=unmatched,
                        watermarks=findings.watermarks,
                        settled=settled.accepted,
                    ),
                )
        shown = await self._show(findings)
        return partial(self._follow, findings, shown, unmatched)

    async def _show(self, findings: Findings) -> Shown:
        """In conversations, after all that concerns deliveries was committed."""
        if not findings.people:
            return Shown(set(), set())
        lock = inbox_people.locking({(place.workspace_id, place.channel_id) for place, _ in findings.people})
        return await apart(
            self._database, partial(converse, said=findings.people, words=self._words), KEPT_AND_REPEATABLE, lock
        )

    async def _follow(self, findings: Findings, shown: Shown, unmatched: Sequence[Receipt]) -> None:
        """What follows: browsers hear of it, campaigns that were answered, receipts of what others sent, notices."""
        if findings.people:
            await self._ring()
        changed = 0
        if shown.answering:
            changed += await apart(self._database, partial(answer, contacts=shown.answering), KEPT_AND_REPEATABLE)
        if shown.of_apps or unmatched or findings.watermarks:
            changed += await apart(
                self._database,
                partial(
                    app_receipts.follow,
                    messages=shown.of_apps,
                    receipts=unmatched,
                    watermarks=findings.watermarks,
                ),
            )
        if findings.notices:
            await apart(self._database, partial(heed, told=findings.notices))
        if changed:
            await self._ring()

    async def _ring(self) -> None:
        """After the commit, and at most twice a batch."""
        async with self._database.borrow() as connection:
            await ring(connection)

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
        except Exception as error:
            # A mistake of the parser's must not hold up what was taken with it, again and again.
            unreadable.append((webhook, _in_words(error)))
            log.exception("webhook_parser_failed", workspace_id=webhook.workspace_id, webhook_id=webhook.id)
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
