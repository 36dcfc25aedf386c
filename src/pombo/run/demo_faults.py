"""What goes wrong in the demo: 1 % of the sends err, and webhooks come twice and in disorder.

All of it resolves by itself. An error that may or may not have been accepted is settled by its echo or status; one that
proves that nothing was accepted is tried again, or fails for this recipient.
"""

from collections.abc import Iterable
from typing import Any

from pombo.domain.channels import ChannelKind

_FAULTS: list[dict[str, Any]] = [
    # All was sent, yet the endpoint answers with an error: only the echo or the status tells.
    {"kind": "error", "code": 1, "subcode": 1357046, "http_status": 500, "when": "after", "rate": 0.002},
    # Accepted, then the connection closes without an answer.
    {"kind": "lost_answer", "rate": 0.002},
    # A failure of the service, although the message was accepted.
    {"kind": "error", "code": 131000, "http_status": 500, "when": "after", "rate": 0.002},
    # Too fast: the app's channels slow down for a minute or two, the message is sent again.
    {"kind": "error", "code": 4, "http_status": 400, "rate": 0.002, "max_count": 1},
    {"kind": "async_failure", "code": 131026, "rate": 0.005},
    {"kind": "webhook_duplicate", "rate": 0.1, "delay_ms": 100, "jitter_ms": 500},
    {"kind": "webhook_disorder", "rate": 0.2},
]

# This recipient cannot be reached (permanent): each platform has its own code.
_UNREACHABLE: dict[ChannelKind, dict[str, Any]] = {
    ChannelKind.MESSENGER: {"kind": "error", "code": 551, "subcode": 1545041, "http_status": 400, "rate": 0.002},
    ChannelKind.WHATSAPP: {"kind": "error", "code": 131026, "http_status": 400, "rate": 0.002},
}


def faults(channels: Iterable[tuple[ChannelKind, str]]) -> list[dict[str, Any]]:
    """For channels given by kind and Meta's id; as `POST /sandbox/faults` takes them."""
    return _FAULTS + [_UNREACHABLE[kind] | {"channel": external_id} for kind, external_id in channels]
