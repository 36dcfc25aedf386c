"""The shared database: each method is one statement of `pombo.store`, done at once, except for the intent's.

Statements under way hold their locks: a takeover skips channels whose lease an intent has locked, as SKIP LOCKED does.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import NamedTuple, assert_never

from pombo.domain.doubt import DoubtPolicy, Drop, Facts, Fail, Hold, HoldReason, Resend, Wait, decide
from pombo.domain.outcomes import DeliveryState
from pombo.domain.sendkey import parse_key
from tests.protocol_model import times
from tests.protocol_model.flaws import Flaw

CANCELLED, FAILED, ACCEPTED = DeliveryState.CANCELLED.rank, DeliveryState.FAILED.rank, DeliveryState.ACCEPTED.rank


@dataclass(slots=True)
class Lease:
    worker_id: int | None = None
    epoch: int = 0


@dataclass(slots=True)
class Row:
    """Of the outbox."""

    id: int
    channel: int
    state: str = "r"
    due_at: float = 0.0
    attempt: int = 0
    uncounted: int = 0
    epoch: int = 0
    intent_at: float = 0.0
    kind: str = "session"


@dataclass(slots=True)
class Doubt:
    since: float
    worker_id: int | None
    """Whose intent it was; None when that worker itself has reported the doubt."""
    ended_at: float | None
    """Since when nothing of the attempt can leave any more."""
    reason: HoldReason | None = None
    """Why it is held."""


@dataclass(slots=True)
class Delivery:
    channel: int
    state: int
    attempt: int
    provider_ids: list[str] = field(default_factory=list)


class StoredWebhook(NamedTuple):
    key: str
    provider_id: str
    received_at: float


@dataclass(slots=True)
class Outcome:
    """What a worker or a webhook says of one attempt: accepted, failed, retry or doubt."""

    kind: str
    message: int
    attempt: int
    provider_id: str = ""
    counts: bool = True
    delay: float = 0.0


@dataclass(slots=True)
class IntentStatement:
    """Under way at the server: it has checked its leases and holds them locked."""

    worker_id: int
    intent_id: int
    messages: list[tuple[int, int, int]]
    """(message, epoch of its lane, attempts so far)"""
    at: float
    leased: set[int]
    """Channels whose lease it found as expected."""


class Database:
    def __init__(self, channels: int, policy: DoubtPolicy, flaw: Flaw | None) -> None:
        self.policy = policy
        self.flaw = flaw
        self.leases = [Lease() for _ in range(channels)]
        self.expires_at: dict[int, float] = {}
        """Workers' heartbeats."""
        self.locks: dict[int, int] = {}
        """Advisory locks: worker id → session."""
        self.outbox: dict[int, Row] = {}
        self.intents: dict[tuple[int, int], list[int]] = {}
        self.under_way: list[IntentStatement] = []
        self.doubts: dict[int, Doubt] = {}
        self.deliveries: dict[int, Delivery] = {}
        self.figures: Counter[str] = Counter()
        self.newest_evidence: dict[tuple[int, str], float] = {}
        """Per channel and kind, the latest intent that Meta has given evidence of."""
        self.webhooks: list[StoredWebhook] = []
        """Not applied yet, oldest first."""
        self.sent: dict[tuple[int, int], tuple[float, tuple[int, str]]] = {}
        """Every intent that ever committed: its time, channel and kind by message and attempt."""
        self.witnessed: defaultdict[int, set[str]] = defaultdict(set)
        """The provider ids that were ever told of."""
        self._ids = count(1)

    def add_message(self, channel: int, kind: str, now: float) -> int:
        id = next(self._ids)
        self.outbox[id] = Row(id, channel, due_at=now, kind=kind)
        self.figures["total"] += 1
        return id

    # --- workers and leases ---------------------------------------------------------------------------------------

    def register(self, session: int, now: float, lease_s: float) -> int:
        worker_id = next(self._ids)
        self.expires_at[worker_id] = now + lease_s
        self.locks[worker_id] = session
        return worker_id

    def heartbeat(self, worker_id: int, now: float, lease_s: float) -> bool:
        if not self.is_live(worker_id, now):
            return False
        self.expires_at[worker_id] = now + lease_s
        return True

    def is_live(self, worker_id: int | None, now: float) -> bool:
        return worker_id is not None and self.expires_at.get(worker_id, now) > now

    def end_session(self, session: int) -> None:
        self.locks = {worker: holder for worker, holder in self.locks.items() if holder != session}

    def acquire(self, worker_id: int, now: float) -> None:
        live = [worker for worker, expires_at in self.expires_at.items() if expires_at > now]
        if worker_id not in live:
            return
        share = -(-len(self.leases) // len(live))
        locked = self._locked_channels()
        owned = sum(lease.worker_id == worker_id for lease in self.leases)
        for channel, lease in enumerate(self.leases):
            if owned >= share:
                return
            if not self.is_live(lease.worker_id, now) and channel not in locked:
                lease.worker_id, lease.epoch = worker_id, lease.epoch + 1
                owned += 1

    def surplus(self, worker_id: int, now: float) -> int:
        live = sum(expires_at > now for expires_at in self.expires_at.values())
        owned = sum(lease.worker_id == worker_id for lease in self.leases)
        return max(0, owned - -(-len(self.leases) // max(1, live)))

    def owned(self, worker_id: int) -> dict[int, int]:
        """Channel → epoch."""
        return {c: lease.epoch for c, lease in enumerate(self.leases) if lease.worker_id == worker_id}

    def release(self, worker_id: int, channels: Iterable[int]) -> None:
        for channel in channels:
            if self.leases[channel].worker_id == worker_id:
                self.leases[channel] = Lease(None, self.leases[channel].epoch + 1)

    def retire(self, worker_id: int) -> None:
        self.release(worker_id, range(len(self.leases)))
        self.expires_at.pop(worker_id, None)
        self.locks.pop(worker_id, None)

    def _locked_channels(self) -> set[int]:
        if self.flaw is Flaw.NO_KEY_SHARE_LOCK:
            return set()
        return {channel for statement in self.under_way for channel in statement.leased}

    # --- intents --------------------------------------------------------------------------------------------------

    def begin_intent(
        self, worker_id: int, intent_id: int, messages: list[tuple[int, int, int]], leases: dict[int, int], now: float
    ) -> IntentStatement:
        unfenced = self.flaw is Flaw.NO_EPOCH_CHECK
        leased = {
            channel
            for channel, epoch in leases.items()
            if unfenced
            or (
                self.leases[channel].epoch == epoch
                and self.leases[channel].worker_id == worker_id
                and self.is_live(worker_id, now)
            )
        }
        statement = IntentStatement(worker_id, intent_id, messages, now, leased)
        self.under_way.append(statement)
        return statement

    def commit_intent(self, statement: IntentStatement) -> list[int]:
        """The ids that may leave."""
        self.under_way.remove(statement)
        granted = []
        for message, epoch, attempts in statement.messages:
            row = self.outbox.get(message)
            if row is None or row.state != "r" or row.attempt != attempts or row.channel not in statement.leased:
                continue
            row.state, row.attempt, row.epoch, row.intent_at = "s", attempts + 1, epoch, statement.at
            self.sent[message, row.attempt] = statement.at, (row.channel, row.kind)
            granted.append(message)
        if granted:
            self.intents[statement.worker_id, statement.intent_id] = granted
        return granted

    def abort_intent(self, statement: IntentStatement) -> None:
        self.under_way.remove(statement)

    def revoke_intent(self, identity: tuple[int, int]) -> None:
        for message in self.intents.pop(identity, ()):
            row = self.outbox.get(message)
            if row is not None and row.state == "s":
                row.state, row.uncounted = "r", row.uncounted + 1

    def finish_intents(self, identities: Iterable[tuple[int, int]]) -> None:
        for identity in identities:
            self.intents.pop(identity, None)

    def adopt_orphans(self, now: float) -> None:
        owners = {lease.worker_id for lease in self.leases}
        for worker_id, intent_id in list(self.intents):
            if self.is_live(worker_id, now) or worker_id in owners:
                continue
            for message in self.intents.pop((worker_id, intent_id)):
                row = self.outbox.get(message)
                if row is not None and row.state == "s" and row.epoch < self.leases[row.channel].epoch:
                    self._into_doubt(row, worker_id, now)

    # --- doubts ---------------------------------------------------------------------------------------------------

    def find_ends(self, worker_id: int, now: float) -> None:
        """A worker whose lock is free has ended; not so one whose lock was lost for a moment only."""
        blind = self.flaw is Flaw.RESENDS_WHILE_THE_OWNER_LIVES
        for message, doubt in self.doubts.items():
            if doubt.worker_id is None or self.leases[self.outbox[message].channel].worker_id != worker_id:
                continue
            has_ended = doubt.worker_id not in self.locks or blind
            if has_ended != (doubt.ended_at is not None):
                doubt.ended_at, doubt.reason = now if has_ended else None, None

    def decide_doubts(self, worker_id: int, now: float) -> None:
        for message, doubt in list(self.doubts.items()):
            row = self.outbox[message]
            if self.leases[row.channel].worker_id != worker_id:
                continue
            match decide(self.policy, self._facts(row, doubt, now)):
                case Wait():
                    pass
                case Hold(reason):
                    doubt.reason = reason
                case Resend():
                    self._undoubt(row)
                    row.state, row.due_at = "r", now
                case Fail():
                    self._settle(row, Delivery(row.channel, FAILED, row.attempt), "failed")
                case Drop():
                    raise AssertionError("nothing is cancelled here")
                case never:
                    assert_never(never)

    def _facts(self, row: Row, doubt: Doubt, now: float) -> Facts:
        evidence = self.newest_evidence.get((row.channel, row.kind))
        webhook = min((webhook.received_at for webhook in self.webhooks), default=None)
        grace, ended_at = times.GRACE_S, doubt.ended_at
        match self.flaw:
            case Flaw.COUNTS_GRACE_FROM_THE_DOUBT if ended_at is not None:
                ended_at = doubt.since
            case Flaw.TAKES_EVIDENCE_FROM_BEFORE_THE_END if evidence is not None and evidence > row.intent_at:
                evidence = now
            case Flaw.RESENDS_WITHOUT_GRACE:
                grace = 0.0
            case Flaw.RESENDS_WITHOUT_LATER_EVIDENCE:
                evidence = now
            case Flaw.TAKES_EVIDENCE_OF_ANOTHER_KIND:
                evidence = max((at for (c, _), at in self.newest_evidence.items() if c == row.channel), default=None)
            case Flaw.RESENDS_BEFORE_WEBHOOKS_ARE_APPLIED:
                webhook = None
            case _:
                pass
        return Facts(
            now=times.moment(now),
            intent_at=times.moment(row.intent_at),
            since=times.moment(doubt.since),
            ended_at=None if ended_at is None else times.moment(ended_at),
            grace=timedelta(seconds=grace),
            newest_evidence=None if evidence is None else times.moment(evidence),
            oldest_webhook=None if webhook is None else times.moment(webhook),
            last_given_up=None,
            attempts_left=row.attempt - row.uncounted < times.ATTEMPTS,
        )

    # --- webhooks -------------------------------------------------------------------------------------------------

    def store_webhook(self, key: str, provider_id: str, now: float) -> None:
        self.webhooks.append(StoredWebhook(key, provider_id, now))

    def apply_webhooks(self, count: int, now: float) -> None:
        for webhook in self.webhooks[:count]:
            key = parse_key(webhook.key)
            assert key is not None
            intent_at, place = self.sent[key.message_id, key.attempt]
            self.newest_evidence[place] = max(intent_at, self.newest_evidence.get(place, intent_at))
            self.apply(Outcome("accepted", key.message_id, key.attempt, provider_id=webhook.provider_id), now)
        del self.webhooks[:count]

    # --- outcomes -------------------------------------------------------------------------------------------------

    def apply(self, outcome: Outcome, now: float) -> None:
        match outcome.kind:
            case "accepted":
                self._accept(outcome)
                self.witnessed[outcome.message].add(outcome.provider_id)
            case "failed":
                self._fail(outcome)
            case "retry":
                self._put_back(outcome, now)
            case "doubt":
                self._doubt(outcome, now)
            case kind:
                raise AssertionError(kind)

    def _accept(self, outcome: Outcome) -> None:
        row = self.outbox.get(outcome.message)
        if row is not None and row.attempt >= outcome.attempt:
            self._settle(row, Delivery(row.channel, ACCEPTED, outcome.attempt, [outcome.provider_id]), "accepted")
            return
        delivery = self.deliveries.get(outcome.message)
        if delivery is None:
            return
        if delivery.state < ACCEPTED:
            self.figures["failed"] -= 1
            self.figures["accepted"] += 1
            delivery.state = ACCEPTED
        if self.flaw is Flaw.COUNTS_WHAT_DID_NOT_MOVE:
            self.figures["accepted"] += 1
        hidden = delivery.provider_ids and self.flaw is Flaw.HIDES_THE_SECOND_ID
        if outcome.provider_id not in delivery.provider_ids and not hidden:
            delivery.provider_ids.append(outcome.provider_id)
            if len(delivery.provider_ids) == 2:
                self.figures["sent_twice"] += 1

    def _fail(self, outcome: Outcome) -> None:
        row = self.outbox.get(outcome.message)
        if row is not None and row.attempt == outcome.attempt and row.state != "r":
            self._settle(row, Delivery(row.channel, FAILED, outcome.attempt), "failed")

    def _put_back(self, outcome: Outcome, now: float) -> None:
        row = self.outbox.get(outcome.message)
        if row is None or row.state == "r":
            return
        if row.attempt != outcome.attempt and self.flaw is not Flaw.PROOF_OF_ANY_ATTEMPT:
            return
        self._undoubt(row)
        row.state, row.due_at = "r", now + outcome.delay
        row.uncounted += not outcome.counts

    def _doubt(self, outcome: Outcome, now: float) -> None:
        row = self.outbox.get(outcome.message)
        if row is None or row.state == "r" or row.attempt != outcome.attempt:
            return
        if row.state == "s":
            self._into_doubt(row, None, now)
        # Perhaps adopted, from a worker that was taken for dead or even found ended: it knows better.
        doubt = self.doubts[row.id]
        doubt.worker_id, doubt.ended_at, doubt.reason = None, now, None

    def _into_doubt(self, row: Row, worker_id: int | None, now: float) -> None:
        row.state = "u"
        self.doubts[row.id] = Doubt(now, worker_id, None)
        self.figures["uncertain"] += 1

    def _undoubt(self, row: Row) -> None:
        if row.state == "u":
            del self.doubts[row.id]
            self.figures["uncertain"] -= 1

    def _settle(self, row: Row, delivery: Delivery, figure: str) -> None:
        self._undoubt(row)
        del self.outbox[row.id]
        self.deliveries[row.id] = delivery
        self.figures[figure] += 1
