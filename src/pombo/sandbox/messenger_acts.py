"""What people do on Messenger, as the webhooks of a Page tell it."""

from typing import Any

from pombo.sandbox.payloads import milliseconds
from pombo.sandbox.scene import BadActError, Scene, Told

PAGE_INBOX_APP = 26390203743090
"""The app id in the echo of what somebody wrote in the Page's own inbox."""
_LIKE_STICKER = 369239263222822
_NAMES = {"❤": "love", "👍": "like", "👎": "dislike", "😆": "smile", "😮": "wow", "😢": "sad", "😠": "angry"}


def tell(scene: Scene) -> Told:
    """Raises BadActError."""
    act = scene.act
    match act.type:
        case "text":
            return _message(scene, {"text": act.text or "Hello"}, act.text or "Hello")
        case "image" | "video" | "audio" | "file":
            return _message(scene, _attachment(act.type, {"url": scene.media_url}), None)
        case "sticker":
            return _message(scene, _attachment("sticker", {"sticker_id": _LIKE_STICKER, "url": scene.media_url}), None)
        case "location":
            place = {"title": act.title or "Pinned location", "url": "https://www.bing.com/maps/", **(act.data or {})}
            return _message(scene, {"attachments": [{"type": "fallback", "payload": place}]}, None)
        case "unsupported":
            return _message(scene, {"attachments": [{"type": "fallback", "payload": None}]}, None)
        case "tap":
            return _tap(scene)
        case "reaction":
            return _event(scene, "message_reactions", {"reaction": _reaction(scene)})
        case "edit":
            edit = {"mid": scene.about, "text": act.text or "", "num_edit": 1, **(act.data or {})}
            return _event(scene, "message_edits", {"message_edit": edit})
        case "referral":
            referral = {"ref": act.payload or "shelf", "source": "SHORTLINK", "type": "OPEN_THREAD", **(act.data or {})}
            return _event(scene, "messaging_referrals", {"referral": referral})
        case "opt_in" | "opt_out":
            return _event(scene, "messaging_optins", {"optin": _optin(scene)})
        case "order":
            order = {"products": [], "note": act.text or "", **(act.data or {})}
            return _event(scene, "send_cart", {"order": order})
        case "read":
            return _event(scene, "message_reads", {"read": {"watermark": milliseconds(scene.at)}})
        case "other_app":
            said = act.text or "Hello from the Page's inbox"
            message = {"mid": scene.new_id, "is_echo": True, "app_id": PAGE_INBOX_APP, "text": said}
            return Told("message_echoes", _between(scene, {"message": message}, from_page=True), True, said)
        case "raw":
            return Told(act.field, _between(scene, act.data or {}))
        case "contacts" | "unsend" | "new_number":
            raise BadActError(f"Messenger has no webhook for {act.type}")


def _between(scene: Scene, more: dict[str, Any], *, from_page: bool = False) -> dict[str, Any]:
    person, page = {"id": scene.person_id}, {"id": scene.channel.id}
    sender, recipient = (page, person) if from_page else (person, page)
    return {"sender": sender, "recipient": recipient, "timestamp": milliseconds(scene.at), **more}


def _event(scene: Scene, field: str, more: dict[str, Any]) -> Told:
    return Told(field, _between(scene, more))


def _message(scene: Scene, content: dict[str, Any], said: str | None) -> Told:
    message: dict[str, Any] = {"mid": scene.new_id, **content}
    if scene.quoted is not None:
        message["reply_to"] = {"mid": scene.quoted}
    return Told("messages", _between(scene, {"message": message}), True, said)


def _attachment(kind: str, payload: dict[str, Any]) -> dict[str, Any]:
    return {"attachments": [{"type": kind, "payload": payload}]}


def _tap(scene: Scene) -> Told:
    choice = scene.choice
    if choice is None:
        raise BadActError("a tap needs a title and a payload, as there is no message with anything to tap")
    if choice.kind == "quick_reply":
        content = {"text": choice.title, "quick_reply": {"payload": choice.payload}}
        return _message(scene, content, choice.title)
    postback = {"mid": scene.new_id, "title": choice.title, "payload": choice.payload}
    return Told("messaging_postbacks", _between(scene, {"postback": postback}), True, choice.title)


def _reaction(scene: Scene) -> dict[str, Any]:
    emoji = scene.act.emoji
    if emoji is None:
        return {"action": "unreact", "mid": scene.about}
    return {"reaction": _NAMES.get(emoji, "other"), "emoji": emoji, "action": "react", "mid": scene.about}


def _optin(scene: Scene) -> dict[str, Any]:
    act = scene.act
    optin = {
        "type": "notification_messages",
        "payload": act.payload or "news",
        "title": act.title or "News",
        "notification_messages_token": f"token-{scene.person_id}",
        "notification_messages_timezone": "America/Sao_Paulo",
        "token_expiry_timestamp": milliseconds(scene.at + 180 * 86400),
        "user_token_status": "REFRESHED" if act.type == "opt_in" else "NOT_REFRESHED",
    }
    if act.type == "opt_out":
        optin["notification_messages_status"] = "STOP NOTIFICATIONS"
    return {**optin, **(act.data or {})}
