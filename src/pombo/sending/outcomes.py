"""Writes what became of messages, in batches, as soon as it is worth a statement (row A8).

An outcome that is not saved is a message that a crash would put in doubt, so batches are small in time (20 ms) and the
lanes stop when too many are unsaved. A batch whose write failed is written again until it succeeds: each of the
statements changes only what is still as the outcome found it.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

from pombo.domain.channels import ChannelState
from pombo.domain.classes import MessageClass
from pombo.domain.outcomes import ErrorClass, SendError
from pombo.sending.lane import Lane
from pombo.sending.outgoing import Outgoing, Stream
from pombo.store import channels, consequences, cooldowns, early_receipts, outbox, settlement, suppressions
from pombo.store.channels import Stop
from pombo.store.consequences import RunPause
from pombo.store.cooldowns import Cooldown
from pombo.store.database import TRY_AGAIN, Connection, Database
from pombo.store.errors import DatabaseUnavailable
from pombo.store.outbox import Undecided
from pombo.store.settlement import ACCEPTED, FAILED, Settled
from pombo.store.suppressions import Suppression
from pombo.telemetry import log

# Long enough to gather a batch at hundreds of messages a second, short against any receipt.
LINGER_S = 0.02
BATCH = 500
# Two at a time: while one waits for its commit the next is gathered and encoded.
WRITERS = 2
_RETRY_S = 0.5


@dataclass(slots=True)
class WriterStats:
    """For /stats/log-writer."""

    written: int = 0
    batches: int = 0
    failures: int = 0
    largest_batch: int = 0
    unsaved: int = 0


@dataclass(slots=True)
class _Further:
    """What follows for more than one message; empty in nearly all batches."""

    stops: list[Stop] = field(default_factory=list)
    stopped: list[Lane] = field(default_factory=list)
    spared: list[Lane] = field(default_factory=list)
    """Of those stopped: what the database did not stop after all."""
    pauses: dict[tuple[int, int], RunPause] = field(default_factory=dict)
    """By workspace and run: many messages of a run meet the same error at once."""
    paused: list[Stream] = field(default_factory=list)
    suppressions: list[Suppression] = field(default_factory=list)
    throttles: list[Cooldown] = field(default_factory=list)
    breakers: dict[tuple[int, int], Cooldown | None] = field(default_factory=dict)
    """By channel: open for so long, or closed."""

    @property
    def any(self) -> bool:
        return bool(self.stops or self.pauses or self.suppressions or self.throttles or self.breakers)


@dataclass(slots=True)
class _Batch:
    settled: list[Settled] = field(default_factory=list)
    retries: list[Undecided] = field(default_factory=list)
    doubts: list[Undecided] = field(default_factory=list)
    further: "_Further" = field(default_factory=_Further)
    messages: list[Outgoing] = field(default_factory=list)
    """All that the batch decides; the lane lets go of them when it is saved."""
    revoked: list[tuple[int, int]] = field(default_factory=list)
    """Worker and number of intents that were stored, if at all, for nothing."""
    finished: list[int] = field(default_factory=list)
    """Intents whose messages are all saved."""

    @property
    def any(self) -> bool:
        return bool(self.messages or self.revoked or self.further.any)

    def apart(self) -> "list[_Batch]":
        """In smaller batches, because this one was refused; a message alone with its outcome comes to be in doubt."""
        count = len(self.messages)
        if count and (self.revoked or self.finished or self.further.any):
            rest = _Batch(further=self.further, revoked=self.revoked, finished=self.finished)
            return [rest, _Batch(self.settled, self.retries, self.doubts, messages=self.messages)]
        if count > 1:
            return [self._of(self.messages[: count // 2]), self._of(self.messages[count // 2 :])]
        if self.settled or self.retries:
            outcome = self.settled[0] if self.settled else self.retries[0]
            doubt = Undecided(
                outcome.workspace_id, outcome.channel_id, outcome.message_id, outcome.attempt, 0, 0,
                "What became of it could not be stored; the worker's log says why.",
            )  # fmt: skip
            return [_Batch(doubts=[doubt], messages=self.messages)]
        return [self]

    def _of(self, messages: list[Outgoing]) -> "_Batch":
        ids = {message.id for message in messages}
        return _Batch(
            [outcome for outcome in self.settled if outcome.message_id in ids],
            [outcome for outcome in self.retries if outcome.message_id in ids],
            [outcome for outcome in self.doubts if outcome.message_id in ids],
            messages=messages,
        )


class OutcomeWriter:
    """One per worker. `saved` is called after each batch, when room was made."""

    def __init__(
        self, database: Database, *, limit: int, batch: int, linger_s: float, saved: Callable[[], None]
    ) -> None:
        self._database = database
        self._limit = limit
        self._batch_size = min(batch, BATCH)
        self._linger_s = min(linger_s, LINGER_S)
        self._saved = saved
        self._waiting = _Batch()
        self._finished: list[int] = []
        self._accepted: list[Settled] = []
        """Saved; receipts that came before are still to be looked for."""
        self._accepted_rung = asyncio.Event()
        self._written = asyncio.Event()
        """After `close`: all is."""
        self._rung = asyncio.Event()
        self._full = asyncio.Event()
        self._closing = False
        self._clock = asyncio.get_running_loop().time
        self.worker_id = 0
        self.stats = WriterStats()

    def room(self) -> int:
        """How many more outcomes may come before the lanes must wait."""
        return self._limit - self.stats.unsaved

    def accepted(self, message: Outgoing, provider_id: str) -> None:
        channel, intent = message.stream.lane.channel, message.intent
        assert intent is not None
        self._waiting.settled.append(
            Settled(channel.workspace_id, channel.id, message.id, message.attempt, intent.day, ACCEPTED, provider_id)
        )
        message.stream.lane.release(message)
        self._add(message)

    def failed(self, message: Outgoing, error: SendError) -> None:
        channel, intent = message.stream.lane.channel, message.intent
        assert intent is not None
        self._waiting.settled.append(
            Settled(
                channel.workspace_id, channel.id, message.id, message.attempt, intent.day, FAILED, None,
                error.code, error.subcode, error.title,
            )
        )  # fmt: skip
        message.stream.lane.release(message)
        self._add(message)

    def retry(self, message: Outgoing, error: SendError, delay_s: float, *, counts: bool) -> None:
        self._waiting.retries.append(self._undecided(message, error, delay_s, counts))
        message.stream.lane.send_away(message)
        self._add(message)

    def doubt(self, message: Outgoing, error: SendError) -> None:
        self._waiting.doubts.append(self._undecided(message, error))
        lane = message.stream.lane
        lane.send_away(message, self._clock() + lane.grace_s)
        self._add(message)

    def stop(self, lane: Lane, lanes: list[Lane], error: SendError) -> None:
        """The channel, and all that the error concerns, stop until somebody acts; `lanes` are those of this worker."""
        channel, why = lane.channel, f"{error.words} {error.next_step}"
        self._waiting.further.stops.append(
            Stop(channel.workspace_id, channel.id, channel.token, error.scope, error.full_code, why)
        )
        self._waiting.further.stopped += lanes
        self._rung.set()

    def pause(self, stream: Stream, error: SendError, why: str) -> None:
        """The stream's run waits until somebody resumes it, and every other with its template, if that is at fault."""
        channel = stream.lane.channel
        payload = stream.payload
        template = payload.template if payload is not None and error.error_class is not ErrorClass.PERMANENT else None
        self._waiting.further.pauses[channel.workspace_id, stream.run_id] = RunPause(
            channel.workspace_id, channel.id, stream.run_id, template, error.full_code, why
        )
        self._waiting.further.paused.append(stream)
        self._rung.set()

    def suppress(self, message: Outgoing, error: SendError) -> None:
        """The recipient wants no more campaigns."""
        channel = message.stream.lane.channel
        self._waiting.further.suppressions.append(
            Suppression(channel.workspace_id, channel.kind, message.recipient, error.words, error.full_code)
        )
        self._rung.set()

    def throttle(self, cooldown: Cooldown) -> None:
        """Advice to other workers and next owners."""
        self._waiting.further.throttles.append(cooldown)
        self._rung.set()

    def breaker(self, lane: Lane, cooldown: Cooldown | None) -> None:
        """Advice to next owners: open, or (None) closed."""
        self._waiting.further.breakers[lane.channel.workspace_id, lane.channel.id] = cooldown
        self._rung.set()

    def revoke(self, worker_id: int, intent_id: int) -> None:
        """An intent statement whose answer was lost; its messages have left their lanes."""
        self._waiting.revoked.append((worker_id, intent_id))
        self._rung.set()

    @staticmethod
    def _undecided(message: Outgoing, error: SendError, delay_s: float = 0.0, counts: bool = True) -> Undecided:
        channel = message.stream.lane.channel
        return Undecided(
            channel.workspace_id, channel.id, message.id, message.attempt, error.code, error.subcode, error.title,
            delay_s, counts, message.stream.message_class,
        )  # fmt: skip

    def _add(self, message: Outgoing) -> None:
        self._waiting.messages.append(message)
        self.stats.unsaved += 1
        if not self._rung.is_set():
            self._rung.set()
        if (
            len(self._waiting.messages) >= self._batch_size or message.stream.message_class is MessageClass.REPLY
        ):  # somebody watches what becomes of a reply
            self._full.set()

    async def run(self) -> None:
        """Until `close`, and then until all is written."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._look_for_receipts())
            await asyncio.gather(*(tasks.create_task(self._write_batches()) for _ in range(WRITERS)))
            if self._finished:
                await self._write_until_saved(_Batch(finished=self._finished))
            self._written.set()
            self._accepted_rung.set()

    async def _write_batches(self) -> None:
        while (batch := await self._next_batch()) is not None:
            await self._write_until_saved(batch)

    async def _next_batch(self) -> _Batch | None:
        """None when all is written after `close`."""
        while True:
            if not self._waiting.any:
                if self._closing:
                    return None
                self._rung.clear()
                await self._rung.wait()
                continue
            if not self._full.is_set() and not self._closing:
                try:
                    async with asyncio.timeout(self._linger_s):
                        await self._full.wait()
                except TimeoutError:
                    pass
            if self._waiting.any:  # not taken by the other writer meanwhile
                return self._take()

    def _take(self) -> _Batch:
        self._full.clear()
        batch, self._waiting = self._waiting, _Batch()
        batch.finished, self._finished = self._finished, []
        return batch

    def close(self) -> None:
        self._closing = True
        self._rung.set()
        self._full.set()

    async def _write_until_saved(self, batch: _Batch) -> None:
        """And those that wait by then: one after the other on one connection, which costs a round trip to give back."""
        batches = [batch]
        while True:
            try:
                async with self._database.borrow(for_lanes=True) as connection:
                    while batches:
                        await self._write(connection, batches[0])
                        self._note_saved(batches.pop(0))
                        if not batches and len(self._waiting.messages) >= self._batch_size:
                            batches.append(self._take())
                    return
            except (DatabaseUnavailable, *TRY_AGAIN) as error:
                log.warning("outcomes_waiting", unsaved=self.stats.unsaved, reason=str(error))
            except Exception:
                # A defect, whatever it is: an outcome is evidence and is not dropped, nor may one hold up all others.
                log.exception("outcomes_refused", unsaved=self.stats.unsaved)
                batches[:1] = batches[0].apart()
            self.stats.failures += 1
            await asyncio.sleep(_RETRY_S)

    def _note_saved(self, batch: _Batch) -> None:
        for lane in batch.further.stopped:
            lane.stop_saved = True
        for lane in batch.further.spared:
            lane.stopped, lane.breaker.reason = False, None
        for stream in batch.further.paused:
            stream.lane.pausing.discard(stream.run_id)
        count = len(batch.messages)
        self.stats.unsaved -= count
        self.stats.written += count
        self.stats.batches += 1
        self.stats.largest_batch = max(self.stats.largest_batch, count)
        for message in batch.messages:
            lane, intent = message.stream.lane, message.intent
            lane.open -= 1
            lane.waiting_ids.discard(message.id)
            assert intent is not None
            intent.open -= 1
            if not intent.open:
                self._finished.append(intent.id)
                intent.identity.open -= 1
        self._accepted += [outcome for outcome in batch.settled if outcome.state == ACCEPTED]
        self._accepted_rung.set()
        self._saved()

    async def _write(self, connection: Connection, batch: _Batch) -> None:
        if batch.settled or batch.finished:
            await settlement.settle(connection, batch.settled, self.worker_id, batch.finished)
        for worker_id, intent_id in batch.revoked:
            await outbox.revoke_intent(connection, worker_id, intent_id)
        if batch.further.any:
            # Before messages are put back: what is paused must not be read again.
            await self._write_further(connection, batch.further)
        if batch.retries:
            await outbox.put_back(connection, batch.retries)
        if batch.doubts:
            await outbox.doubt(connection, batch.doubts)

    @staticmethod
    async def _write_further(connection: Connection, further: _Further) -> None:
        if further.stops:
            await channels.stop_channels(connection, further.stops)
            further.spared = await _spared(connection, further.stopped)
        for pause in further.pauses.values():
            paused = await consequences.pause_for(connection, pause)
            for run_id in paused:
                log.warning("run_paused_by_error", workspace_id=pause.workspace_id, run_id=run_id, code=pause.code)
        if further.suppressions:
            await suppressions.suppress(connection, further.suppressions)
            await suppressions.withdraw(connection, further.suppressions)
        if closed := [channel for channel, cooldown in further.breakers.items() if cooldown is None]:
            await cooldowns.forget_breakers(connection, closed)
        if noted := further.throttles + [cooldown for cooldown in further.breakers.values() if cooldown is not None]:
            await cooldowns.note(connection, noted)

    async def _look_for_receipts(self) -> None:
        """Receipts that came before the outcomes just saved; beside the next batches, which need not wait for it.

        What fails here is made good by upkeep, which looks at all kept receipts every minute.
        """
        while self._accepted or not self._written.is_set():
            await self._accepted_rung.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._linger_s):
                    await self._written.wait()
            self._accepted_rung.clear()
            accepted, self._accepted = self._accepted, []
            if not accepted:
                continue
            try:
                async with self._database.borrow(for_lanes=True) as connection:
                    await early_receipts.apply_pending(connection, accepted)
            except (DatabaseUnavailable, *TRY_AGAIN) as error:
                log.warning("early_receipts_left_to_upkeep", messages=len(accepted), reason=str(error))


async def _spared(connection: Connection, lanes: list[Lane]) -> list[Lane]:
    """Those whose channels are active all the same, for the error was about a token replaced meanwhile.

    Not the lane that still has that token: it sends again when it has taken up the new one.
    """
    keys = [(lane.channel.workspace_id, lane.channel.id) for lane in lanes]
    active = {
        (channel.workspace_id, channel.id): channel.token
        for channel in await channels.get_channels(connection, keys)
        if channel.state is ChannelState.ACTIVE
    }
    return [lane for lane, key in zip(lanes, keys, strict=True) if active.get(key) == lane.channel.token]
