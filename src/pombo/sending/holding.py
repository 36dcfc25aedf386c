"""Who holds up whom: what others have done to attempted messages, which a lane cannot see by itself."""

from collections.abc import Iterable
from dataclasses import replace

from pombo.sending.lane import Away, Lane
from pombo.store import order
from pombo.store.database import Connection

# Waiting and doubtful messages of a lane looked up in one round, besides those that do hold somebody up.
LOOK_UP = 500


async def load(connection: Connection, worker_id: int, lanes: Iterable[Lane], now: float) -> None:
    """For lanes just taken over, before they are read for: what was attempted holds later messages to its recipient."""
    by_channel: dict[tuple[int, int], Lane] = {(lane.channel.workspace_id, lane.channel.id): lane for lane in lanes}
    for message in await order.attempted(connection, worker_id, by_channel):
        lane = by_channel[message.workspace_id, message.channel_id]
        until = now + lane.grace_s - message.age_s if message.doubtful else None
        lane.hold(message.message_id, Away(message.recipient, message.message_class, until))


async def let_pass(connection: Connection, lanes: Iterable[Lane], now: float) -> None:
    """Lets pass what waits behind a message that was settled by others, was paused, or has long been in doubt."""
    suspects: dict[int, Lane] = {}
    for lane in lanes:
        if lane.away:
            suspects |= dict.fromkeys(lane.holding(LOOK_UP), lane)
    if not suspects:
        return
    found = await order.states(connection, [(lane.channel.workspace_id, id) for id, lane in suspects.items()])
    for id, lane in suspects.items():
        away = lane.away.get(id)
        if away is None or (state := found.get(id)) == "s":
            continue
        if state in (None, "p") or (state == "u" and away.until is not None and away.until <= now):
            lane.let_pass([id])
        elif state == "u" and away.until is None:
            # Put in doubt by others, or when it had been read once more.
            lane.away[id] = replace(away, until=now + lane.grace_s)
        elif state == "r" and away.until is not None:
            # It is to be sent again after all.
            lane.away[id] = replace(away, until=None)
