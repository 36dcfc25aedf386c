"""What Meta tells of channels, accounts and templates is kept, and heeded: what may send no more is stopped."""

import hashlib
from collections.abc import Sequence

import msgspec

from pombo.domain.events import ChannelNotice
from pombo.domain.outcomes import ErrorScope
from pombo.ingest.gathering import Place
from pombo.store import channel_notices, channels
from pombo.store.channel_notices import Notice
from pombo.store.channels import Stop
from pombo.store.database import Connection
from pombo.telemetry import log

_encode = msgspec.json.Encoder(order="sorted").encode


async def heed(connection: Connection, told: Sequence[tuple[Place, ChannelNotice]]) -> None:
    """In a transaction. A notice stops something once, when it is new and nothing later is known."""
    notices = [_notice(place, event) for place, event in told]
    for index in await channel_notices.note(connection, notices):
        place, event = told[index]
        match event.stops:
            case "channel":
                stop = Stop(*place, None, ErrorScope.CHANNEL, event.name, event.reason)
                await channels.stop_channels(connection, [stop])
                log.warning(
                    "channel_stopped_by_notice",
                    workspace_id=place.workspace_id,
                    channel=place.channel_id,
                    notice=event.name,
                    reason=event.reason,
                )
            case "template":
                paused = await channel_notices.pause_template(connection, *place, event.subject, event.reason)
                log.warning(
                    "template_stopped_by_notice",
                    workspace_id=place.workspace_id,
                    channel=place.channel_id,
                    template=event.subject,
                    runs=len(paused),
                )


def _notice(place: Place, event: ChannelNotice) -> Notice:
    data = _encode(event.data)
    return Notice(*place, event.name, event.subject, data.decode(), hashlib.sha256(data).digest()[:16], event.at)
