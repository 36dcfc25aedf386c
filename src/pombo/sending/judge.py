"""What an answer of Meta's means for its message, its lane and its channel (row A5)."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from pombo.domain.content import RenderError
from pombo.domain.outcomes import Accepted, ErrorClass, ErrorScope, Failed, Outcome, Retry, SendError, Uncertain
from pombo.meta.answers import read_answer, read_usage
from pombo.meta.errors import connection_error, content_error, find_rule
from pombo.meta.transport import Answer, NeverWritten, Result
from pombo.sending.backoff import retry_delay
from pombo.sending.lane import Lane
from pombo.sending.outcomes import OutcomeWriter
from pombo.sending.outgoing import Outgoing
from pombo.telemetry import log

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

    def __init__(self, writer: OutcomeWriter, stats: SenderStats, *, attempts: int, clock: Callable[[], float]) -> None:
        self._writer = writer
        self._stats = stats
        self._attempts = attempts
        self._clock = clock
        self._chance = random.Random().random  # noqa: S311  (jitter, not a secret)

    def not_rendered(self, message: Outgoing, error: RenderError) -> None:
        """The recipient's values give no message; nothing was sent."""
        message.stream.lane.breaker.undecided()
        self._fail(message, content_error(error))

    def answered(self, result: Result, message: Outgoing) -> None:
        lane = message.stream.lane
        outcome: Outcome
        if isinstance(result, Answer):
            outcome = read_answer(lane.channel.kind, result.status, result.body)
            if type(outcome) is Accepted:
                self._stats.accepted += 1
                lane.accepted += 1
                lane.throttled = 0
                if not lane.accepted % USAGE_EVERY:
                    self._heed_usage(lane, result)
                if lane.breaker.success():
                    log.info("breaker_closed", channel=lane.channel.id)
                self._writer.accepted(message, outcome.provider_id)
                return
        else:
            never = isinstance(result, NeverWritten)
            error = connection_error(f"{result.reason}: {result.detail}" if result.detail else result.reason, never)
            outcome = Retry(error) if never else Uncertain(error)
        self._consequences(outcome, message)

    def _consequences(self, outcome: Outcome, message: Outgoing) -> None:
        lane = message.stream.lane
        match outcome:
            case Failed(error):
                lane.breaker.success()
                self._fail(message, error)
            case Uncertain(error):
                self._breaker_failure(lane, error)
                self._stats.uncertain += 1
                self._writer.doubt(message, error)
            case Retry(error):
                self._retry(message, error)
            case _:
                raise AssertionError("accepted messages are handled by the caller")

    def _fail(self, message: Outgoing, error: SendError) -> None:
        self._stats.failed += 1
        message.stream.lane.failed += 1
        self._writer.failed(message, error)

    def _retry(self, message: Outgoing, error: SendError) -> None:
        lane = message.stream.lane
        self._stats.retried += 1
        wide = error.scope in (ErrorScope.CHANNEL, ErrorScope.ACCOUNT)
        base = find_rule(lane.channel.kind, error.code, error.subcode).backoff_base if error.code else None
        if wide and error.error_class in (ErrorClass.AUTH, ErrorClass.POLICY):
            # The message stays, to be sent when the channel is repaired.
            self._stop(lane, error)
            self._writer.retry(message, error, 0.0, counts=False)
        elif wide and error.error_class is ErrorClass.RATE_LIMIT:
            # The channel is too fast, the message is blameless. Meta prolongs the block of those who go on calling.
            lane.breaker.success()
            delay = self._throttle(lane, error, base)
            self._writer.retry(message, error, delay, counts=False)
        elif error.code == 0:
            # Not a byte was written: as if it had not been tried.
            self._breaker_failure(lane, error)
            self._writer.retry(
                message, error, retry_delay(min(lane.breaker.failures, 6), None, self._chance), counts=False
            )
        elif message.attempt - message.uncounted >= self._attempts or error.error_class is ErrorClass.POLICY:
            lane.breaker.success()
            self._fail(message, error)
        else:
            lane.breaker.success()
            delay = retry_delay(message.attempt - message.uncounted, base, self._chance)
            self._writer.retry(message, error, delay, counts=True)

    def _stop(self, lane: Lane, error: SendError) -> None:
        if lane.stopped:
            return
        lane.stopped, lane.stop_saved = True, False
        lane.breaker.reason = error.words
        lane.drop_queues()
        log.error("channel_stopped", channel=lane.channel.id, code=error.code, subcode=error.subcode)
        self._writer.stop(lane, error)

    def _throttle(self, lane: Lane, error: SendError, base: float | None) -> float:
        now = self._clock()
        if now >= lane.resume_at:
            # One step per pause, not one per answer of the messages that were in flight together.
            lane.throttled += 1
            if lane.adaptive.refused(now, f"Meta refused for being too fast ({error.code})"):
                lane.set_rate(lane.adaptive.current, now)
                log.info(
                    "rate_lowered", channel=lane.channel.id, rate=lane.adaptive.current, reason=lane.adaptive.reason
                )
        delay = retry_delay(lane.throttled, base, self._chance)
        lane.resume_at = max(lane.resume_at, now + delay)
        return delay

    def _heed_usage(self, lane: Lane, answer: Answer) -> None:
        if (percent := read_usage(answer.headers)) is None:
            return
        now = self._clock()
        if lane.adaptive.usage(percent, now):
            lane.set_rate(lane.adaptive.current, now)
            log.info("rate_lowered", channel=lane.channel.id, rate=lane.adaptive.current, reason=lane.adaptive.reason)

    def _breaker_failure(self, lane: Lane, error: SendError) -> None:
        if lane.breaker.failure(error.title, self._clock()):
            log.warning("breaker_opened", channel=lane.channel.id, reason=error.title)
