"""Campaign messages as a conversation shows them."""

import json
from typing import Any

from pombo.domain.content import RenderError
from pombo.domain.liquid import TemplateError, compile_text
from pombo.store.campaign_replies import CampaignCopy, Followed


def copy_of(followed: Followed) -> CampaignCopy:
    """Text is rendered with what is known of the contact; what the campaign's list said of them is gone."""
    content = json.loads(followed.content)
    kind: str
    text: str | None
    match content:
        case {"type": "text", "text": str(source)}:
            kind, text = "text", _rendered(source, followed.attributes)
        case {"type": "template", "name": str(name)}:
            kind, text = "template", name
        case {"type": "raw", "payload": dict(payload)}:
            kind, text = _of_payload(payload)
            text = _rendered(text, followed.attributes) if text is not None else None
        case _:
            kind, text = "unsupported", None
    return CampaignCopy(followed, kind, text, json.dumps({"campaign": content}))


def _of_payload(payload: dict[str, Any]) -> tuple[str, str | None]:
    """Messenger's message, or WhatsApp's with its type."""
    match payload:
        case {"text": str(text)}:
            return "text", text
        case {"text": {"body": str(text)}}:
            return "text", text
        case {"attachment": {"type": str(kind)}}:
            return kind, None
        case {"template": {"name": str(name)}}:
            return "template", name
        case {"type": str(kind)}:
            return kind, None
    return "unsupported", None


def _rendered(source: str, attributes: str) -> str:
    try:
        return compile_text(source).render(json.loads(attributes))
    except (TemplateError, RenderError):
        return source
