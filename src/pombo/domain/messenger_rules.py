"""Messenger's Send API: which raw payloads can be sent to many (limits of 2026).

A raw payload is either the `message` object alone, or an object with `message` beside any of `ENVELOPE_FIELDS`.
"""

import re
from collections.abc import Iterator
from typing import Any

from pombo.domain.channels import MAX_TEXT, ChannelKind
from pombo.domain.content import ContentProblem, TextLimit

ENVELOPE_FIELDS = frozenset({"messaging_type", "tag", "notification_type", "persona_id", "reply_to"})

MAX_QUICK_REPLIES = 13
MAX_ELEMENTS = 10
MAX_BUTTONS = 3
MAX_IMAGES = 30

_DEAD_TAGS = frozenset({"CONFIRMED_EVENT_UPDATE", "ACCOUNT_UPDATE", "POST_PURCHASE_UPDATE"})
_LIVE_TAGS = frozenset({"NON_PROMOTIONAL_SUBSCRIPTION", "CUSTOMER_FEEDBACK"})
_MESSAGING_TYPES = frozenset({"RESPONSE", "UPDATE", "MESSAGE_TAG", "UTILITY"})
_NOTIFICATION_TYPES = frozenset({"REGULAR", "SILENT_PUSH", "NO_PUSH"})
_ATTACHMENT_TYPES = frozenset({"image", "audio", "video", "file", "template"})
_CONTENTS = ("text", "attachment", "attachments", "sticker_id", "template")

# By path within the message object.
TEXT_LIMITS = [
    (re.compile(pattern), limit)
    for pattern, limit in (
        (r"text", TextLimit(MAX_TEXT[ChannelKind.MESSENGER], required=True)),
        (r"quick_replies\[\d+\]\.title", TextLimit(20)),
        (r"quick_replies\[\d+\]\.payload", TextLimit(1000)),
        (r"attachment\.payload\.text", TextLimit(640, required=True)),
        (r"attachment\.payload\.elements\[\d+\]\.title", TextLimit(80, required=True)),
        (r"attachment\.payload\.elements\[\d+\]\.subtitle", TextLimit(80)),
        (r"attachment\.payload\.(elements\[\d+\]\.)?buttons\[\d+\]\.title", TextLimit(20, required=True)),
        (r"attachment\.payload\.(elements\[\d+\]\.)?buttons\[\d+\]\.payload", TextLimit(1000)),
    )
]


