"""Which channel a recipient belongs to, and its address in the form that this channel's API takes."""

from collections.abc import Mapping

from pombo.domain.channels import ChannelKind
from pombo.domain.ids import ChannelId
from pombo.domain.phones import normalise_recipient
from pombo.store.audience import RejectedLine, StagedLine


class Addressing:
    def __init__(self, channels: Mapping[ChannelId, ChannelKind]) -> None:
        """The channels of a campaign. If there is only one, recipients need not name it."""
        self._channels = channels
        self._only = next(iter(channels)) if len(channels) == 1 else None

    def address(self, line: StagedLine) -> StagedLine | RejectedLine:
        channel_id = ChannelId(line.channel_id) if line.channel_id else self._only
        if channel_id is None:
            ids = ", ".join(map(str, self._channels))
            reason = f"The campaign sends from several channels ({ids}): name one of them as 'channelId'."
            return RejectedLine(line.line, line.recipient, "channel_required", reason)
        kind = self._channels.get(channel_id)
        if kind is None:
            reason = f"Channel {channel_id} is not one of this campaign's."
            return RejectedLine(line.line, line.recipient, "channel_not_found", reason)
        recipient = normalise_recipient(kind, line.recipient)
        if not isinstance(recipient, str):
            return RejectedLine(line.line, line.recipient, recipient.code, recipient.sentence)
        return StagedLine(line.line, channel_id, recipient, line.variables)
