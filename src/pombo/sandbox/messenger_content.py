"""What a Messenger message may consist of, and how long each part may be."""

from typing import Any

import msgspec

from pombo.sandbox.errors import MetaError

_MAX_TEXT = 2000
_MAX_METADATA = 1000
_MAX_QUICK_REPLIES = 13
_MAX_IMAGES = 30
_ATTACHMENT_TYPES = frozenset(("image", "audio", "video", "file", "template"))
_BUTTON_TYPES = frozenset(("web_url", "postback", "phone_number", "account_link", "account_unlink", "game_play"))


class Message(msgspec.Struct):
    text: str | None = None
    attachment: dict[str, Any] | None = None
    attachments: list[dict[str, Any]] | None = None
    quick_replies: list[dict[str, Any]] | None = None
    metadata: str | None = None
    sticker_id: str | int | None = None
    template: dict[str, Any] | None = None


def check_message(message: Message) -> None:
    """Raises MetaError 100, as Meta does for every payload it does not like."""
    text = message.text
    rich = (message.attachment, message.attachments, message.sticker_id, message.template).count(None)
    given = 4 - rich + (text is not None)
    if given == 0:
        raise _invalid("Message cannot be empty, must provide valid attachment or text")
    if given > 1:
        raise _invalid("Only one of the text, attachment, attachments, sticker_id and template fields can be specified")
    if message.metadata is not None:
        _check_length("message[metadata]", message.metadata, _MAX_METADATA)
    if text is not None:
        if not text:
            raise _invalid("Message cannot be empty, must provide valid attachment or text")
        _check_length("message[text]", text, _MAX_TEXT)
    if message.quick_replies is not None:
        _check_quick_replies(message.quick_replies)
    if message.attachment is not None:
        _check_attachment(message.attachment)
    if message.attachments is not None:
        _check_count("message[attachments]", message.attachments, _MAX_IMAGES)
        for attachment in message.attachments:
            if attachment.get("type") != "image":
                raise _invalid("message[attachments] may only hold images.")
    if message.template is not None and not _texts(message.template, "name"):
        raise _invalid("Param message[template][name] is required.")


def is_heavy(message: Message) -> bool:
    """Audio and video have a lower limit on calls than everything else."""
    return message.attachment is not None and message.attachment.get("type") in ("audio", "video")


def _check_quick_replies(replies: list[dict[str, Any]]) -> None:
    _check_count("message[quick_replies]", replies, _MAX_QUICK_REPLIES)
    for reply in replies:
        kind = reply.get("content_type")
        if kind not in ("text", "user_phone_number", "user_email"):
            raise _invalid("Param message[quick_replies][content_type] must be text, user_phone_number or user_email.")
        if kind == "text":
            _require("message[quick_replies][title]", reply.get("title"), 20)
            _check_optional("message[quick_replies][payload]", reply.get("payload"), 1000)


def _check_attachment(attachment: dict[str, Any]) -> None:
    kind = attachment.get("type")
    if kind not in _ATTACHMENT_TYPES:
        raise _invalid("Param message[attachment][type] must be one of image, audio, video, file, template.")
    payload = attachment.get("payload")
    if not isinstance(payload, dict):
        raise _invalid("Param message[attachment][payload] is required.")
    if kind == "template":
        _check_template(payload)
    elif not _texts(payload, "url") and not _texts(payload, "attachment_id"):
        raise _invalid("message[attachment][payload] needs a url or an attachment_id.")


def _check_template(payload: dict[str, Any]) -> None:
    match payload.get("template_type"):
        case "generic":
            elements = _objects("message[attachment][payload][elements]", payload.get("elements"), 10)
            for element in elements:
                _require("elements[title]", element.get("title"), 80)
                _check_optional("elements[subtitle]", element.get("subtitle"), 80)
                if len(element) < 2:
                    raise _invalid("An element needs at least one property beside its title.")
                if element.get("buttons") is not None:
                    _check_buttons(element["buttons"])
        case "button":
            _require("message[attachment][payload][text]", payload.get("text"), 640)
            _check_buttons(payload.get("buttons"))
        case "media":
            if len(_objects("message[attachment][payload][elements]", payload.get("elements"), 1)) != 1:
                raise _invalid("A media template has exactly one element.")
        case "receipt":
            for name in ("recipient_name", "order_number", "currency", "payment_method", "summary"):
                if name not in payload:
                    raise _invalid(f"Param message[attachment][payload][{name}] is required.")
        case "product":
            _objects("message[attachment][payload][elements]", payload.get("elements"), 10)
        case "image_grid" | "instant_form" | "customer_feedback":
            pass
        case other:
            raise _invalid(f"Param message[attachment][payload][template_type] does not know {other!r}.")


def _check_buttons(value: Any) -> None:
    for button in _objects("buttons", value, 3):
        kind = button.get("type")
        if kind not in _BUTTON_TYPES:
            raise _invalid(f"Param buttons[type] must be one of {', '.join(sorted(_BUTTON_TYPES))}.")
        if kind in ("web_url", "postback", "phone_number"):
            _require("buttons[title]", button.get("title"), 20)
        if kind == "web_url":
            _require("buttons[url]", button.get("url"), 2000)
        if kind in ("postback", "phone_number"):
            _require("buttons[payload]", button.get("payload"), 1000)


def _invalid(message: str) -> MetaError:
    return MetaError("messenger", 100, message=f"(#100) {message}")


def _texts(holder: dict[str, Any], name: str) -> bool:
    value = holder.get(name)
    return isinstance(value, (str, int)) and value != ""


def _check_length(name: str, text: str, most: int) -> None:
    if len(text) > most:
        raise _invalid(f"Length of param {name} must be less than or equal to {most}")


def _check_optional(name: str, value: Any, most: int) -> None:
    if value is not None:
        _require(name, value, most)


def _require(name: str, value: Any, most: int) -> None:
    if not isinstance(value, str) or not value:
        raise _invalid(f"Param {name} must be a non-empty string.")
    _check_length(name, value, most)


def _check_count(name: str, values: list[Any], most: int) -> None:
    if not values:
        raise _invalid(f"Param {name} must be a non-empty array.")
    if len(values) > most:
        raise _invalid(f"Param {name} has too many elements: at most {most}.")


def _objects(name: str, value: Any, most: int) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise _invalid(f"Param {name} must be an array of objects.")
    _check_count(name, value, most)
    return value
