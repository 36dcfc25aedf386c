"""One worker process: what it holds in memory, and its steps, each of which may be its last.

    read ─▶ collect (bucket, breaker) ─▶ intent ─▶ armed ─▶ poised ─▶ flying ─▶ unsaved ─▶ saved
                                                     deadline ┘ └ first byte

Poised is the instant between the check of the deadline and the write: a process that is stopped there writes when it
goes on, however late that is.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import count
from typing import TypeVar, assert_never

from pombo.domain.sendkey import format_day, format_key
from pombo.sending.backoff import retry_delay
from pombo.sending.breaker import Breaker
from pombo.sending.pacer import RESERVED_FOR_REPLIES, TokenBucket
from tests.protocol_model import times
from tests.protocol_model.database import Database, IntentStatement, Outcome
from tests.protocol_model.flaws import Flaw
from tests.protocol_model.meta import Meta, Request, Verdict

Result = TypeVar("Result")


class Away(Exception):
    """The database did not answer; what was asked may have been done."""


class Fate(Enum):
    """Of a statement."""

    ANSWERED = auto()
    ANSWER_LOST = auto()
    NEVER_ARRIVED = auto()


@dataclass(slots=True, eq=False)
class Lane:
    channel: int
    epoch: int
    bucket: TokenBucket
    breaker: Breaker
    queue: deque[tuple[int, int, int]] = field(default_factory=deque)
    """(message, attempts, those of them that do not count) as read; may be out of date when it is used."""
    held: set[int] = field(default_factory=set)
    draining: bool = False
    open: int = 0


@dataclass(slots=True, eq=False)
class Identity:
    worker_id: int
    may_write_until: float
    """By the worker's own clock."""
    open: int = 0
    """Batches of intents of which some message's outcome is not saved yet."""


@dataclass(slots=True, eq=False)
class Intent:
    id: int
    identity: Identity
    open: int


@dataclass(slots=True, eq=False)
class Outgoing:
    message: int
    attempt: int
    uncounted: int
    lane: Lane
    intent: Intent
    key: str
    request: Request | None = None
    answer_by: float = 0.0


Taken = tuple[Lane, int, int]
"""A collected message's lane, the attempt that it is to be, and how many do not count."""


