"""What of a message sent stays in its thread: its words, and what the person can tap. Looked into only when needed."""

from typing import Any

from pombo.sandbox.accounts import Template
from pombo.sandbox.messenger_content import Message
from pombo.sandbox.threads import Choice
from pombo.sandbox.whatsapp_content import SendRequest


class MessengerContent:
    __slots__ = ("_message",)

    def __init__(self, message: Message) -> None:
        self._message = message

    def words(self) -> str | None:
        if self._message.text is not None:
            return self._message.text
        text = _payload(self._message).get("text")
        return text if isinstance(text, str) else None

    def choices(self) -> tuple[Choice, ...]:
        found = [
            Choice("quick_reply", str(reply.get("title", "")), str(reply.get("payload", "")))
            for reply in self._message.quick_replies or ()
            if reply.get("content_type") == "text"
        ]
        payload = _payload(self._message)
        for holder in (payload, *(payload.get("elements") or ())):
            found += [
                Choice("postback", str(button.get("title", "")), str(button.get("payload", "")))
                for button in holder.get("buttons") or ()
                if button.get("type") == "postback"
            ]
        return tuple(found)


class WhatsAppContent:
    __slots__ = ("_request", "_template")

    def __init__(self, request: SendRequest, template: Template | None) -> None:
        self._request = request
        self._template = template

    def words(self) -> str | None:
        request = self._request
        if request.text is not None:
            return str(request.text.get("body", ""))
        if request.interactive is not None:
            return str((request.interactive.get("body") or {}).get("text", ""))
        if request.template is not None:
            return f"[{request.template.get('name')}]"
        media: dict[str, Any] = request.image or request.video or request.document or {}
        return media.get("caption")

    def choices(self) -> tuple[Choice, ...]:
        action = (self._request.interactive or {}).get("action") or {}
        found = []
        for button in action.get("buttons") or ():
            reply = button.get("reply") or {}
            found.append(Choice("button_reply", str(reply.get("title", "")), str(reply.get("id", ""))))
        for section in action.get("sections") or ():
            rows = section.get("rows") or ()
            found += [Choice("list_reply", str(row.get("title", "")), str(row.get("id", ""))) for row in rows]
        if self._template is not None:
            found += _template_choices(self._request.template or {}, self._template)
        return tuple(found)


def _payload(message: Message) -> dict[str, Any]:
    return (message.attachment or {}).get("payload") or {}


def _template_choices(sent: dict[str, Any], template: Template) -> list[Choice]:
    """Quick-reply buttons: their words are the template's, their payloads the message's, else the words again."""
    payloads = {
        str(component.get("index", "0")): str(component["parameters"][0].get("payload", ""))
        for component in sent.get("components") or ()
        if str(component.get("sub_type", "")).lower() == "quick_reply" and component.get("parameters")
    }
    buttons = [
        button
        for component in template.components
        if str(component.get("type", "")).upper() == "BUTTONS"
        for button in component.get("buttons") or ()
    ]
    return [
        Choice("button", str(button.get("text", "")), payloads.get(str(index), str(button.get("text", ""))))
        for index, button in enumerate(buttons)
        if str(button.get("type", "")).upper() == "QUICK_REPLY"
    ]
