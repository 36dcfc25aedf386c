"""What people do on WhatsApp, as the webhooks of a number tell it."""

import base64
from typing import Any

from pombo.sandbox.people import full_name, user_id_of
from pombo.sandbox.scene import BadActError, Scene, Told

_FORMATTING = str.maketrans("", "", "+-() ")


def tell(scene: Scene) -> Told:
    """Raises BadActError."""
    act = scene.act
    match act.type:
        case "text":
            said = act.text or "Hello"
            return _message(scene, "text", {"body": said}, said)
        case "image" | "video" | "audio" | "sticker":
            return _message(scene, act.type, _media(scene), act.text)
        case "file":
            return _message(scene, "document", _media(scene), act.text)
        case "location":
            place = {"latitude": -23.55, "longitude": -46.63, "name": act.title or "São Paulo", **(act.data or {})}
            return _message(scene, "location", place, None)
        case "contacts":
            card = {"name": {"formatted_name": act.title or "A friend"}, "phones": [{"phone": "+551133334444"}]}
            return _message(scene, "contacts", [{**card, **(act.data or {})}], None)
        case "order":
            order = {"catalog_id": "1", "text": act.text or "", "product_items": [], **(act.data or {})}
            return _message(scene, "order", order, act.text)
        case "tap":
            return _tap(scene)
        case "reaction":
            reaction = {"message_id": scene.about} | ({} if act.emoji is None else {"emoji": act.emoji})
            return Told("messages", _value(scene, "reaction", reaction))
        case "edit":
            new = {"type": "text", "text": {"body": act.text or ""}}
            edit = {"original_message_id": scene.about, "message": new, **(act.data or {})}
            return Told("messages", _value(scene, "edit", edit))
        case "unsend":
            return Told("messages", _value(scene, "revoke", {"original_message_id": scene.about}))
        case "referral":
            said = act.text or "Hello! I saw your ad."
            referral = {
                "source_url": "https://fb.me/3cr4Wqqkv",
                "source_id": "120226305854810726",
                "source_type": "ad",
                "headline": act.title or "Chat with us",
                "body": "Our new shelf",
                "media_type": "image",
                "ctwa_clid": "ARAkLkA8rmlFeiCktEJQ",
                **(act.data or {}),
            }
            return _message(scene, "text", {"body": said}, said, {"referral": referral})
        case "opt_in" | "opt_out":
            return Told("user_preferences", _preference(scene))
        case "new_number":
            return Told("messages", _new_number(scene))
        case "unsupported":
            errors = [
                {
                    "code": 131051,
                    "title": "Message type unknown",
                    "message": "Message type unknown",
                    "error_data": {"details": "Message type is currently not supported."},
                }
            ]
            return _message(scene, "unsupported", act.data, None, {"errors": errors})
        case "other_app":
            return _from_the_phone(scene)
        case "raw":
            return Told(act.field, act.data or {})
        case "read":
            raise BadActError("WhatsApp tells of reading by message: read_rate decides")


def _metadata(scene: Scene) -> dict[str, Any]:
    channel = scene.channel
    return {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": channel.display_phone_number, "phone_number_id": channel.id},
    }


def _wa_id(scene: Scene) -> str | None:
    """None where WhatsApp tells the business-scoped id only."""
    return None if scene.person.hides_number or "." in scene.person_id else scene.person_id


def _contact(scene: Scene) -> dict[str, Any]:
    contact: dict[str, Any] = {"profile": {"name": full_name(scene.person_id, scene.person)}}
    if (wa_id := _wa_id(scene)) is not None:
        contact["wa_id"] = wa_id
    return {**contact, "user_id": user_id_of(scene.person_id, scene.person)}


def _value(scene: Scene, kind: str, content: Any, more: dict[str, Any] | None = None) -> dict[str, Any]:
    sender: dict[str, Any] = {} if (wa_id := _wa_id(scene)) is None else {"from": wa_id}
    message = {
        **sender,
        "from_user_id": user_id_of(scene.person_id, scene.person),
        "id": scene.new_id,
        "timestamp": str(int(scene.at)),
        "type": kind,
        **({} if content is None else {kind: content}),
        **(more or {}),
    }
    return {**_metadata(scene), "contacts": [_contact(scene)], "messages": [message]}


def _message(scene: Scene, kind: str, content: Any, said: str | None, more: dict[str, Any] | None = None) -> Told:
    context = {} if scene.quoted is None else {"context": {"from": _business(scene), "id": scene.quoted}}
    return Told("messages", _value(scene, kind, content, context | (more or {})), True, said)


def _business(scene: Scene) -> str:
    return scene.channel.display_phone_number.translate(_FORMATTING)


def _media(scene: Scene) -> dict[str, Any]:
    act, media = scene.act, scene.media
    assert media is not None
    told: dict[str, Any] = {
        "mime_type": media.mime_type,
        "sha256": base64.b64encode(media.sha256).decode(),
        "id": media.id,
        "url": scene.media_url,
    }
    if act.type in ("image", "video", "file") and act.text is not None:
        told["caption"] = act.text
    if act.type == "file":
        told["filename"] = media.filename
    if act.type == "audio":
        told["voice"] = act.media.voice
    if act.type == "sticker":
        told["animated"] = False
    return told


def _tap(scene: Scene) -> Told:
    choice = scene.choice
    if choice is None:
        raise BadActError("a tap needs a title and a payload, as there is no message with anything to tap")
    context = {"context": {"from": _business(scene), "id": scene.about}} if scene.about else {}
    if choice.kind == "button":
        button = {"payload": choice.payload, "text": choice.title}
        return Told("messages", _value(scene, "button", button, context), True, choice.title)
    kind = "list_reply" if choice.kind == "list_reply" else "button_reply"
    reply = {"type": kind, kind: {"id": choice.payload, "title": choice.title}}
    return Told("messages", _value(scene, "interactive", reply, context), True, choice.title)


def _preference(scene: Scene) -> dict[str, Any]:
    value = "resume" if scene.act.type == "opt_in" else "stop"
    preference: dict[str, Any] = {
        "user_id": user_id_of(scene.person_id, scene.person),
        "detail": f"User requested to {value} marketing messages",
        "category": "marketing_messages",
        "value": value,
        "timestamp": int(scene.at),
    }
    if (wa_id := _wa_id(scene)) is not None:
        preference["wa_id"] = wa_id
    return {**_metadata(scene), "contacts": [_contact(scene)], "user_preferences": [preference]}


def _new_number(scene: Scene) -> dict[str, Any]:
    """`payload` is the new number. A system message has no contacts."""
    new = scene.act.payload
    if not new:
        raise BadActError("new_number needs the new number as its payload")
    body = f"{full_name(scene.person_id, scene.person)} changed from {scene.person_id} to {new}"
    value = _value(scene, "system", {"body": body, "wa_id": new, "type": "user_changed_number"})
    del value["contacts"]
    return value


def _from_the_phone(scene: Scene) -> Told:
    """What the business wrote in the WhatsApp Business app beside the API (coexistence)."""
    said = scene.act.text or "Hello from the phone"
    echo = {
        "from": _business(scene),
        "to": scene.person_id,
        "to_user_id": user_id_of(scene.person_id, scene.person),
        "id": scene.new_id,
        "timestamp": str(int(scene.at)),
        "type": "text",
        "text": {"body": said},
    }
    return Told("smb_message_echoes", {**_metadata(scene), "message_echoes": [echo]}, True, said)
