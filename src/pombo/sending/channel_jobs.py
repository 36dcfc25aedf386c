"""Carries out channel jobs: calls to Meta that are no sends, within the rates of the channels that the worker owns.

    due rows ─▶ budget of the channel and kind ─▶ call ─▶ gone, with its effect │ kept for ingest │ due later │ failed

Each kind of call has a budget a channel that starts empty, as a lane's pacer does, so that a takeover doubles nothing.
What is under way is known here only: after a crash the next owner does it again, which harms nobody. An answer counts
while the job's row is there, in the transaction that takes the row away.
"""

import asyncio
import contextlib
import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from pombo.domain.channels import ChannelKind
from pombo.domain.media_types import sniff
from pombo.domain.outcomes import ErrorClass, SendError
from pombo.meta import channel_calls
from pombo.meta.channel_calls import Call
from pombo.meta.downloads import DownloadFailed, Downloads
from pombo.meta.json_parts import storable
from pombo.meta.transport import Transport
from pombo.sending.backoff import retry_delay
from pombo.sending.breaker import BreakerState
from pombo.sending.lane import Lane
from pombo.sending.pacer import RESERVED_FOR_REPLIES, TokenBucket
from pombo.store import channel_jobs, contact_profiles, events, media, syncs
from pombo.store.channel_jobs import Job
from pombo.store.database import TRY_AGAIN, Connection, Database
from pombo.store.errors import DatabaseUnavailable
from pombo.store.media import StoredMedia
from pombo.store.media_files import MediaFiles
from pombo.store.planning import KEPT
from pombo.store.secrets import SecretBox, SecretError
from pombo.telemetry import log

# Two calls a second a Page (Messenger Platform, rate limits, 2026), less what clocks and networks differ by.
CONVERSATIONS_PER_S = 1.9
# Of profiles, media and uploads. The Graph API has no limit a second; its daily ones are far above this.
READS_PER_S = 5.0
POLL_S = 1.0
# Together and of one channel: enough for every budget at a second's latency, without holding all sockets.
_MOST_UNDER_WAY = 40
_MOST_OF_CHANNEL = 8
# 1, 2, 4 … s apart: a minute or two.
_ATTEMPTS = 8
# What a customer sent cannot be had again, so it is asked for as long as Meta keeps it, at last once an hour. WhatsApp
# says seven days; how long Messenger's addresses last is not said, and a day outlives most outages.
_FILE_LIFE_S = {ChannelKind.WHATSAPP: 7 * 86400.0, ChannelKind.MESSENGER: 86400.0}
_SHORTEST_WAIT_S = 0.01
# Fetching a file for a media store that does not answer costs Meta's time for nothing.
_STORE_AWAY_S = 30.0
_DEAD_TOKEN = (102, 190)
# Meta's "Please reduce the amount of data you're asking for".
_TOO_MUCH = 1


class _Payload(msgspec.Struct, rename="camel"):
    """What the kinds of jobs carry; each has its own members of these."""

    action: str = ""
    recipient: str = ""
    message_id: str | None = None
    contact_id: int = 0
    media_id: int = 0
    sync_id: int = 0
    after: str | None = None
    limit: int = 25
    passing: bool = False


_read_payload = msgspec.json.Decoder(_Payload).decode


class GaveUp(Exception):
    """The job cannot succeed; its text says why."""


@dataclass(slots=True)
class _Budgets:
    """Of one channel, as long as its lane lasts."""

    lane: Lane
    conversations: TokenBucket
    reads: TokenBucket
    resume_at: dict[str, float]
    """By kind: throttled until then."""
    throttled: dict[str, int]
    """By kind: answers of that sort in a row."""
    under_way: int = 0


