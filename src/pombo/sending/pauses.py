"""Acknowledges pauses: says that a paused stream is gone from its lane, and all that was taken of it has left.

What was taken waits in one of three places: its intent is being stored, it is armed and waits for a socket, or it waits
within the transport for a connection that is being made. Its lane counts the first two (`Stream.unsent`).
"""

from pombo.domain.ids import WorkerId
from pombo.meta.transport import Transport
from pombo.sending.lane import Lane
from pombo.sending.outgoing import Outgoing
from pombo.store import pauses
from pombo.store.database import Connection
from pombo.store.pauses import Halted, Paused


class Acknowledger:
    """One per worker. `lanes` is the worker's own dict, read live."""

    def __init__(self, lanes: dict[tuple[int, int], Lane], transport: Transport) -> None:
        self._lanes = lanes
        self._transport = transport
        self._former: list[Lane] = []
        self._paused: list[Paused] = []
        self._halted: list[Halted] = []

    @property
    def waiting(self) -> bool:
        """Whether something is still to be acknowledged: then `acknowledge` again in some milliseconds."""
        return bool(self._paused or self._halted)

    def left(self, lane: Lane) -> None:
        """A lane that was given up and drained. What was taken from it may still leave, under a lease of before."""
        self._former = [former for former in self._former if not former.is_clear] + [lane]

    async def look(self, connection: Connection, worker_id: WorkerId) -> None:
        """Reads what is to be acknowledged; after the streams were read, and those not open dropped."""
        self._paused, self._halted = await pauses.unacknowledged(connection, worker_id)

    async def acknowledge(self, connection: Connection, worker_id: WorkerId) -> None:
        """Acknowledges what is clear by now."""
        if not self.waiting:
            return
        unwritten = {
            (m.stream.lane.channel.workspace_id, m.stream.lane.channel.id, m.stream.run_id)
            for m in self._transport.unwritten()
            if isinstance(m, Outgoing)
        }
        channels = {key[:2] for key in unwritten}
        paused = [p for p in self._paused if p[:3] not in unwritten and self._is_clear_of(p)]
        halted = [h for h in self._halted if h[:2] not in channels and self._is_clear(h)]
        if paused or halted:
            await pauses.acknowledge(connection, worker_id, paused, halted)
            self._paused = [p for p in self._paused if p not in paused]
            self._halted = [h for h in self._halted if h not in halted]

    def _is_clear_of(self, paused: Paused) -> bool:
        return all(lane.is_clear_of(paused.run_id) for lane in self._lanes_of(paused.workspace_id, paused.channel_id))

    def _is_clear(self, halted: Halted) -> bool:
        return all(lane.is_clear for lane in self._lanes_of(halted.workspace_id, halted.channel_id))

    def _lanes_of(self, workspace_id: int, channel_id: int) -> list[Lane]:
        """None for a channel that is ours but cannot send, say because its token cannot be read."""
        lanes = [
            lane for lane in self._former if (lane.channel.workspace_id, lane.channel.id) == (workspace_id, channel_id)
        ]
        if (lane := self._lanes.get((workspace_id, channel_id))) is not None:
            lanes.append(lane)
        return lanes
