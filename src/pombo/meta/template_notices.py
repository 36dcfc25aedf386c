"""What Meta tells of a template, in the same words for WhatsApp and Messenger."""

from datetime import datetime

from pombo.domain.channels import ChannelKind
from pombo.domain.events import ChannelNotice
from pombo.meta.json_parts import Json, part, storable, text

# After these Meta refuses to send it.
_STOPS = frozenset({"PAUSED", "DISABLED", "REJECTED", "DELETED", "PENDING_DELETION"})


def template_notice(
    kind: ChannelKind, channel: str, name: str, at: datetime, value: Json, *, is_account: bool
) -> ChannelNotice:
    template = text(value, "message_template_name") or ""
    language = (text(value, "message_template_language") or "").replace("-", "_")
    event = (text(value, "event") or "").upper()
    stops = event in _STOPS and template != ""
    why = text(part(value, "other_info"), "description") or text(part(value, "rejection_info"), "reason")
    why = (why or text(value, "reason") or "").rstrip(".")
    return ChannelNotice(
        kind,
        channel,
        name,
        at,
        storable(value),
        is_account,
        subject=f"{template} {language}".strip()[:600],
        stops="template" if stops else "",
        reason=f"Meta has set the template {template} to {event}{f': {why}' if why not in ('', 'NONE') else ''}."[:1000]
        if stops
        else "",
    )
