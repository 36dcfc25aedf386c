"""Workers, database and Meta under one clock: what may happen to them, and what must be true whatever did."""

from collections import Counter
from contextlib import suppress
from enum import Enum, auto
from itertools import count

from pombo.domain.doubt import DoubtPolicy, HoldReason
from pombo.domain.sendkey import parse_key
from pombo.sending.pacer import TokenBucket
from tests.protocol_model import times
from tests.protocol_model.database import ACCEPTED, FAILED, Database, IntentStatement
from tests.protocol_model.flaws import Flaw
from tests.protocol_model.meta import Echo, Meta, Request, Verdict
from tests.protocol_model.worker import Away, Fate, Worker

Place = tuple[int, str]
"""A channel, and the kind of its messages."""


class Echoes(Enum):
    """What is assumed of Meta's webhooks."""

    WITHIN_GRACE = auto()
    """Each in time, in any order, once or more often; or, where it is dark, late together with all that follow."""
    AT_ANY_TIME = auto()
    NEVER = auto()


class World:
    def __init__(self, channels: int, echoes: Echoes, policy: DoubtPolicy, flaw: Flaw | None = None) -> None:
        self.now = 1_000_000.0
        self.echoes = echoes
        self.database = Database(channels, policy, flaw)
        self.meta = Meta()
        self.workers: list[Worker] = []
        self.dark: set[Place] = set()
        """Places whose echoes do not come through for now."""
        self.takes: list[list[tuple[float, int]]] = [[] for _ in range(channels)]
        """Per channel, when so many messages were taken that then left."""
        self.healed = False
        self.abandoned: list[int] = []
        """Sessions of processes that died while they were cut off."""
        self._told: dict[Place, float] = {}
        """The latest intent whose echo came."""
        self._sessions = count(1)
        self._seen: dict[int, int] = {}

    @property
    def assumptions_hold(self) -> bool:
        return self.echoes is not Echoes.AT_ANY_TIME

    # --- workers --------------------------------------------------------------------------------------------------

    def boot(self, drift: float) -> None:
        self.workers.append(Worker(self.database, self.meta, next(self._sessions), 1 + drift))

    def kill(self, worker: Worker) -> None:
        worker.alive = False
        self.workers.remove(worker)
        if worker.session is not None:
            if worker.cut_off:
                # The server learns of it by its own time-outs.
                self.abandoned.append(worker.session)
            else:
                self.database.end_session(worker.session)

    def end_session(self, worker: Worker) -> None:
        """The server gives up a connection that it has not heard of for long."""
        assert worker.session is not None
        self.database.end_session(worker.session)
        worker.session = None

    def may_end_session(self, worker: Worker) -> bool:
        """See the assumptions: not of one that is stopped, perhaps in the last moment before a write."""
        return worker.session is not None and not (self.assumptions_hold and worker.stalled)

    def may_stall(self, worker: Worker) -> bool:
        return worker.running and not (self.assumptions_hold and worker.session is None)

    def tend(self, worker: Worker, fate: Fate = Fate.ANSWERED) -> None:
        with suppress(Away):
            worker.tend(self.now, fate, lambda: next(self._sessions))

    def save(self, worker: Worker, most: int, fate: Fate = Fate.ANSWERED) -> None:
        with suppress(Away):
            worker.save(most, fate, self.now)

    def stop(self, worker: Worker) -> None:
        with suppress(Away):
            worker.stop(self.now)
            self.workers.remove(worker)

    def arm(self, worker: Worker) -> None:
        """All that goes well until messages wait for their sockets."""
        self.tend(worker)
        worker.read(self.now)
        worker.collect(3, self.now)
        for statement, _ in list(worker.storing):
            self.end_intent(statement, Fate.ANSWERED)

    def poise(self, worker: Worker) -> None:
        """And up to the last moment before the first byte."""
        self.arm(worker)
        worker.poise(len(worker.armed), self.now)

    # --- intents under way ----------------------------------------------------------------------------------------

    def end_intent(self, statement: IntentStatement, fate: Fate) -> None:
        granted: list[int] = []
        if fate is Fate.NEVER_ARRIVED:
            self.database.abort_intent(statement)
        else:
            granted = self.database.commit_intent(statement)
            self._note_takes(statement, granted)
        worker = next((w for w in self.workers if any(s is statement for s, _ in w.storing)), None)
        if worker is None:
            return
        if fate is Fate.ANSWERED and not worker.cut_off and worker.session is not None:
            worker.intent_answered(statement, granted, self.now)
        else:
            worker.intent_lost(statement, self.now)

    def lose_intent(self, worker: Worker) -> None:
        """The worker hears no more of a statement that is still under way."""
        statement, _ = worker.storing[0]
        worker.intent_lost(statement, self.now)

    def _note_takes(self, statement: IntentStatement, granted: list[int]) -> None:
        epochs = {message: epoch for message, epoch, _ in statement.messages}
        taken = Counter(self.database.outbox[message].channel for message in granted)
        for message in granted:
            lease = self.database.leases[self.database.outbox[message].channel]
            released = lease.worker_id is None
            assert released or epochs[message] == lease.epoch, "an intent was stored after another took the channel"
        for channel, number in taken.items():
            self.takes[channel].append((statement.at, number))

    # --- Meta -----------------------------------------------------------------------------------------------------

    def arrive(self, request: Request, verdict: Verdict, at: float | None = None) -> None:
        key = parse_key(request.key)
        assert key is not None
        assert (key.message_id, key.attempt) in self.database.sent, "what left was not stored"
        self.meta.decide(request, verdict, self.now if at is None else at, times.ECHO_S)
        if self.echoes is Echoes.NEVER:
            self.meta.echoes.clear()
        if self.assumptions_hold and self.database.policy is not DoubtPolicy.RESEND:
            assert len(self.meta.accepted[request.message]) <= 1, "accepted twice"

    def deliver(self, echo: Echo, *, again: bool = False) -> None:
        """The webhook is stored; it may come again."""
        if not again:
            self.meta.echoes.remove(echo)
        intent_at, place = self._intent_of(echo)
        self._told[place] = max(intent_at, self._told.get(place, intent_at))
        self.database.store_webhook(echo.key, echo.provider_id, self.now)

    def is_kept_back(self, echo: Echo) -> bool:
        """Where it is dark, unless that of a message stored after this one had left came through."""
        _, place = self._intent_of(echo)
        return place in self.dark and self._told.get(place, 0.0) <= echo.left_at

    def lighten(self, place: Place) -> None:
        """What was kept back comes before anything that is accepted from now on."""
        self.dark.discard(place)
        for echo in [echo for echo in self.meta.echoes if self._intent_of(echo)[1] == place]:
            self.deliver(echo)

    def _intent_of(self, echo: Echo) -> tuple[float, Place]:
        key = parse_key(echo.key)
        assert key is not None
        return self.database.sent[key.message_id, key.attempt]

    # --- time -----------------------------------------------------------------------------------------------------

    def pass_time(self, seconds: float, verdict: Verdict) -> None:
        """Nothing runs meanwhile but what has its own time-out; requests still on their way meet `verdict`."""
        for worker in self.workers:
            if worker.running:
                worker.write(self.now)
        self.now += seconds
        for statement in list(self.database.under_way):
            if statement.at + times.STATEMENT_S <= self.now:
                self.end_intent(statement, Fate.ANSWER_LOST)
        for request in list(self.meta.on_the_way):
            if request.left_at + times.NETWORK_S <= self.now:
                self.arrive(request, verdict, request.left_at + times.NETWORK_S)
        if self.echoes is Echoes.WITHIN_GRACE or self.healed:
            for echo in list(self.meta.echoes):
                if echo.due_by <= self.now and not self.is_kept_back(echo):
                    self.deliver(echo)
        for worker in self.workers:
            if worker.running:
                worker.give_up_waiting(self.now)

    def live_on(self, seconds: float, verdict: Verdict) -> None:
        """Time passes, and whoever can goes on with what it does; Meta answers all alike."""
        ends = self.now + seconds
        while self.now < ends:
            self.pass_time(min(2.0, ends - self.now), verdict)
            self.go_on(verdict)

    def go_on(self, verdict: Verdict) -> None:
        """One round of everything that runs."""
        for statement in list(self.database.under_way):
            self.end_intent(statement, Fate.ANSWERED)
        for worker in self.workers:
            if not worker.running:
                continue
            self.tend(worker)
            worker.read(self.now)
            worker.collect(20, self.now)
            for statement, _ in list(worker.storing):
                self.end_intent(statement, Fate.ANSWERED)
            worker.poise(len(worker.armed), self.now)
            worker.write(self.now)
        for request in list(self.meta.on_the_way):
            self.arrive(request, verdict)
        for worker in self.workers:
            if worker.running:
                for message in list(worker.flying):
                    assert message.request is not None
                    worker.hear(message, message.request.verdict or Verdict.NO_ANSWER, self.now)
                self.save(worker, len(worker.unsaved))
        self.database.apply_webhooks(len(self.database.webhooks), self.now)

    def heal(self) -> None:
        """Whatever was broken is whole again, and all that waits is sent, until nothing more happens."""
        for session in self.abandoned:
            self.database.end_session(session)
        for worker in self.workers:
            worker.stalled = worker.cut_off = False
        if not self.workers:
            self.boot(0.0)
        self.healed = True
        for place in list(self.dark):
            self.lighten(place)
        for _ in range(8):
            self.have_traffic(50.0, Verdict.ACCEPTED)
            self.check()
            if not self.database.outbox:
                return

    def have_traffic(self, seconds: float, verdict: Verdict) -> None:
        """What is in doubt is sent again only if what was sent after its end comes back."""
        self.live_on(12.0, verdict)
        for channel, kind in {(row.channel, row.kind) for row in self.database.outbox.values()}:
            self.database.add_message(channel, kind, self.now)
        self.live_on(seconds, verdict)

    def come_to_rest(self) -> None:
        """The end of a history: nothing is lost, and everything agrees."""
        self.check()
        self.heal()
        self.check()
        self.check_rates()
        self.check_end()

    # --- what must be true ----------------------------------------------------------------------------------------

    def check(self) -> None:
        """At any moment."""
        database = self.database
        assert not database.outbox.keys() & database.deliveries.keys(), "in the outbox and in the log"
        rows = Counter(row.state for row in database.outbox.values())
        log = Counter(delivery.state for delivery in database.deliveries.values())
        assert database.figures["total"] == rows.total() + log.total(), "a message is lost"
        assert database.figures["uncertain"] == rows["u"] == len(database.doubts), "the uncertain are miscounted"
        assert database.figures["accepted"] == log[ACCEPTED], "the accepted are miscounted"
        assert database.figures["failed"] == log[FAILED], "the failed are miscounted"
        listed = {message for messages in database.intents.values() for message in messages}
        for message, row in database.outbox.items():
            assert row.state != "s" or message in listed, "in flight, and no takeover would find it"
        for message, delivery in database.deliveries.items():
            assert delivery.state >= self._seen.get(message, 0), "a state went backwards"
            self._seen[message] = delivery.state
            if len(witnessed := database.witnessed[message]) > 1:
                assert set(delivery.provider_ids) == witnessed, "sent twice, and not reported"
        twice = sum(len(delivery.provider_ids) > 1 for delivery in database.deliveries.values())
        assert database.figures["sent_twice"] == twice, "sent twice is miscounted"
        assert self._seen.keys() <= database.deliveries.keys(), "a message left the log"

    def check_rates(self) -> None:
        """In any window at most rate × T + burst, whoever owned the channel."""
        burst = TokenBucket(times.RATE, 0.0).burst
        for takes in self.takes:
            takes.sort()
            for first, (began, _) in enumerate(takes):
                number = 0
                for at, taken in takes[first:]:
                    number += taken
                    most = times.RATE * (1 + times.DRIFT) * (at - began) + burst
                    assert number <= most + 1e-6, "faster than the rate"

    def check_end(self) -> None:
        """When all is whole again and nothing more happens."""
        for row in self.database.outbox.values():
            doubt = self.database.doubts.get(row.id)
            assert doubt is not None, f"left as {row.state}"
            assert doubt.reason is not None, "neither sent nor held"
            assert (
                self.echoes is Echoes.NEVER
                or self.database.policy is DoubtPolicy.HOLD
                or doubt.reason is HoldReason.ATTEMPTS_USED
            )
        for message, delivery in self.database.deliveries.items():
            accepted = self.meta.accepted[message]
            if self.echoes is not Echoes.NEVER:
                assert (delivery.state == ACCEPTED) == bool(accepted), "the log and Meta's ledger differ"
                assert len(accepted) == len(delivery.provider_ids), "sent twice, and not reported"
            elif delivery.state == ACCEPTED:
                assert accepted
