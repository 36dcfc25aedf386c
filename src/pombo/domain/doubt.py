"""What becomes of a message in doubt: perhaps accepted by Meta, perhaps not.

Evidence (an echo or a status with our send key) ends a doubt at any time, and needs no rule. This is for the others:

    in doubt ──grace over──▶ sent again │ held (until a person acts, or what was missing comes true) │ failed

*Safe to send again* means that an echo would have come by now if Meta had accepted the message. Four things must be
true:

* nothing of the attempt can leave any more: its worker said so itself (it has seen the connection's end, or has given
  it up), or that worker has proven ended (`ended_at`). Grace is counted from then, since a worker that was merely
  stopped may have written the message in the last moment of its life;
* Meta has had the grace time to tell;
* it does tell: evidence with our key came back for something sent later, that is, whose intent was stored when nothing
  of this attempt could leave any more. It must be of the same channel and kind: a template's kind is its name and
  language, because Meta paces and holds templates one by one; all other messages are of one kind;
* and we have heard all of it: no webhook that came before the grace ended is still unread, and none was given up.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

DEFAULT_GRACE_S = 120.0


class DoubtPolicy(StrEnum):
    """A channel's answer to a doubt that outlived its grace."""

    SAFE = "safe"
    """Sent again if that is safe, else held."""
    HOLD = "hold"
    """Held, always."""
    RESEND = "resend"
    """Sent again without waiting for later evidence: for channels whose echoes nobody can subscribe to."""
    FAIL = "fail"
    """Failed; evidence that comes later still corrects it."""


class HoldReason(StrEnum):
    """Why a message is held; the first in this order that is true."""

    POLICY = "policy"
    WORKER_MAY_LIVE = "worker_may_live"
    WEBHOOKS_WAITING = "webhooks_waiting"
    WEBHOOKS_GIVEN_UP = "webhooks_given_up"
    NO_EVIDENCE = "no_evidence"
    ATTEMPTS_USED = "attempts_used"

    @property
    def words(self) -> str:
        return _WORDS[self]


_WORDS = {
    HoldReason.POLICY: "The channel's policy is to hold what is in doubt.",
    HoldReason.WORKER_MAY_LIVE: "The worker that sent it has not proven ended, so it may still be sending it.",
    HoldReason.WEBHOOKS_WAITING: "Webhooks that may tell of it are not applied yet.",
    HoldReason.WEBHOOKS_GIVEN_UP: "A webhook that may have told of it could not be applied.",
    HoldReason.NO_EVIDENCE: "Nothing sent later on this channel has come back in an echo or status, so none can be "
    "expected for this one.",
    HoldReason.ATTEMPTS_USED: "Its attempts are used up.",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the decision hangs on, as one look at the database saw it; all times are the database's."""

    now: datetime
    intent_at: datetime
    """When the intent of the doubtful attempt was stored."""
    since: datetime
    """When it became doubtful."""
    ended_at: datetime | None
    """Since when nothing of the attempt can leave any more: reported by its worker, or the worker found ended."""
    grace: timedelta
    newest_evidence: datetime | None
    """The latest intent of the same channel and kind for which evidence with our key has come back."""
    oldest_webhook: datetime | None
    """When the oldest of the workspace's webhooks that are not applied yet was received."""
    last_given_up: datetime | None
    """When one of the workspace's webhooks was last given up."""
    attempts_left: bool
    cancelled: bool = False
    """Its run was cancelled meanwhile: what could be sent again is dropped."""

    @property
    def grace_ends(self) -> datetime:
        return (self.since if self.ended_at is None else self.ended_at) + self.grace


@dataclass(frozen=True, slots=True)
class Wait:
    """Its grace is not over."""


@dataclass(frozen=True, slots=True)
class Resend:
    """Ready again; the doubtful attempt counts."""


@dataclass(frozen=True, slots=True)
class Fail:
    """Settled as failed."""


@dataclass(frozen=True, slots=True)
class Drop:
    """Settled as cancelled."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Stays in doubt, shown and counted. Decide again later: what is missing may come true."""

    reason: HoldReason


Decision = Wait | Resend | Fail | Drop | Hold


def decide(policy: DoubtPolicy, facts: Facts) -> Decision:
    if facts.now < facts.grace_ends:
        return Wait()
    if policy is DoubtPolicy.FAIL:
        return Fail()
    if policy is DoubtPolicy.HOLD:
        return Hold(HoldReason.POLICY)
    missing = _missing(facts, needs_evidence=policy is DoubtPolicy.SAFE)
    if missing is not None:
        return Hold(missing)
    return Drop() if facts.cancelled else Resend()


def _missing(facts: Facts, *, needs_evidence: bool) -> HoldReason | None:
    if facts.ended_at is None:
        return HoldReason.WORKER_MAY_LIVE
    if facts.oldest_webhook is not None and facts.oldest_webhook <= facts.grace_ends:
        return HoldReason.WEBHOOKS_WAITING
    if needs_evidence:
        if facts.last_given_up is not None and facts.last_given_up >= facts.intent_at:
            return HoldReason.WEBHOOKS_GIVEN_UP
        if facts.newest_evidence is None or facts.newest_evidence <= facts.ended_at:
            return HoldReason.NO_EVIDENCE
    if not facts.attempts_left and not facts.cancelled:
        return HoldReason.ATTEMPTS_USED
    return None


def shortest_grace_s(lease_s: float, answer_timeout_s: float) -> float:
    """What a grace must exceed, Meta's own delay not counted.

    A worker may write until its lease ends; the answer may take as long as it may take; and a dead worker's kernel goes
    on delivering what was written, for as long again (the transport's TCP_USER_TIMEOUT).
    """
    return lease_s + 2 * answer_timeout_s
