"""Tells of a breaker's changes: in the log, and to the channel's next owner."""

from collections.abc import Callable

from pombo.domain.outcomes import ErrorScope
from pombo.sending.breaker import Breaker, BreakerState
from pombo.sending.lane import Lane
from pombo.sending.outcomes import OutcomeWriter
from pombo.store.cooldowns import Cause, Cooldown
from pombo.telemetry import log


def follow(lane: Lane, writer: OutcomeWriter, clock: Callable[[], float]) -> None:
    channel = lane.channel

    def changed(breaker: Breaker) -> None:
        match breaker.state:
            case BreakerState.OPEN:
                reason, left = breaker.reason or "", breaker.wait(clock()) or 0.0
                log.warning("breaker_opened", channel=channel.id, failures=breaker.failures, reason=reason)
                cooldown = Cooldown(
                    channel.workspace_id, channel.id, ErrorScope.CHANNEL, Cause.BREAKER, left, breaker.failures, reason
                )
                writer.breaker(lane, cooldown)
            case BreakerState.HALF_OPEN:
                log.info("breaker_half_open", channel=channel.id)
            case BreakerState.CLOSED:
                log.info("breaker_closed", channel=channel.id)
                writer.breaker(lane, None)

    lane.breaker.changed = changed
