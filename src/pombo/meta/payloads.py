"""Bodies of requests to Messenger's Send API and WhatsApp's Cloud API: compiled once a campaign, rendered once each."""

from collections.abc import Mapping
from typing import Any

from pombo.domain.channels import ChannelKind
from pombo.domain.content import Content, ContentError, Raw, Template, Text, TextLimit
from pombo.domain.content_rules import limit_of, validate_content
from pombo.domain.messenger_rules import split_payload
from pombo.domain.whatsapp_rules import CONSTANTS
from pombo.meta.body_template import Gap, compile_body

_NO_VARIABLES: Mapping[str, Any] = {}


class CompiledPayload:
    __slots__ = ("_by_id", "_by_user_id", "is_constant", "is_media", "template")

    def __init__(self, by_id: dict[str, Any], by_user_id: dict[str, Any], kind: ChannelKind) -> None:
        def limit(path: str) -> TextLimit | None:
            return limit_of(kind, path.removeprefix("message.") if kind is ChannelKind.MESSENGER else path)

        self._by_id = compile_body(by_id, limit)
        self._by_user_id = compile_body(by_user_id, limit)
        self.is_constant = self._by_id.is_constant
        """Whether all recipients get the same; then `variables` need not be read."""
        self.template = _template_of(by_id) if kind is ChannelKind.WHATSAPP else None
        """Name and language of the WhatsApp template, where these are the same for all."""
        self.is_media = kind is ChannelKind.MESSENGER and _is_media(by_id["message"])
        """Messenger's audio and video, which have a limit of their own."""

    def render(self, recipient: str, send_key: str, variables: Mapping[str, Any] | None) -> bytes:
        """The JSON body for one message. Raises RenderError, which concerns this message only."""
        # Of all recipients only WhatsApp's business-scoped user ids (`US.1349…`) have a dot; they need another field.
        template = self._by_user_id if "." in recipient else self._by_id
        return template.render(recipient, send_key, variables or _NO_VARIABLES)


def compile_payload(kind: ChannelKind, content: Content, *, by_person: bool = False) -> CompiledPayload:
    """Raises ContentError with all that `validate_content` finds."""
    if problems := validate_content(kind, content, by_person=by_person):
        raise ContentError(problems)
    if kind is ChannelKind.MESSENGER:
        body = _messenger_body(content)
        return CompiledPayload(body, body, kind)
    message = _whatsapp_message(content)
    shared = {**CONSTANTS, "biz_opaque_callback_data": Gap.SEND_KEY, **message}
    return CompiledPayload({**shared, "to": Gap.RECIPIENT}, {**shared, "recipient": Gap.RECIPIENT}, kind)


def _template_of(body: dict[str, Any]) -> tuple[str, str] | None:
    match body:
        case {"template": {"name": str(name), "language": {"code": str(language)}}} if "{" not in name + language:
            return name, language
    return None


def messages_target(version: str, external_id: str) -> str:
    """The path that takes sends for a Page or a phone number: `/v26.0/<id>/messages`."""
    return f"/{version}/{external_id}/messages"


def _messenger_body(content: Content) -> dict[str, Any]:
    """Unless the payload says otherwise, `messaging_type` is UPDATE, for a campaign answers nobody."""
    match content:
        case Text(text=text):
            message, envelope = split_payload({"text": text})
        case Raw(payload=payload):
            message, envelope = split_payload(payload)
        case Template():
            raise AssertionError("refused by validate_content")
    return {
        "recipient": {"id": Gap.RECIPIENT},
        "messaging_type": "UTILITY" if "template" in message else "UPDATE",
        **envelope,
        "message": {**message, "metadata": Gap.SEND_KEY},
    }


def _is_media(message: dict[str, Any]) -> bool:
    match message:
        case {"attachment": {"type": "audio" | "video"}}:
            return True
    return False


def _whatsapp_message(content: Content) -> dict[str, Any]:
    match content:
        case Text(text=text, preview_url=preview_url):
            return {"type": "text", "text": {"preview_url": preview_url, "body": text}}
        case Template(name=name, language=language, components=components):
            template: dict[str, Any] = {"name": name, "language": {"code": language}}
            return {"type": "template", "template": template | ({"components": components} if components else {})}
        case Raw(payload=payload):
            return payload
