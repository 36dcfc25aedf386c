"""WhatsApp's Cloud API: which message bodies can be sent to many (limits of 2026; its message and template pages)."""

import re
from collections.abc import Iterator
from typing import Any

from pombo.domain.channels import MAX_TEXT, ChannelKind
from pombo.domain.content import ContentProblem, TextLimit

MAX_REPLY_BUTTONS = 3
MAX_LIST_ROWS = 10

MEDIA_TYPES = frozenset({"image", "video", "document", "audio", "sticker"})
MESSAGE_TYPES = MEDIA_TYPES | {"text", "template", "interactive", "location", "contacts", "reaction"}

# Fields that Pombo sets; the constants among them may be there as Meta's samples have them.
_RESERVED = ("to", "recipient", "biz_opaque_callback_data")
CONSTANTS = {"messaging_product": "whatsapp", "recipient_type": "individual"}

_TEMPLATE_NAME = re.compile(r"[a-z0-9_]{1,512}")
_LANGUAGE = re.compile(r"[a-z]{2,3}(_[A-Za-z0-9]{2,4})*")

# By path within the body. A template parameter that is empty is refused by Meta (131008, 132000).
TEXT_LIMITS = [
    (re.compile(pattern), limit)
    for pattern, limit in (
        (r"text\.body", TextLimit(MAX_TEXT[ChannelKind.WHATSAPP], required=True)),
        (
            r"template\.components\[\d+\]\.(cards\[\d+\]\.components\[\d+\]\.)?parameters\[\d+\]\..+",
            TextLimit(required=True),
        ),
        (r"(image|video|document)\.caption", TextLimit(1024)),
        # 1,024 with buttons, 4,096 with a list; what is between is left to Meta's answer.
        (r"interactive\.body\.text", TextLimit(4096, required=True)),
        (r"interactive\.(header|footer)\.text", TextLimit(60)),
        (r"interactive\.action\.buttons\[\d+\]\.reply\.title", TextLimit(20, required=True)),
        (r"interactive\.action\.buttons\[\d+\]\.reply\.id", TextLimit(256, required=True)),
        (r"interactive\.action\.button", TextLimit(20, required=True)),
        (r"interactive\.action\.sections\[\d+\]\.title", TextLimit(24)),
        (r"interactive\.action\.sections\[\d+\]\.rows\[\d+\]\.title", TextLimit(24, required=True)),
        (r"interactive\.action\.sections\[\d+\]\.rows\[\d+\]\.id", TextLimit(200, required=True)),
        (r"interactive\.action\.sections\[\d+\]\.rows\[\d+\]\.description", TextLimit(72)),
    )
]


def check_body(body: dict[str, Any]) -> Iterator[ContentProblem]:
    """The body as Meta gets it, without what Pombo adds (product, recipient, send key)."""
    for field in _RESERVED:
        if field in body:
            sentence = f"'{field}' is set by Pombo for each message; leave it out of the payload."
            yield ContentProblem("field_reserved", sentence, field)
    for field, constant in CONSTANTS.items():
        if body.get(field, constant) != constant:
            yield ContentProblem("payload_invalid", f"'{field}' can only be \"{constant}\".", field)
    name = body.get("type")
    if not isinstance(name, str) or name not in MESSAGE_TYPES:
        sentence = f"'type' must be one of {', '.join(sorted(MESSAGE_TYPES))}."
        yield ContentProblem("unsupported_type", sentence, "type")
        return
    content = body.get(name)
    match name, content:
        case "contacts", [_, *_]:
            pass
        case "text", {"body": str()}:
            pass
        case "template", dict():
            yield from _check_template(content)
        case "interactive", dict():
            yield from _check_interactive(content)
        case _, dict() if name in MEDIA_TYPES:
            if ("id" in content) == ("link" in content):
                yield ContentProblem("payload_invalid", f"'{name}' needs either an 'id' or a 'link'.", name)
        case "location", {"latitude": _, "longitude": _}:
            pass
        case "reaction", {"message_id": str()}:
            pass
        case _:
            sentence = f"A message of type {name} needs its content under '{name}', in the shape Meta documents."
            yield ContentProblem("payload_invalid", sentence, name)


