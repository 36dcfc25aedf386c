"""Content as the campaign API takes it: a message type and a payload in the shape of WhatsApp's Cloud API (row D1)."""

from typing import Any

from pombo.domain.content import Content, ContentError, ContentProblem, Raw, Template, Text
from pombo.domain.whatsapp_rules import MESSAGE_TYPES


def content_from_request(message_type: str, payload: dict[str, Any]) -> Content:
    """Raises ContentError if the payload does not have its type's shape; whether Meta takes it is `validate_content`'s.

    text      {"text": {"body": "…", "preview_url": false}} or {"text": "…"}
    template  {"template": {"name": "…", "language": "en_US" or {"code": "en_US"}, "components": […]}}
    raw       the payload as it is: Messenger's, or WhatsApp's with its "type"
    image, video, document, audio, interactive and WhatsApp's other types: {"image": {…}}
    """
    match message_type, payload:
        case "text", {"text": str(body)} | {"text": {"body": str(body), "preview_url": False}}:
            return Text(body)
        case "text", {"text": {"body": str(body), "preview_url": True}}:
            return Text(body, preview_url=True)
        case "text", {"text": {"body": str(body), **others}} if "preview_url" not in others:
            return Text(body)
        case "template", {"template": {"name": str(name), "language": str(code) | {"code": str(code)}, **others}}:
            components = others.get("components", [])
            if isinstance(components, list) and all(isinstance(component, dict) for component in components):
                return Template(name, code, components)
        case "raw", {}:
            return Raw(payload)
        case _ if message_type in MESSAGE_TYPES - {"text", "template"} and message_type in payload:
            return Raw({**payload, "type": message_type})
    raise ContentError([_problem(message_type)])


def _problem(message_type: str) -> ContentProblem:
    shapes = {
        "text": '{"text": {"body": "…"}}',
        "template": '{"template": {"name": "…", "language": {"code": "en_US"}, "components": […]}}',
    }
    if message_type not in MESSAGE_TYPES and message_type != "raw":
        names = ", ".join(sorted({*MESSAGE_TYPES, "raw"}))
        return ContentProblem("unsupported_type", f"'messageType' must be one of {names}.", "messageType")
    shape = shapes.get(message_type, f'{{"{message_type}": …}}')
    return ContentProblem(
        "payload_invalid", f"The payload of messageType {message_type} has the shape {shape}.", "payload"
    )