class ChannelJobs:
    """One per worker; `lanes` is the worker's own dict, read live. Ring `bell` upon a NOTIFY on `channel_jobs.BELL`."""

    def __init__(
        self,
        database: Database,
        box: SecretBox,
        transport: Transport,
        lanes: dict[tuple[int, int], Lane],
        *,
        api_version: str,
        files: MediaFiles | None,
        downloads: Downloads,
        conversations_per_s: float,
        may_call: Callable[[], bool],
        stop_lane: Callable[[Lane, SendError], None],
        clock: Callable[[], float],
    ) -> None:
        """`may_call` says whether the lease still holds. Without `files` nothing is fetched or uploaded."""
        self.bell = asyncio.Event()
        self._database = database
        self._box = box
        self._transport = transport
        self._lanes = lanes
        self._version = api_version
        self._files = files
        self._downloads = downloads
        self._conversations_per_s = conversations_per_s
        self._may_call = may_call
        self._stop_lane = stop_lane
        self._clock = clock
        self._chance = random.Random().random  # noqa: S311  (jitter, not a secret)
        self._budgets: dict[tuple[int, int], _Budgets] = {}
        self._under_way: dict[int, asyncio.Task[None]] = {}

    async def run(self, worker_id: Callable[[], int]) -> None:
        """Until cancelled. Holds no connection: there is seldom anything to do."""
        while True:
            self.bell.clear()
            wait = POLL_S
            try:
                async with self._database.borrow() as connection:
                    wait = await self.start_due(connection, worker_id())
            except (DatabaseUnavailable, *TRY_AGAIN) as error:
                log.warning("database_away", loop="channel_jobs", reason=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(_SHORTEST_WAIT_S, wait)):
                    await self.bell.wait()

    async def close(self) -> None:
        """Ends what is under way; it will be done again."""
        for task in self._under_way.values():
            task.cancel()
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)
        await self._downloads.close()

    async def start_due(self, connection: Connection, worker_id: int) -> float:
        """Starts what is due and may go; returns how long until there may be more (seconds)."""
        wait = POLL_S
        if len(self._under_way) >= _MOST_UNDER_WAY:
            return wait
        found = await channel_jobs.due(connection, worker_id, self._under_way.keys(), _MOST_OF_CHANNEL)
        now = self._clock()
        for job in await channel_jobs.drop_expired(connection, found):
            lane = self._lanes.get((job.workspace_id, job.channel_id))
            if lane is None or lane.stopped or lane.draining or lane.breaker.state is not BreakerState.CLOSED:
                continue
            if self._files is None and job.kind in ("media", "upload"):
                continue  # for a worker that keeps media
            budgets = self._budgets_of(lane)
            # Files are many and slow; half of the places are for what people wait for.
            share = 2 if job.kind == "media" else 1
            if len(self._under_way) >= _MOST_UNDER_WAY // share or budgets.under_way >= _MOST_OF_CHANNEL // share:
                continue
            left = self._wait_of(budgets, job.kind, now)
            if left > 0:
                wait = min(wait, left)
                continue
            budgets.under_way += 1
            task = asyncio.create_task(self._carry_out(budgets, job), name=f"channel job {job.id}")
            self._under_way[job.id] = task
        return wait

    def _budgets_of(self, lane: Lane) -> _Budgets:
        key = lane.channel.workspace_id, lane.channel.id
        budgets = self._budgets.get(key)
        if budgets is None or budgets.lane is not lane:
            now = self._clock()
            conversations = TokenBucket(self._conversations_per_s, now)
            # One at a time: two at once might arrive as three within a second.
            conversations.burst = 1.0
            budgets = _Budgets(lane, conversations, TokenBucket(READS_PER_S, now), {}, {})
            for gone in [key for key in self._budgets if key not in self._lanes]:
                del self._budgets[gone]
            self._budgets[key] = budgets
        return budgets

    @staticmethod
    def _wait_of(budgets: _Budgets, kind: str, now: float) -> float:
        """Takes a token of the kind's budget, or says when there may be one."""
        if (pause := budgets.resume_at.get(kind, 0.0) - now) > 0:
            return pause
        buckets, reserve = [budgets.reads], 0.0
        if kind == "conversations":
            buckets = [budgets.conversations]
        elif kind == "sender_action":
            # Meta counts these with the messages.
            buckets, reserve = [budgets.lane.pacer, budgets.lane.gate], RESERVED_FOR_REPLIES
        wait = max(bucket.wait(now, reserve) for bucket in buckets)
        if wait:
            return max(_SHORTEST_WAIT_S, wait)
        for bucket in buckets:
            bucket.take(1, now, reserve)
        return 0.0

    # --- one job ------------------------------------------------------------------------------------------------------

    async def _carry_out(self, budgets: _Budgets, job: Job) -> None:
        lane, token = budgets.lane, budgets.lane.channel.token
        try:
            error = await self._do(lane, job)
            if error is None:
                budgets.throttled.pop(job.kind, None)
            else:
                await self._heed(budgets, job, error, token)
        except GaveUp as reason:
            await self._fail(job, None, str(reason))
        except (DatabaseUnavailable, *TRY_AGAIN) as error:
            # Of ours, not of Meta's: it is due again at once.
            log.warning("channel_job_postponed", job=job.id, kind=job.kind, reason=str(error))
        except OSError as error:
            log.warning("channel_job_postponed", job=job.id, kind=job.kind, reason=str(error))
            await self._store_away(job, str(error))
        except Exception:
            log.exception("channel_job_failed", job=job.id, kind=job.kind)
            await self._fail(job, None, "A mistake of Pombo's; its log says more.")
        finally:
            del self._under_way[job.id]
            budgets.under_way -= 1
            self.bell.set()

    async def _do(self, lane: Lane, job: Job) -> SendError | None:
        """None when all is done. Raises GaveUp, DatabaseUnavailable, OSError."""
        try:
            payload = _read_payload(job.payload)
        except msgspec.DecodeError as error:
            raise GaveUp(f"Its payload makes no sense: {error}") from error
        match job.kind:
            case "sender_action":
                return await self._act(lane, job, payload)
            case "profile":
                return await self._profile(lane, job, payload)
            case "media":
                return await self._media(lane, job, payload)
            case "upload":
                return await self._upload(lane, job, payload)
            case "conversations":
                return await self._conversations(lane, job, payload)
        raise GaveUp(f"Nobody knows what {job.kind} is.")

    async def _ask(self, lane: Lane, call: Call) -> dict[str, Any] | SendError:
        if not self._may_call():
            raise DatabaseUnavailable("The lease has ended.")
        target = f"/{self._version}{call.target}"
        result = await self._transport.request(call.method, target, call.headers(self._token(lane)), call.body)
        return channel_calls.read_result(lane.channel.kind, result)

    def _token(self, lane: Lane) -> str:
        try:
            return self._box.open(lane.channel.workspace_id, lane.channel.token)
        except SecretError as error:
            raise GaveUp(str(error)) from error

    async def _act(self, lane: Lane, job: Job, wanted: _Payload) -> SendError | None:
        channel = lane.channel
        try:
            call = channel_calls.sender_action(
                channel.kind, channel.external_id, wanted.action, wanted.recipient, wanted.message_id
            )
        except ValueError as error:
            raise GaveUp(str(error)) from error
        said = await self._ask(lane, call)
        if isinstance(said, SendError):
            return said
        async with self._database.transaction() as connection:
            await channel_jobs.finish(connection, job)
        return None

    async def _profile(self, lane: Lane, job: Job, wanted: _Payload) -> SendError | None:
        said = await self._ask(lane, channel_calls.profile(wanted.recipient))
        if isinstance(said, SendError):
            return said
        async with self._database.transaction(KEPT) as connection:
            if await channel_jobs.finish(connection, job):
                await contact_profiles.save(
                    connection, job.workspace_id, job.channel_id, wanted.contact_id, channel_calls.read_profile(said)
                )
        await self._ring()
        return None

    async def _media(self, lane: Lane, job: Job, wanted: _Payload) -> SendError | None:
        assert self._files is not None
        async with self._database.borrow() as connection:
            found = await media.get_media(connection, job.workspace_id, wanted.media_id)
        if found is not None and found.state == "wanted":
            source = msgspec.json.decode(found.source, type=dict[str, str])
            url, token = source.get("url"), None
            if lane.channel.kind is ChannelKind.WHATSAPP:
                # The address that came with the message lasts five minutes; the id seven days.
                said = await self._ask(lane, channel_calls.media_address(source.get("id", "")))
                if isinstance(said, SendError):
                    return said
                url, token = str(said.get("url")), self._token(lane)
            if url is None:
                raise GaveUp("There is no address to fetch it from.")
            content = await self._downloads.fetch(url, token)
            if isinstance(content, DownloadFailed):
                if content.gone or not _may_go_on(lane, job):
                    raise GaveUp(content.reason)
                await self._later(job, None, content.reason)
                return None
            digest = hashlib.sha256(content).digest()
            await self._files.put(job.workspace_id, digest, content)
            stored = StoredMedia(wanted.media_id, digest, len(content), sniff(content), None)
        async with self._database.transaction(KEPT) as connection:
            if await channel_jobs.finish(connection, job) and found is not None and found.state == "wanted":
                await media.mark_stored(connection, job.workspace_id, stored)
        await self._ring()
        return None

    async def _upload(self, lane: Lane, job: Job, wanted: _Payload) -> SendError | None:
        async with self._database.borrow() as connection:
            found = await media.get_media(connection, job.workspace_id, wanted.media_id)
        assert self._files is not None
        if found is None or found.sha256 is None or found.size is None:
            raise GaveUp("The file is not there.")
        content = await self._files.read(job.workspace_id, found.sha256, 0, found.size)
        channel, kind = lane.channel, found.content_type or ""
        call = channel_calls.upload(channel.kind, channel.external_id, content, kind, found.file_name or "file")
        said = await self._ask(lane, call)
        if isinstance(said, SendError):
            return said
        provider_id = said.get("id") or said.get("attachment_id")
        if not isinstance(provider_id, str):
            raise GaveUp("Meta's answer names no file.")
        async with self._database.transaction() as connection:
            if await channel_jobs.finish(connection, job):
                await media.note_upload(connection, job.workspace_id, wanted.media_id, job.channel_id, provider_id)
        return None

    async def _conversations(self, lane: Lane, job: Job, wanted: _Payload) -> SendError | None:
        call = channel_calls.conversations(lane.channel.external_id, wanted.after, wanted.limit, passing=wanted.passing)
        said = await self._ask(lane, call)
        answer: dict[str, Any] = {"page": storable(said)}
        if isinstance(said, SendError):
            if said.code == _TOO_MUCH and wanted.limit > 1:
                answer = {"tooMuch": True}
            elif said.code == 100 and wanted.after is not None:
                answer = {"refused": True}
            else:
                return said
        async with self._database.transaction() as connection:
            await channel_jobs.keep_answer(connection, job, msgspec.json.encode(answer).decode())
        return None

    # --- errors -------------------------------------------------------------------------------------------------------

    async def _heed(self, budgets: _Budgets, job: Job, error: SendError, token: bytes) -> None:
        """What Meta answered to a call under the channel's (sealed) token of that time."""
        match error.error_class:
            case ErrorClass.RATE_LIMIT:
                # All of the kind wait; that is no failure of this one's.
                steps = budgets.throttled[job.kind] = budgets.throttled.get(job.kind, 0) + 1
                delay = retry_delay(steps, error.backoff, self._chance)
                budgets.resume_at[job.kind] = self._clock() + delay
                log.info("channel_jobs_throttled", channel=job.channel_id, kind=job.kind, code=error.code)
                await self._later(job, error.code, error.title, delay, counts=False)
            case ErrorClass.AUTH if error.code in _DEAD_TOKEN:
                # It waits for a new token, with all that the channel sends, unless there is one already.
                if token == budgets.lane.channel.token:
                    self._stop_lane(budgets.lane, error)
                await self._later(job, error.code, error.title, counts=False)
            case ErrorClass.TRANSIENT | ErrorClass.AMBIGUOUS if _may_go_on(budgets.lane, job):
                await self._later(job, error.code, error.title)
            case _:
                await self._fail(job, error.code, error.title or error.words)

    async def _later(
        self, job: Job, code: int | None, why: str, delay: float | None = None, *, counts: bool = True
    ) -> None:
        if delay is None:
            delay = retry_delay(job.attempts + 1, None, self._chance)
        async with self._database.borrow() as connection:
            await channel_jobs.retry(connection, job, delay, code, why, counts=counts)

    async def _store_away(self, job: Job, why: str) -> None:
        """The media store does not answer. What Meta has is asked for until it does; a reply does not wait for ever."""
        if job.kind == "upload" and job.attempts + 1 >= _ATTEMPTS:
            await self._fail(job, None, "The file could not be read from the media store.")
            return
        with contextlib.suppress(DatabaseUnavailable):
            if job.kind == "upload":
                await self._later(job, None, why)
            else:
                await self._later(job, None, why, _STORE_AWAY_S, counts=False)

    async def _fail(self, job: Job, code: int | None, why: str) -> None:
        log.warning("channel_job_given_up", channel=job.channel_id, job=job.id, kind=job.kind, code=code, reason=why)
        try:
            async with self._database.transaction(KEPT) as connection:
                if not await channel_jobs.fail(connection, job, code, why):
                    return
                payload = msgspec.json.decode(job.payload, type=dict[str, Any])
                if job.kind == "media":
                    await media.mark_failed(connection, job.workspace_id, int(payload["mediaId"]), why)
                elif job.kind == "conversations":
                    await syncs.fail(connection, job.workspace_id, int(payload["syncId"]), code, why)
            await self._ring()
        except (DatabaseUnavailable, *TRY_AGAIN):
            return

    async def _ring(self) -> None:
        async with self._database.borrow() as connection:
            await events.ring(connection)


def _may_go_on(lane: Lane, job: Job) -> bool:
    """Whether it is tried again after a failure that may pass."""
    if job.kind == "media":
        return job.age_s < _FILE_LIFE_S[lane.channel.kind]
    return job.attempts + 1 < _ATTEMPTS