def _check_interactive(content: dict[str, Any]) -> Iterator[ContentProblem]:
    action = content.get("action")
    if not isinstance(content.get("type"), str) or not isinstance(action, dict):
        yield ContentProblem("payload_invalid", "'interactive' needs a 'type' and an 'action'.", "interactive")
        return
    match content["type"]:
        case "button":
            buttons = action.get("buttons")
            if not isinstance(buttons, list) or not 1 <= len(buttons) <= MAX_REPLY_BUTTONS:
                sentence = f"A message with reply buttons has 1 to {MAX_REPLY_BUTTONS} of them."
                yield ContentProblem("count_out_of_range", sentence, "interactive.action.buttons")
        case "list":
            sections = action.get("sections")
            sections = sections if isinstance(sections, list) else []
            rows = [section["rows"] for section in sections if isinstance(section, dict) and "rows" in section]
            if not all(isinstance(part, list) for part in rows) or not 1 <= sum(map(len, rows)) <= MAX_LIST_ROWS:
                sentence = f"A list has 1 to {MAX_LIST_ROWS} rows, counted over all its sections."
                yield ContentProblem("count_out_of_range", sentence, "interactive.action.sections")


def _check_template(template: dict[str, Any]) -> Iterator[ContentProblem]:
    name = template.get("name")
    if not isinstance(name, str) or not _TEMPLATE_NAME.fullmatch(name):
        sentence = "A template's name has lower-case letters, digits and underscores, at most 512."
        yield ContentProblem("template_name_invalid", sentence, "template.name")
    match template.get("language"):
        case {"code": str(code)} if _LANGUAGE.fullmatch(code):
            pass
        case _:
            sentence = "A template needs the code of its language, such as en_US or pt_BR."
            yield ContentProblem("template_language_invalid", sentence, "template.language")
    components = template.get("components", [])
    if not isinstance(components, list):
        yield ContentProblem("template_components_invalid", "'components' must be a list.", "template.components")
        return
    for index, component in enumerate(components):
        yield from _check_component(component, f"template.components[{index}]")


def _check_component(component: object, path: str) -> Iterator[ContentProblem]:
    match component:
        case {"type": str(name), "cards": [_, *_] as cards} if name.lower() == "carousel":
            for index, card in enumerate(cards):
                inner = card.get("components") if isinstance(card, dict) else None
                if not isinstance(inner, list):
                    sentence = "A card needs its 'components'."
                    yield ContentProblem("template_components_invalid", sentence, f"{path}.cards[{index}]")
                    continue
                for number, part in enumerate(inner):
                    yield from _check_component(part, f"{path}.cards[{index}].components[{number}]")
        case {"type": str(name), **others}:
            if name.lower() == "button" and not ("sub_type" in others and "index" in others):
                sentence = "A button component needs its 'sub_type' and its 'index'."
                yield ContentProblem("template_components_invalid", sentence, path)
            yield from _check_parameters(others.get("parameters"), f"{path}.parameters")
        case _:
            sentence = "A component needs a 'type' (header, body, button, carousel)."
            yield ContentProblem("template_components_invalid", sentence, path)


def _check_parameters(parameters: object, path: str) -> Iterator[ContentProblem]:
    if not isinstance(parameters, list) or not parameters:
        sentence = "A component that is named needs its parameters; leave out components without variables."
        yield ContentProblem("template_parameter_missing", sentence, path)
        return
    for index, parameter in enumerate(parameters):
        match parameter:
            case {"type": str(name)} if parameter.get(name.lower()) not in (None, "", {}, []):
                if name.lower() in MEDIA_TYPES and not _is_media(parameter[name.lower()]):
                    sentence = f"The parameter needs an 'id' or a 'link' under '{name.lower()}'."
                    yield ContentProblem("template_parameter_missing", sentence, f"{path}[{index}]")
            case _:
                sentence = 'A parameter needs its type and its value: {"type": "text", "text": "…"}.'
                yield ContentProblem("template_parameter_missing", sentence, f"{path}[{index}]")


def _is_media(value: object) -> bool:
    return isinstance(value, dict) and bool(value.get("id") or value.get("link"))
