"""What an error means beyond its message: for the channels of the app or account, and for campaigns.

Drawn at once in memory for this worker's lanes, and through the outcome writer in the database for all others: channels
stop and runs pause there for good; how long to leave Meta alone is noted for other workers and for next owners.
"""

from collections.abc import Callable

from pombo.domain.outcomes import ErrorClass, ErrorScope, SendError
from pombo.sending.backoff import retry_delay
from pombo.sending.lane import Lane
from pombo.sending.outcomes import OutcomeWriter
from pombo.sending.outgoing import Stream
from pombo.store.channels import is_concerned
from pombo.store.cooldowns import Cause, Cooldown
from pombo.telemetry import log

# A shorter pause is over before anybody else has read of it.
WORTH_NOTING_S = 2.0


class Consequences:
    """One per worker; `lanes` is the worker's own dict, read live."""

    def __init__(
        self,
        writer: OutcomeWriter,
        lanes: dict[tuple[int, int], Lane],
        *,
        content_failures: int,
        clock: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        """`content_failures` in a row pause a run; 0 for never."""
        self._writer = writer
        self._lanes = lanes
        self._content_failures = content_failures
        self._clock = clock
        self._chance = chance

    def stop(self, lane: Lane, error: SendError) -> None:
        """Nothing leaves by these channels until somebody has acted."""
        if lane.stopped:
            return
        lanes = [concerned for concerned in self._concerned(lane, error.scope) if not concerned.stopped]
        for concerned in lanes:
            concerned.stopped, concerned.stop_saved = True, False
            concerned.breaker.reason = error.words
            concerned.drop_queues()
        log.error(
            "channel_stopped", channel=lane.channel.id, code=error.code, subcode=error.subcode, scope=error.scope.value
        )
        self._writer.stop(lane, lanes, error)

    def throttle(self, lane: Lane, error: SendError) -> float:
        """The lane sends nothing for a while, nor do those that share its limit; returns for how long (seconds)."""
        now = self._clock()
        begins = now >= lane.resume_at
        if begins:
            # One step per pause, not one per answer of the messages that were in flight together.
            lane.throttled += 1
            self._slow_down(lane, error, now)
        delay = retry_delay(lane.throttled, error.backoff, self._chance)
        lane.resume_at = max(lane.resume_at, now + delay)
        if begins:
            for other in self._concerned(lane, error.scope):
                other.throttled = max(other.throttled, lane.throttled)
                other.resume_at = max(other.resume_at, lane.resume_at)
                if other is not lane:
                    self._slow_down(other, error, now)
            if delay >= WORTH_NOTING_S:
                channel, reason = lane.channel, error.words
                self._writer.throttle(
                    Cooldown(
                        channel.workspace_id, channel.id, error.scope, Cause.THROTTLE, delay, lane.throttled, reason
                    )
                )
        return delay

    @staticmethod
    def _slow_down(lane: Lane, error: SendError, now: float) -> None:
        if error.error_class is ErrorClass.RATE_LIMIT and lane.adaptive.refused(
            now, f"Meta refused for being too fast ({error.full_code})"
        ):
            lane.set_rate(lane.adaptive.current, now)
            log.info("rate_lowered", channel=lane.channel.id, rate=lane.adaptive.current, reason=lane.adaptive.reason)

    def pause_runs(self, stream: Stream, error: SendError) -> None:
        """All runs with the stream's template wait until somebody resumes them."""
        template = stream.payload and stream.payload.template
        self._pause(stream, error, f"{error.words} {error.next_step}")
        if template is None:
            return
        for lane in self._concerned(stream.lane, ErrorScope.ACCOUNT):
            for other in list(lane.streams.values()):
                if other.payload is not None and other.payload.template == template:
                    lane.drop_stream(other.run_id)

    def content_failed(self, stream: Stream, error: SendError) -> None:
        """A thousand failures of one content help nobody: after some in a row the run waits for its author."""
        stream.failures += 1
        if stream.failures == self._content_failures and stream.run_id > 0:
            self._pause(stream, error, f"{stream.failures} messages in a row failed: {error.words} {error.next_step}")

    def _pause(self, stream: Stream, error: SendError, why: str) -> None:
        stream.lane.pausing.add(stream.run_id)
        stream.lane.drop_stream(stream.run_id)
        self._writer.pause(stream, error, why)

    def _concerned(self, lane: Lane, scope: ErrorScope) -> list[Lane]:
        if scope is ErrorScope.CHANNEL:
            return [lane]
        others = (other for other in self._lanes.values() if other is not lane)
        return [lane, *(other for other in others if is_concerned(other.channel, lane.channel, scope))]
