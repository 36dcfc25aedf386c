"""What Meta tells of a WhatsApp account, its numbers and its templates."""

from datetime import datetime

from pombo.domain.channels import ChannelKind
from pombo.domain.events import ChannelNotice
from pombo.meta.json_parts import Json, part, storable, text
from pombo.meta.template_notices import template_notice

_KIND = ChannelKind.WHATSAPP


def read_notice(channel: str, name: str, at: datetime, value: Json, *, is_account: bool) -> ChannelNotice:
    """`name` is the field's."""
    if name == "message_template_status_update":
        return template_notice(_KIND, channel, name, at, value, is_account=is_account)
    reason = _end(value) if name == "account_update" else ""
    return ChannelNotice(
        _KIND,
        channel,
        name,
        at,
        storable(value),
        is_account,
        subject=(text(value, "message_template_name") or text(value, "display_phone_number") or "")[:600],
        stops="channel" if reason else "",
        reason=reason,
    )


def _end(value: Json) -> str:
    """Why the account may send no more; nothing if it may."""
    if text(part(value, "ban_info"), "waba_ban_state") == "DISABLE":
        return "Meta has disabled the WhatsApp Business account."
    if text(value, "event") == "ACCOUNT_DELETED":
        return "The WhatsApp Business account was deleted."
    return ""
