"""What a WhatsApp message may consist of, and how long each part may be."""

from typing import Any

import msgspec

from pombo.sandbox.errors import MetaError

_MEDIA = frozenset(("image", "video", "audio", "document", "sticker"))
_CAPTIONED = frozenset(("image", "video", "document"))
# Interactive kinds whose inner shape is not looked into.
_OTHER_INTERACTIVE = frozenset(
    (
        "flow",
        "product",
        "product_list",
        "catalog_message",
        "call_permission_request",
        "order_details",
        "order_status",
        "location_request_message",
        "address_message",
        "carousel",
        "contact_request",
    )
)


class SendRequest(msgspec.Struct):
    messaging_product: str | None = None
    recipient_type: str = "individual"
    to: str | int | None = None
    recipient: str | None = None
    type: str = "text"
    biz_opaque_callback_data: str | None = None
    context: dict[str, Any] | None = None
    text: dict[str, Any] | None = None
    template: dict[str, Any] | None = None
    image: dict[str, Any] | None = None
    video: dict[str, Any] | None = None
    audio: dict[str, Any] | None = None
    document: dict[str, Any] | None = None
    sticker: dict[str, Any] | None = None
    location: dict[str, Any] | None = None
    contacts: list[dict[str, Any]] | None = None
    reaction: dict[str, Any] | None = None
    interactive: dict[str, Any] | None = None
    pin: dict[str, Any] | None = None
    status: str | None = None
    message_id: str | None = None
    typing_indicator: dict[str, Any] | None = None
    access_token: str | None = None


def check_content(request: SendRequest) -> None:
    """Raises MetaError 100, 131008, 131009 or 131051. Templates are checked against the account's own."""
    kind = request.type
    if kind == "text":
        _check_text(_part(request.text, "text"))
    elif kind in _MEDIA:
        _check_media(kind, _part(getattr(request, kind), kind))
    elif kind == "interactive":
        _check_interactive(_part(request.interactive, "interactive"))
    elif kind == "reaction":
        _require("reaction.message_id", _part(request.reaction, "reaction").get("message_id"))
    elif kind == "location":
        location = _part(request.location, "location")
        for name in ("latitude", "longitude"):
            if name not in location:
                raise _missing(f"location.{name}")
    elif kind == "contacts":
        for contact in request.contacts or []:
            named = contact.get("name")
            _require("contacts.name.formatted_name", named.get("formatted_name") if isinstance(named, dict) else None)
        if not request.contacts:
            raise _missing("contacts")
    elif kind == "template":
        _part(request.template, "template")
    elif kind == "pin":
        _require("pin.message_id", _part(request.pin, "pin").get("message_id"))
    else:
        raise MetaError("whatsapp", 131051, details=f"Message type {kind} is not supported")


def _check_text(text: dict[str, Any]) -> None:
    body = text.get("body")
    _require("text.body", body)
    if len(str(body)) > 4096:
        raise MetaError("whatsapp", 100, message="(#100) Param text['body'] must be at most 4096 characters long.")


def _check_media(kind: str, media: dict[str, Any]) -> None:
    if bool(media.get("id")) == bool(media.get("link")):
        raise _wrong(f"{kind} needs either an id or a link")
    if media.get("caption") is not None:
        if kind not in _CAPTIONED:
            raise _wrong(f"{kind} takes no caption")
        _check_length(f"{kind}.caption", media["caption"], 1024)


def _check_interactive(interactive: dict[str, Any]) -> None:
    kind = interactive.get("type")
    if kind in _OTHER_INTERACTIVE:
        return
    if kind not in ("button", "list", "cta_url"):
        raise _wrong("interactive.type is unknown")
    _check_part_text(interactive, "body", 4096 if kind == "list" else 1024, required=True)
    _check_part_text(interactive, "footer", 60, required=False)
    action = interactive.get("action")
    if not isinstance(action, dict):
        raise _missing("interactive.action")
    if kind == "button":
        _check_reply_buttons(action)
    elif kind == "list":
        _check_list(action)
    else:
        parameters = action.get("parameters")
        if not isinstance(parameters, dict):
            raise _missing("interactive.action.parameters")
        _check_length("display_text", parameters.get("display_text"), 20)
        _require("url", parameters.get("url"))


def _check_reply_buttons(action: dict[str, Any]) -> None:
    ids = []
    for button in _objects("action.buttons", action.get("buttons"), 3):
        reply = button.get("reply")
        if button.get("type") != "reply" or not isinstance(reply, dict):
            raise _wrong("a button must be of type reply and have a reply")
        _check_length("button.reply.id", reply.get("id"), 256)
        _check_length("button.reply.title", reply.get("title"), 20)
        ids.append(reply["id"])
    if len(set(ids)) < len(ids):
        raise _wrong("button.reply.id must be unique")


def _check_list(action: dict[str, Any]) -> None:
    _check_length("action.button", action.get("button"), 20)
    rows = 0
    sections = _objects("action.sections", action.get("sections"), 10)
    for section in sections:
        if section.get("title") is not None or len(sections) > 1:
            _check_length("section.title", section.get("title"), 24)
        for row in _objects("section.rows", section.get("rows"), 10):
            rows += 1
            _check_length("row.id", row.get("id"), 200)
            _check_length("row.title", row.get("title"), 24)
            if row.get("description") is not None:
                _check_length("row.description", row["description"], 72)
    if rows > 10:
        raise _wrong("Total row count exceeds max allowed count: 10")


def _check_part_text(holder: dict[str, Any], name: str, most: int, *, required: bool) -> None:
    part = holder.get(name)
    if part is None and not required:
        return
    _check_length(f"interactive.{name}.text", part.get("text") if isinstance(part, dict) else None, most)


def _missing(name: str) -> MetaError:
    return MetaError("whatsapp", 131008, details=f"Parameter '{name}' is missing")


def _wrong(details: str) -> MetaError:
    return MetaError("whatsapp", 131009, details=details)


def _part(value: dict[str, Any] | None, name: str) -> dict[str, Any]:
    if value is None:
        raise _missing(name)
    return value


def _require(name: str, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise _missing(name)


def _check_length(name: str, value: Any, most: int) -> None:
    _require(name, value)
    if len(value) > most:
        raise _wrong(f"{name} has invalid length {len(value)}: at most {most}")


def _objects(name: str, value: Any, most: int) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not value or not all(isinstance(entry, dict) for entry in value):
        raise _missing(name)
    if len(value) > most:
        raise _wrong(f"{name} has {len(value)} entries: at most {most}")
    return value
