"""What a worker publishes of itself, as JSON; the API adds the workers up for /stats."""

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from pombo.sending.lane import Lane

if TYPE_CHECKING:
    from pombo.sending.worker import Worker


def snapshot(worker: "Worker", name: str) -> str:
    """See docs/subsystems/sending.md for the fields."""
    now = worker._clock()
    document = {
        "name": name,
        # The others idle at their set rate: of thousands, telling so each second would be most of what is told.
        "channels": [_lane(lane, now) for lane in worker.lanes.values() if lane.is_notable],
        "http_client": dataclasses.asdict(worker.transport.snapshot()),
        "log_writer": dataclasses.asdict(worker.writer.stats),
        "performance": dataclasses.asdict(worker.sender.stats)
        | {f"read_ahead_{field}": value for field, value in dataclasses.asdict(worker.read_stats).items()},
    }
    return msgspec.json.encode(document).decode()


def _lane(lane: Lane, now: float) -> dict[str, Any]:
    breaker = lane.breaker
    opened_at = probe_at = None
    if breaker.opened_at is not None:
        opened = datetime.now(UTC) - timedelta(seconds=now - breaker.opened_at)
        opened_at, probe_at = opened.isoformat(), (opened + timedelta(seconds=breaker.timeout_s)).isoformat()
    return {
        "workspaceId": lane.channel.workspace_id,
        "channelId": lane.channel.id,
        "name": lane.channel.name,
        "ratePerSecond": lane.pacer.rate,
        "rateReason": lane.adaptive.reason,
        "inFlight": lane.open,
        "buffered": lane.buffered,
        "accepted": lane.accepted,
        "failed": lane.failed,
        "stopped": lane.stopped,
        "breaker": {
            "state": breaker.state,
            "failures": breaker.failures,
            "opened_at": opened_at,
            "probe_at": probe_at,
            "opens": breaker.opens,
            "reason": breaker.reason,
        },
    }