class Worker:
    def __init__(self, database: Database, meta: Meta, session: int, drift: float) -> None:
        self._database = database
        self._meta = meta
        self._flaw = database.flaw
        self.session: int | None = session
        self.alive = True
        self.stalled = False
        self.cut_off = False
        self.identities: list[Identity] = []
        """The last is the present one; of the others something is in flight still."""
        self.lanes: dict[int, Lane] = {}
        self.storing: list[tuple[IntentStatement, dict[int, Taken]]] = []
        """Intents whose answer is waited for, with the lane of each message."""
        self.armed: deque[Outgoing] = deque()
        self.poised: list[Outgoing] = []
        self.flying: list[Outgoing] = []
        self.unsaved: list[tuple[Outgoing, Outcome]] = []
        self._revoked: list[tuple[int, int]] = []
        self._unsure: list[tuple[float, tuple[int, int]]] = []
        self._finished: list[tuple[int, int]] = []
        self._intent_ids = count(1)
        self._drift = drift
        self._slept_s = 0.0

    @property
    def running(self) -> bool:
        return self.alive and not self.stalled

    @property
    def worker_id(self) -> int:
        return self.identities[-1].worker_id if self.identities else 0

    def clock(self, now: float) -> float:
        """Its own, monotonic: a little fast or slow, and standing still while its machine is suspended."""
        return (now - self._slept_s) * self._drift

    def suspended(self, seconds: float) -> None:
        self._slept_s += seconds

    def _call(self, fate: Fate, statement: Callable[[], Result]) -> Result:
        if self.cut_off or self.session is None or fate is Fate.NEVER_ARRIVED:
            raise Away
        result = statement()
        if fate is Fate.ANSWER_LOST:
            raise Away
        return result

    # --- leases ---------------------------------------------------------------------------------------------------

    def tend(self, now: float, fate: Fate, new_session: Callable[[], int]) -> None:
        """Once a second or so. Raises Away when a statement was not answered; the next round goes on."""
        if self.cut_off:
            raise Away
        if self.session is None:
            self.session = new_session()
            for identity in self.identities:
                self._database.locks[identity.worker_id] = self.session
        asked_at = self.clock(now)
        if not self.identities or not self._call(
            fate, lambda: self._database.heartbeat(self.worker_id, now, times.LEASE_S)
        ):
            for lane in self.lanes.values():
                lane.draining = True
            self.lanes.clear()
            session = self.session
            worker_id = self._call(fate, lambda: self._database.register(session, now, times.LEASE_S))
            self.identities.append(Identity(worker_id, 0.0))
        self.identities[-1].may_write_until = asked_at + times.LEASE_S * (1 - times.MARGIN)
        self._call(Fate.ANSWERED, lambda: self._database.acquire(self.worker_id, now))
        self._follow_leases(now)
        self._hand_over(now)
        self._database.adopt_orphans(now)
        self._database.find_ends(self.worker_id, now)
        self._database.decide_doubts(self.worker_id, now)
        while self._unsure and self._unsure[0][0] <= self.clock(now):
            self._revoked.append(self._unsure.pop(0)[1])
        for identity in [identity for identity in self.identities[:-1] if not identity.open]:
            self.identities.remove(identity)
            self._database.locks.pop(identity.worker_id, None)

    def _follow_leases(self, now: float) -> None:
        owned = self._database.owned(self.worker_id)
        for channel in [c for c, lane in self.lanes.items() if owned.get(c) != lane.epoch]:
            self.lanes.pop(channel).draining = True
        for channel in owned.keys() - self.lanes.keys():
            bucket = TokenBucket(times.RATE, self.clock(now))
            if self._flaw is Flaw.STARTS_WITH_A_FULL_BUCKET:
                bucket.give_back(int(bucket.burst))
            self.lanes[channel] = Lane(channel, owned[channel], bucket, Breaker(3, times.BREAKER_S))

    def _hand_over(self, now: float) -> None:
        excess = self._database.surplus(self.worker_id, now)
        for channel in sorted(self.lanes)[:excess]:
            self.lanes[channel].draining = True
        ended = [c for c, lane in self.lanes.items() if lane.draining and not lane.open]
        self._database.release(self.worker_id, ended)
        for channel in ended:
            del self.lanes[channel]

    # --- collecting and intents -----------------------------------------------------------------------------------

    def read(self, now: float) -> None:
        if self.cut_off:
            return
        for channel, lane in self.lanes.items():
            for row in self._database.outbox.values():
                if row.channel == channel and row.state == "r" and row.due_at <= now and row.id not in lane.held:
                    lane.held.add(row.id)
                    lane.queue.append((row.id, row.attempt, row.uncounted))

    def collect(self, wanted: int, now: float) -> None:
        """Takes what may leave and sends its intent off; `intent_answered` or `intent_lost` follows."""
        messages: list[tuple[int, int, int]] = []
        taken: dict[int, Taken] = {}
        local = self.clock(now)
        for lane in self.lanes.values():
            if lane.draining:
                continue
            allowed = lane.breaker.allows(min(wanted, len(lane.queue)), local)
            count = lane.bucket.take(allowed, local, RESERVED_FOR_REPLIES)
            lane.breaker.left(count)
            lane.open += count
            for _ in range(count):
                message, attempts, uncounted = lane.queue.popleft()
                taken[message] = lane, attempts + 1, uncounted
                messages.append((message, lane.epoch, attempts))
        if not messages:
            return
        if self.cut_off or self.session is None:
            self._let_go(taken)
            return
        leases = {channel: lane.epoch for channel, lane in self.lanes.items()}
        statement = self._database.begin_intent(self.worker_id, next(self._intent_ids), messages, leases, now)
        self.identities[-1].open += 1
        self.storing.append((statement, taken))

    def intent_answered(self, statement: IntentStatement, granted: list[int], now: float) -> None:
        taken = self._stored(statement)
        self._let_go({message: one for message, one in taken.items() if message not in granted})
        if not granted:
            self._identity(statement).open -= 1
        self._arm(statement, granted, taken, now)

    def intent_lost(self, statement: IntentStatement, now: float) -> None:
        """It may have committed, or may yet; it is undone at once, and once more when it can no longer."""
        taken = self._stored(statement)
        if self._flaw is Flaw.SENDS_WHAT_WAS_NOT_RETURNED:
            self._arm(statement, list(taken), taken, now)
            return
        self._let_go(taken)
        self._identity(statement).open -= 1
        unsure = statement.worker_id, statement.intent_id
        self._revoked.append(unsure)
        if self._flaw is not Flaw.FORGETS_INTENTS_WITH_LOST_ANSWERS:
            self._unsure.append((self.clock(now) + times.UNSURE_S, unsure))

    def _identity(self, statement: IntentStatement) -> Identity:
        return next(identity for identity in self.identities if identity.worker_id == statement.worker_id)

    def _stored(self, statement: IntentStatement) -> dict[int, Taken]:
        found = next(entry for entry in self.storing if entry[0] is statement)
        self.storing.remove(found)
        return found[1]

    def _let_go(self, taken: dict[int, Taken]) -> None:
        for message, (lane, _, _) in taken.items():
            lane.open -= 1
            lane.held.discard(message)
            if self._flaw is Flaw.GIVES_TOKENS_BACK_LATER:
                lane.bucket.give_back(1)
            lane.breaker.undecided()

    def _arm(self, statement: IntentStatement, granted: list[int], taken: dict[int, Taken], now: float) -> None:
        day = format_day(times.day(statement.at))
        intent = Intent(statement.intent_id, self._identity(statement), len(granted))
        for message in granted:
            lane, attempt, uncounted = taken[message]
            key = format_key(message, attempt, day)
            self.armed.append(Outgoing(message, attempt, uncounted, lane, intent, key))

    # --- sending --------------------------------------------------------------------------------------------------

    def poise(self, count: int, now: float) -> None:
        """The check of the deadline; `write` follows at once, unless the process is stopped between the two."""
        for _ in range(min(count, len(self.armed))):
            message = self.armed.popleft()
            if self.clock(now) < message.intent.identity.may_write_until or self._flaw is Flaw.NO_DEADLINE:
                self.poised.append(message)
            else:
                self._judge(message, Verdict.NEVER_WRITTEN, "", now)

    def write(self, now: float) -> None:
        for message in self.poised:
            message.answer_by = self.clock(now) + times.ANSWER_S
            message.request = self._meta.send(message.message, message.key, now)
            self.flying.append(message)
        self.poised.clear()

    def hear(self, message: Outgoing, verdict: Verdict, now: float) -> None:
        """Meta's answer, or what the connection says instead of one."""
        self.flying.remove(message)
        assert message.request is not None
        self._judge(message, verdict, message.request.provider_id, now)

    def give_up_waiting(self, now: float) -> None:
        """The request's own deadline."""
        for message in [m for m in self.flying if self.clock(now) > m.answer_by]:
            self.hear(message, Verdict.NO_ANSWER, now)

    def _judge(self, message: Outgoing, verdict: Verdict, provider_id: str, now: float) -> None:
        breaker = message.lane.breaker
        if verdict is Verdict.NO_ANSWER and self._flaw is Flaw.A_LOST_ANSWER_IS_A_REFUSAL:
            verdict = Verdict.NOT_NOW
        outcome = Outcome("doubt", message.message, message.attempt)
        match verdict:
            case Verdict.ACCEPTED:
                breaker.success()
                outcome.kind, outcome.provider_id = "accepted", provider_id
            case Verdict.REFUSED:
                breaker.success()
                outcome.kind = "failed"
            case Verdict.NOT_NOW if message.attempt - message.uncounted >= times.ATTEMPTS:
                breaker.success()
                outcome.kind = "failed"
            case Verdict.NOT_NOW:
                breaker.success()
                outcome.kind, outcome.delay = "retry", retry_delay(message.attempt, None, lambda: 0.5)
            case Verdict.NEVER_WRITTEN:
                breaker.failure("", self.clock(now))
                outcome.kind, outcome.counts = "retry", False
            case Verdict.ERROR | Verdict.NO_ANSWER:
                breaker.failure("", self.clock(now))
            case _:
                assert_never(verdict)
        self.unsaved.append((message, outcome))

    def _give_back_armed(self, now: float) -> None:
        for message in self.armed:
            self._judge(message, Verdict.NEVER_WRITTEN, "", now)
        self.armed.clear()

    # --- outcomes -------------------------------------------------------------------------------------------------

    def save(self, count: int, fate: Fate, now: float) -> None:
        """Writes outcomes; they stay until the database has answered. Raises Away."""
        batch = self.unsaved[:count]

        def write() -> None:
            for _, outcome in batch:
                self._database.apply(outcome, now)
            for identity in self._revoked:
                self._database.revoke_intent(identity)
            self._database.finish_intents(self._finished)

        self._call(fate, write)
        del self.unsaved[:count]
        self._revoked.clear()
        self._finished.clear()
        for message, _ in batch:
            lane, intent = message.lane, message.intent
            lane.open -= 1
            lane.held.discard(message.message)
            intent.open -= 1
            if not intent.open:
                intent.identity.open -= 1
                self._finished.append((intent.identity.worker_id, intent.id))

    # --- the end --------------------------------------------------------------------------------------------------

    def stop(self, now: float) -> None:
        """SIGTERM with patience at its end: what is armed did not leave, what is flying is uncertain. Raises Away."""
        for statement, _ in list(self.storing):
            self.intent_lost(statement, now)
        self.write(now)
        self._give_back_armed(now)
        for message in list(self.flying):
            self.hear(message, Verdict.NO_ANSWER, now)
        self.save(len(self.unsaved), Fate.ANSWERED, now)
        self._call(Fate.ANSWERED, lambda: self._database.retire(self.worker_id))
        if self.session is not None:
            self._database.end_session(self.session)
        self.alive = False
