"""Pages of a channel's past, fetched by its lease owner, become messages of conversations as webhooks would have.

Nothing that webhooks brought comes twice, for a message is there once by Meta's id. What we sent ourselves is left to
the delivery log and its evidence: such messages are known by their ids, and what is younger than a quarter of an hour
may not be known yet.

The past is no news: nothing of it is unread, opens a conversation again, or signals flows. But what a contact wrote
since the channel was added, within `NEWS_FOR`, a webhook may have missed or may still bring: it counts as one would
have counted it. Whoever inserts a message decides, so it counts once, whichever comes first.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import msgspec

from pombo.domain.news import NEWS_FOR
from pombo.domain.opt_out import OptWords
from pombo.ingest.answering import answer
from pombo.ingest.apart import apart
from pombo.ingest.conversing import Shown, converse
from pombo.ingest.gathering import PersonEvent, Place, in_its_time
from pombo.meta.history import HistoryPage, read_page
from pombo.store import app_receipts, channel_jobs, events, inbox_people, own_messages, syncs
from pombo.store.channel_jobs import FetchedJob
from pombo.store.database import TRY_AGAIN, Connection, Database
from pombo.store.errors import DatabaseUnavailable
from pombo.store.planning import KEPT_AND_REPEATABLE
from pombo.store.syncs import Sync
from pombo.telemetry import log

# Echoes, and our own evidence, are never later than this without having been asked for again.
_SETTLED_AFTER = timedelta(minutes=15)
_POLL_S = 1.0
# Cursors that Meta refuses one after the other, with no page read in between: then there is no getting on.
_REFUSALS = 5
# Of a page that cannot be applied, a poll apart: enough to outlive a hiccup.
_ATTEMPTS = 5


class HistoryReader:
    """Ring `bell` upon a NOTIFY on `channel_jobs.FETCHED_BELL`. Any number of processes may run one."""

    def __init__(self, database: Database, words: OptWords | None = None) -> None:
        self.bell = asyncio.Event()
        self._database = database
        self._words = words or OptWords()
        # By the job's id, how often its page could not be applied.
        self._failures: dict[int, int] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set. Goes on whatever happens: what failed is still there."""
        while not stop.is_set():
            self.bell.clear()
            try:
                while await self.run_once() and not stop.is_set():
                    pass
            except DatabaseUnavailable as error:
                log.warning("database_away", loop="history", reason=str(error))
            except TRY_AGAIN:
                continue
            except Exception:
                log.exception("history_not_applied")
            try:
                async with asyncio.timeout(_POLL_S):
                    await self.bell.wait()
            except TimeoutError:
                continue

    async def run_once(self) -> bool:
        """Applies one page; False where none waits. Raises DatabaseUnavailable, or whatever applying it raised."""
        taken: list[FetchedJob] = []
        new = Shown(set(), set())
        try:
            async with self._database.transaction(KEPT_AND_REPEATABLE) as connection:
                taken = await channel_jobs.take_fetched(connection, 1)
                for job in taken:
                    new = await self._apply(connection, job)
                if new.answering:
                    await answer(connection, new.answering)
                if new.of_apps:
                    # The job is gone with this commit: only what is kept at this moment is left to the second look.
                    await app_receipts.follow(connection, new.of_apps)
        except (DatabaseUnavailable, *TRY_AGAIN):
            raise
        except Exception:
            for job in taken:
                await self._count_failure(job)
            raise
        for job in taken:
            self._failures.pop(job.id, None)
        if new.of_apps:
            await apart(self._database, partial(app_receipts.follow, messages=new.of_apps))
        if taken:
            async with self._database.borrow() as connection:
                await events.ring(connection)
        return bool(taken)

    async def _count_failure(self, job: FetchedJob) -> None:
        """Ends the sync of a page that can never be applied, before it holds up all others for good."""
        failures = self._failures[job.id] = self._failures.get(job.id, 0) + 1
        if failures < _ATTEMPTS:
            return
        del self._failures[job.id]
        async with self._database.transaction() as connection:
            if await channel_jobs.drop_fetched(connection, job):
                sync_id = int(msgspec.json.decode(job.payload)["syncId"])
                await syncs.fail(
                    connection, job.workspace_id, sync_id, None, "A mistake of Pombo's; its log says more."
                )

    async def _apply(self, connection: Connection, job: FetchedJob) -> Shown:
        """Returns what was said."""
        nothing = Shown(set(), set())
        payload: dict[str, Any] = msgspec.json.decode(job.payload)
        fetched: dict[str, Any] = msgspec.json.decode(job.result)
        sync = await syncs.lock(connection, job.workspace_id, int(payload["syncId"]))
        if sync is None:
            return nothing
        if fetched.get("tooMuch"):
            smaller = sync._replace(page_size=max(1, int(payload["limit"]) // 2))
            await syncs.advance(connection, job.workspace_id, smaller, threads=0, messages=0)
            await syncs.want_page(connection, job.workspace_id, smaller)
            return nothing
        refusals: int = payload.get("refusals", 0)
        if fetched.get("refused"):
            # The cursor has ended. From the top again, quickly over what lies after `reached_at`.
            refusals += 1
            if refusals >= _REFUSALS:
                why = f"Meta has refused its own cursor {refusals} times in a row. Start the sync again later."
                await syncs.fail(connection, job.workspace_id, sync.id, None, why)
                return nothing
            again = sync._replace(cursor=None)
            await syncs.advance(connection, job.workspace_id, again, threads=0, messages=0)
            passing = sync.reached_at is not None
            await syncs.want_page(connection, job.workspace_id, again, passing=passing, refusals=refusals)
            return nothing
        external_id, added_at = await own_messages.channel_of(connection, job.workspace_id, job.channel_id)
        page = read_page(external_id, fetched["page"])
        if payload.get("passing"):
            await self._pass(connection, job.workspace_id, sync, page, payload.get("after"), refusals)
            return nothing
        read = len(page.updated)
        if payload.get("again") and sync.reached_at is not None:
            read = page.count_before(sync.reached_at)
        new = await self._keep(connection, Place(job.workspace_id, job.channel_id), page, added_at)
        moved = sync._replace(
            cursor=page.after, reached_at=_earlier(sync.reached_at, page.reached_at), threads=sync.threads + read
        )
        await syncs.advance(connection, job.workspace_id, moved, threads=read, messages=new.inserted)
        if page.after is None or moved.threads >= moved.wanted:
            await syncs.complete(connection, job.workspace_id, sync.id)
        else:
            await syncs.want_page(connection, job.workspace_id, moved)
        return new

    async def _pass(
        self, connection: Connection, workspace_id: int, sync: Sync, page: HistoryPage, after: str | None, refusals: int
    ) -> None:
        """Over threads that were read before; the page that holds the last of them is asked for again, in full."""
        there = sync.reached_at is None or page.reached_at is None or page.reached_at <= sync.reached_at
        if page.after is None and not there:
            await syncs.complete(connection, workspace_id, sync.id)
            return
        moved = sync._replace(cursor=after if there else page.after)
        await syncs.advance(connection, workspace_id, moved, threads=0, messages=0)
        await syncs.want_page(connection, workspace_id, moved, passing=not there, again=there, refusals=refusals)

    async def _keep(self, connection: Connection, place: Place, page: HistoryPage, added_at: datetime) -> Shown:
        known = await own_messages.sent_by_us(
            connection, *place, [message.provider_id for message in page.messages if message.author == "app"]
        )
        now = datetime.now(UTC)
        said: list[tuple[Place, PersonEvent]] = [
            (place, in_its_time(message, now))
            for message in page.messages
            if message.author == "contact" or (message.provider_id not in known and message.at < now - _SETTLED_AFTER)
        ]
        if not said:
            return Shown(set(), set())
        await inbox_people.lock_channels(connection, [place])
        return await converse(connection, said, self._words, news_since=max(added_at, now - NEWS_FOR))


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    return min(filter(None, (one, other)), default=None)
