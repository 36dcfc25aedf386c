"""Direct messages bring their own content: compiled when they are sent."""

from functools import lru_cache

import msgspec

from pombo.domain.channels import ChannelKind
from pombo.domain.content import Content, ContentError, RenderError
from pombo.meta.payloads import CompiledPayload, compile_payload

_decode = msgspec.json.Decoder(Content).decode


# Confirmations and steps of flows say the same to many; replies do not, and cost their 0.1 ms each.
@lru_cache(maxsize=512)
def direct_payload(kind: ChannelKind, content: str | None) -> CompiledPayload:
    """Raises RenderError, for what is wrong concerns this message only."""
    try:
        return compile_payload(kind, _decode(content or ""), by_person=True)
    except (ContentError, msgspec.DecodeError) as error:
        # Refused when the message was queued; so this one was written past the API.
        raise RenderError("content_invalid", f"The message's content cannot be sent: {error}") from error
