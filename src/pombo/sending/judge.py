"""What an answer of Meta's means for its message (row A5); what it means beyond, `consequences` knows."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from pombo.domain.content import RenderError
from pombo.domain.outcomes import Accepted, ErrorClass, ErrorScope, SendError
from pombo.domain.reactions import Reaction, reaction_to
from pombo.meta.answers import read_answer, read_usage
from pombo.meta.errors import connection_error, content_error
from pombo.meta.transport import Answer, NeverWritten, Reason, Result
from pombo.sending.backoff import retry_delay
from pombo.sending.consequences import Consequences
from pombo.sending.lane import Lane
from pombo.sending.outcomes import OutcomeWriter
from pombo.sending.outgoing import Outgoing
from pombo.telemetry import log

# A message that only its own recipient holds back (the pair limit) gets so many attempts, whatever the setting says:
# Meta's 1 + 4 + 16 + 64 + 256 s are longer than the 270 s in which the largest burst to one person is paid off.
PAIR_ATTEMPTS = 6
# Where not a byte could be written, messages come back after 2^n s at most, for the breaker holds the channel anyway.
MOST_UNREACHABLE = 6

# Attempts that do not count are numbered too, by a small integer: some ten days' worth where no breaker spares them.
MOST_ATTEMPTS = 30_000

# Meta's usage figures move slowly, and finding them costs more than the rest of an answer: each 32nd is looked at,
# about one a second for a Page.
USAGE_EVERY = 32


@dataclass(slots=True)
class SenderStats:
    """For /stats/performance."""

    collected: int = 0
    intents: int = 0
    accepted: int = 0
    failed: int = 0
    retried: int = 0
    uncertain: int = 0


class Judge:
    """One per worker. Hands every outcome to the writer and draws the consequences in memory."""

    def __init__(
        self,
        writer: OutcomeWriter,
        lanes: dict[tuple[int, int], Lane],
        stats: SenderStats,
        *,
        attempts: int,
        content_failures: int,
        clock: Callable[[], float],
    ) -> None:
        self._writer = writer
        self._stats = stats
        self._attempts = attempts
        self._clock = clock
        self._chance = random.Random().random  # noqa: S311  (jitter, not a secret)
        self.consequences = Consequences(
            writer, lanes, content_failures=content_failures, clock=clock, chance=self._chance
        )

    def not_rendered(self, message: Outgoing, error: RenderError) -> None:
        """The recipient's values give no message; nothing was sent."""
        message.stream.lane.breaker.undecided(message.id)
        self._fail(message, content_error(error))

    def answered(self, result: Result, message: Outgoing) -> None:
        if not isinstance(result, Answer):
            title = f"{result.reason}: {result.detail}" if result.detail else result.reason
            if result.reason is Reason.SHUTDOWN:
                # Given up by us, which says nothing of Meta: the next owner must not find the breaker open for it.
                message.stream.lane.breaker.undecided(message.id)
                self._give_up(message, connection_error(title, isinstance(result, NeverWritten)))
            elif isinstance(result, NeverWritten):
                self._unreachable(message, connection_error(title, True))
            else:
                self._doubt(message, connection_error(title, False))
            return
        lane = message.stream.lane
        outcome = read_answer(lane.channel.kind, result.status, result.body)
        if isinstance(outcome, Accepted):
            self._stats.accepted += 1
            lane.accepted += 1
            lane.throttled = 0
            if not lane.accepted % USAGE_EVERY:
                self._heed_usage(lane, result)
            message.stream.failures = 0
            lane.breaker.success(message.id)
            self._writer.accepted(message, outcome.provider_id)
        else:
            self._react(message, outcome.error)

    def _react(self, message: Outgoing, error: SendError) -> None:
        stream = message.stream
        reaction = reaction_to(error)
        if reaction is Reaction.DOUBT:
            self._doubt(message, error)
            return
        if reaction is Reaction.STOP:
            if message.head is stream.lane.head:
                # Before the breaker hears of a success: it would let the next message go.
                self.consequences.stop(stream.lane, error)
            else:
                # It left with a token that was replaced since; what the new one is good for, the next attempt tells.
                stream.lane.breaker.undecided(message.id)
            self._put_back(message, error, 0.0)
            return
        stream.lane.breaker.success(message.id)
        match reaction:
            case Reaction.SLOW_DOWN:
                # The channel is too fast, the message is blameless. Meta prolongs the block of those who go on calling.
                self._put_back(message, error, self.consequences.throttle(stream.lane, error))
            case Reaction.PAUSE_RUNS if stream.run_id > 0:
                self.consequences.pause_runs(stream, error)
                self._put_back(message, error, 0.0)
            case Reaction.FAIL | Reaction.PAUSE_RUNS:
                self._fail(message, error)
            case Reaction.RETRY:
                self._retry(message, error)
            case _:
                assert_never(reaction)

    def _give_up(self, message: Outgoing, error: SendError) -> None:
        if error.proves_not_accepted:
            self._put_back(message, error, 0.0)
        else:
            self._stats.uncertain += 1
            self._writer.doubt(message, error)

    def _doubt(self, message: Outgoing, error: SendError) -> None:
        breaker = message.stream.lane.breaker
        if error.error_class is ErrorClass.RATE_LIMIT:
            # A warning about this person, and no sign that Meta is away.
            breaker.success(message.id)
        else:
            breaker.failure(message.id, error.title, self._clock())
        self._stats.uncertain += 1
        self._writer.doubt(message, error)

    def _fail(self, message: Outgoing, error: SendError) -> None:
        self._stats.failed += 1
        message.stream.lane.failed += 1
        self._writer.failed(message, error)
        if error.opt_out:
            self._writer.suppress(message, error)
        if error.scope in (ErrorScope.MESSAGE, ErrorScope.TEMPLATE):
            self.consequences.content_failed(message.stream, error)

    def _unreachable(self, message: Outgoing, error: SendError) -> None:
        """Not a byte was written: as if it had not been tried."""
        breaker = message.stream.lane.breaker
        breaker.failure(message.id, error.title, self._clock())
        self._put_back(message, error, retry_delay(min(breaker.failures, MOST_UNREACHABLE), None, self._chance))

    def _put_back(self, message: Outgoing, error: SendError, delay: float) -> None:
        if message.attempt >= MOST_ATTEMPTS:
            self._fail(message, error)
            return
        self._stats.retried += 1
        self._writer.retry(message, error, delay, counts=False)

    def _retry(self, message: Outgoing, error: SendError) -> None:
        attempts = message.attempt - message.uncounted
        held = error.error_class is ErrorClass.RATE_LIMIT
        if attempts >= (max(self._attempts, PAIR_ATTEMPTS) if held else self._attempts):
            self._fail(message, error)
            return
        self._stats.retried += 1
        self._writer.retry(message, error, retry_delay(attempts, error.backoff, self._chance), counts=True)

    def _heed_usage(self, lane: Lane, answer: Answer) -> None:
        if (percent := read_usage(answer.headers)) is None:
            return
        now = self._clock()
        if lane.adaptive.usage(percent, now):
            lane.set_rate(lane.adaptive.current, now)
            log.info("rate_lowered", channel=lane.channel.id, rate=lane.adaptive.current, reason=lane.adaptive.reason)
