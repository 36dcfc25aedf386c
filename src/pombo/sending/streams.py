"""Which streams the lanes hold: those open in the tables, each with its compiled content."""

from datetime import datetime, timedelta

import msgspec

from pombo.domain.channels import ChannelKind
from pombo.domain.classes import MessageClass
from pombo.domain.content import Content, ContentError
from pombo.domain.ids import WorkerId, WorkspaceId
from pombo.meta.payloads import CompiledPayload, compile_payload
from pombo.sending.lane import Lane
from pombo.sending.outgoing import Stream
from pombo.store import outbox, run_control
from pombo.store.channels import Channel
from pombo.store.database import Connection, atomic
from pombo.store.outbox import BEGINNING
from pombo.telemetry import log

# Less is within what a pass reads again anyway.
_PUT_BACK = timedelta(seconds=1)

_decode_content = msgspec.json.Decoder(Content).decode


class Streams:
    """One per worker. `lanes` is the worker's own dict, read live."""

    def __init__(self, lanes: dict[tuple[int, int], Lane]) -> None:
        self._lanes = lanes
        self._payloads: dict[tuple[int, int, ChannelKind], CompiledPayload] = {}
        """By workspace, run and kind: compiled once for all the run's channels."""
        self._latest = BEGINNING[0]
        """The database's time at the last look."""

    async def refresh(self, connection: Connection, worker_id: WorkerId) -> None:
        """Opens what was opened, drops what was paused or closed; any stream may have something to read."""
        # Of before the look: by its end they may be saved, and the look may have been before that.
        pausing = {key: set(lane.pausing) for key, lane in self._lanes.items() if lane.pausing}
        at, rows = await outbox.open_streams(connection, worker_id)
        if at is not None:
            self._heed_clock(at)
        wanted: dict[tuple[int, int], dict[int, int]] = {}
        for workspace_id, channel_id, run_id, message_class in rows:
            wanted.setdefault((workspace_id, channel_id), {})[run_id] = message_class
        for key, lane in list(self._lanes.items()):
            runs = wanted.get(key, {})
            if not runs and not lane.streams:
                continue
            for run_id in lane.streams.keys() - runs.keys():
                lane.drop_stream(run_id)
            for run_id in runs.keys() - lane.streams.keys() - lane.pausing - pausing.get(key, set()):
                await self._open(connection, lane, run_id, MessageClass(runs[run_id]))
            for stream in lane.streams.values():
                stream.more = True
        used = {(workspace_id, run_id) for workspace_id, _, run_id, _ in rows}
        for known in [known for known in self._payloads if known[:2] not in used]:
            del self._payloads[known]

    def _heed_clock(self, at: datetime) -> None:
        """When the database's clock was put back, what is due by it may lie before all that was read."""
        if self._latest - at > _PUT_BACK:
            log.warning("database_clock_put_back", seconds=(self._latest - at).total_seconds())
            for lane in self._lanes.values():
                for stream in lane.streams.values():
                    stream.start_over()
        self._latest = at

    async def _open(self, connection: Connection, lane: Lane, run_id: int, message_class: MessageClass) -> None:
        if run_id <= 0:
            lane.streams[run_id] = Stream(lane, run_id, None, message_class)
            return
        payload = await self._payload(connection, lane.channel, run_id)
        if payload is not None:
            limit = lane.media.bucket if lane.media is not None and payload.is_media else None
            lane.streams[run_id] = Stream(lane, run_id, payload, message_class, limit)

    async def _payload(self, connection: Connection, channel: Channel, run_id: int) -> CompiledPayload | None:
        key = (channel.workspace_id, run_id, channel.kind)
        payload = self._payloads.get(key)
        if payload is None:
            content = await outbox.run_content(connection, channel.workspace_id, run_id)
            if content is None:
                return None
            try:
                payload = compile_payload(channel.kind, _decode_content(content))
            except (ContentError, msgspec.DecodeError) as error:
                # Refused when the campaign was made; so this run was written past the API.
                log.error("run_content_refused", run=run_id, channel=channel.id, reason=str(error))
                reason = f"Its content cannot be sent by channel {channel.id}: {error}"
                async with atomic(connection):
                    await run_control.pause_runs(connection, WorkspaceId(channel.workspace_id), [run_id], reason)
                return None
            self._payloads[key] = payload
        return payload