def split_payload(payload: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The message object, and what goes beside it."""
    message = payload.get("message")
    if isinstance(message, dict):
        return message, {field: payload[field] for field in payload if field in ENVELOPE_FIELDS}
    return payload, {}


def check_payload(payload: dict[str, Any], *, by_person: bool = False) -> Iterator[ContentProblem]:
    """`by_person`: somebody writes it to this one recipient, which the tag HUMAN_AGENT is for."""
    for field in ("recipient", "sender_action", "access_token"):
        if field in payload:
            sentence = f"'{field}' is set by Pombo for each message; leave it out of the payload."
            yield ContentProblem("field_reserved", sentence, field)
            return
    if "message" in payload:
        if not isinstance(payload["message"], dict):
            yield ContentProblem("payload_invalid", "'message' must be an object.", "message")
            return
        for field in payload.keys() - ENVELOPE_FIELDS - {"message"}:
            sentence = f"'{field}' cannot stand beside 'message'; only {', '.join(sorted(ENVELOPE_FIELDS))} can."
            yield ContentProblem("field_unknown", sentence, field)
    message, envelope = split_payload(payload)
    yield from _check_envelope(envelope, by_person)
    yield from _check_message(message)


def _check_envelope(envelope: dict[str, Any], by_person: bool) -> Iterator[ContentProblem]:
    match envelope.get("reply_to", {"mid": ""}):
        case {"mid": str()}:
            pass
        case _:
            sentence = '\'reply_to\' names the message that is quoted: {"mid": "…"}.'
            yield ContentProblem("payload_invalid", sentence, "reply_to")
    for field in envelope.keys() - {"reply_to"}:
        if not isinstance(envelope[field], str):
            yield ContentProblem("payload_invalid", f"'{field}' must be a string.", field)
            return
    messaging_type = envelope.get("messaging_type", "UPDATE")
    tag = envelope.get("tag")
    if messaging_type not in _MESSAGING_TYPES:
        sentence = f"'messaging_type' must be one of {', '.join(sorted(_MESSAGING_TYPES))}."
        yield ContentProblem("messaging_type_invalid", sentence, "messaging_type")
    elif (messaging_type == "MESSAGE_TAG") != (tag is not None):
        sentence = "'tag' and 'messaging_type': \"MESSAGE_TAG\" go together: give both or neither."
        yield ContentProblem("tag_mismatch", sentence, "tag")
    if tag in _DEAD_TAGS:
        sentence = (
            f"Meta has refused the message tag {tag} since 2026-04-27. Send inside the 24-hour window without a tag, "
            "or use an approved utility template (messaging_type UTILITY)."
        )
        yield ContentProblem("tag_dead", sentence, "tag")
    elif tag == "HUMAN_AGENT" and not by_person:
        sentence = "Meta allows the tag HUMAN_AGENT only for answers a person writes, not for campaigns."
        yield ContentProblem("tag_not_for_campaigns", sentence, "tag")
    elif tag is not None and tag != "HUMAN_AGENT" and tag not in _LIVE_TAGS:
        sentence = f"Meta knows no message tag of this name; there are {', '.join(sorted(_LIVE_TAGS))}."
        yield ContentProblem("tag_unknown", sentence, "tag")
    if envelope.get("notification_type", "REGULAR") not in _NOTIFICATION_TYPES:
        sentence = f"'notification_type' must be one of {', '.join(sorted(_NOTIFICATION_TYPES))}."
        yield ContentProblem("notification_type_invalid", sentence, "notification_type")


def _check_message(message: dict[str, Any]) -> Iterator[ContentProblem]:
    if "metadata" in message:
        sentence = "'metadata' carries Pombo's send key, by which echoes are recognised; leave it out of the payload."
        yield ContentProblem("field_reserved", sentence, "metadata")
    given = [field for field in _CONTENTS if field in message]
    if len(given) != 1:
        sentence = f"The message must have exactly one of {', '.join(_CONTENTS)}."
        yield ContentProblem("payload_invalid", sentence, "")
    if "text" in message and not isinstance(message["text"], str):
        yield ContentProblem("payload_invalid", "'text' must be a string.", "text")
    if "quick_replies" in message:
        yield from _check_count(message["quick_replies"], 1, MAX_QUICK_REPLIES, "quick_replies", "quick replies")
    if "attachments" in message:
        yield from _check_count(message["attachments"], 1, MAX_IMAGES, "attachments", "images")
    if "attachment" in message:
        yield from _check_attachment(message["attachment"])


def _check_attachment(attachment: object) -> Iterator[ContentProblem]:
    match attachment:
        case {"type": "template", "payload": {"template_type": str(template_type), **payload}}:
            yield from _check_template(template_type, payload)
        case {"type": "template"}:
            sentence = "A template attachment needs a 'payload' with its 'template_type'."
            yield ContentProblem("payload_invalid", sentence, "attachment.payload")
        case {"type": str(name), "payload": dict()} if name in _ATTACHMENT_TYPES:
            pass
        case _:
            sentence = f"'attachment' needs a 'type' ({', '.join(sorted(_ATTACHMENT_TYPES))}) and a 'payload' object."
            yield ContentProblem("payload_invalid", sentence, "attachment")


def _check_template(template_type: str, payload: dict[Any, Any]) -> Iterator[ContentProblem]:
    path = "attachment.payload"
    match template_type:
        case "generic":
            elements = payload.get("elements")
            yield from _check_count(elements, 1, MAX_ELEMENTS, f"{path}.elements", "elements")
            for index, element in enumerate(elements if isinstance(elements, list) else ()):
                yield from _check_element(element, f"{path}.elements[{index}]")
        case "button":
            if not isinstance(payload.get("text"), str):
                yield ContentProblem("payload_invalid", "A button template needs a 'text'.", f"{path}.text")
            yield from _check_count(payload.get("buttons"), 1, MAX_BUTTONS, f"{path}.buttons", "buttons")
        case "media":
            yield from _check_count(payload.get("elements"), 1, 1, f"{path}.elements", "element")


def _check_element(element: object, path: str) -> Iterator[ContentProblem]:
    match element:
        case {"title": str(), **others} if others:
            if "buttons" in others:
                yield from _check_count(others["buttons"], 1, MAX_BUTTONS, f"{path}.buttons", "buttons")
        case _:
            sentence = (
                "An element needs a 'title' and at least one more of subtitle, image_url, default_action, buttons."
            )
            yield ContentProblem("payload_invalid", sentence, path)


def _check_count(value: object, least: int, most: int, path: str, name: str) -> Iterator[ContentProblem]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        yield ContentProblem("payload_invalid", f"{path} must be a list of objects.", path)
    elif not least <= len(value) <= most:
        allowed = f"exactly {most}" if least == most else f"{least} to {most}"
        yield ContentProblem("count_out_of_range", f"{path} has {len(value)}; Meta takes {allowed} {name}.", path)
