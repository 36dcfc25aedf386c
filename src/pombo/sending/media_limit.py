"""Messenger takes 10 audio or video messages a second from a Page, below any channel's rate.

Source: Meta's "Rate limits" page, 2026.
"""

from pombo.domain.channels import ChannelKind
from pombo.domain.content import RenderError
from pombo.sending.direct import direct_payload
from pombo.sending.outgoing import Outgoing
from pombo.sending.pacer import TokenBucket

MEDIA_RATE = 10.0


class MediaLimit:
    """One per Messenger lane. A campaign of audio or video draws on `bucket` as a whole, direct messages one by one."""

    __slots__ = ("bucket",)

    def __init__(self, now: float) -> None:
        self.bucket = TokenBucket(MEDIA_RATE, now)

    def take(self, message: Outgoing, now: float, before: int) -> float:
        """0.0 when the direct message may leave now, else the seconds to wait; `before` others wait already."""
        try:
            payload = direct_payload(ChannelKind.MESSENGER, message.content)
        except RenderError:
            return 0.0  # it fails before it leaves
        if not payload.is_media or self.bucket.take(1, now):
            return 0.0
        return self.bucket.wait(now) + before / MEDIA_RATE
