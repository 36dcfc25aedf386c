"""An agent's reply: what is sent, and what the thread keeps of it.

Text that a person types is sent as typed: it goes through the sender's templates as a variable, so that braces in it
are braces. Templates and raw payloads may hold Liquid, as everywhere. What the thread keeps suffices to send it again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from pombo.domain.channels import MAX_TEXT, ChannelKind
from pombo.domain.content import Content, ContentError, ContentProblem, Raw, Template, Text
from pombo.domain.reply_window import Allowed, ReplyWindow

_TYPED = "{{ text }}"
_MAX_CAPTION = 1024
# Meta's name for an attachment that is none of the others.
_FILE = {ChannelKind.MESSENGER: "file", ChannelKind.WHATSAPP: "document"}
# Messenger's kinds of messages that may be sent outside the window, by Meta's own rules for each.
_OUTSIDE = frozenset({"UTILITY", "MESSAGE_TAG"})


class AttachmentType(StrEnum):
    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    FILE = "file"

    @classmethod
    def of(cls, content_type: str | None) -> "AttachmentType":
        name = (content_type or "").partition("/")[0]
        return cls(name) if name in ("image", "video", "audio") else cls.FILE


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file at an address that Meta fetches it from, or one of ours, which is uploaded first."""

    type: AttachmentType
    url: str | None = None
    media_id: int | None = None
    file_name: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """Text, an attachment with or without text, or a template or raw payload alone."""

    text: str | None = None
    attachment: Attachment | None = None
    content: Template | Raw | None = None
    human_agent: bool = False
    """After Messenger's window: written by a person."""
    quoted: str | None = None
    """Meta's id of the message that it quotes; the thread keeps it beside the content."""

    @property
    def kind(self) -> str:
        if self.attachment is not None:
            return self.attachment.type.value
        match self.content:
            case Template():
                return "template"
            case Raw(payload=payload):
                type_ = payload.get("type")
                return type_ if isinstance(type_, str) and type_ else "raw"
        return "text"

    @property
    def shown_text(self) -> str | None:
        """In the thread, where a template shows its name."""
        return self.content.name if isinstance(self.content, Template) else self.text

    def kept(self) -> dict[str, Any]:
        """The thread's `content`; with its text the reply can be made again."""
        kept: dict[str, Any] = {"humanAgent": True} if self.human_agent else {}
        if self.attachment is not None:
            file = self.attachment
            shown = {"type": file.type.value, "url": file.url, "mediaId": file.media_id, "fileName": file.file_name}
            kept["attachments"] = [{name: value for name, value in shown.items() if value is not None}]
        if self.content is not None:
            kept["sent"] = msgspec.to_builtins(self.content)
        return kept


def reply_of(text: str | None, kept: Mapping[str, Any], quoted: str | None = None) -> Reply:
    """The reply of which the thread keeps this."""
    attachment = content = None
    if kept.get("attachments"):
        first = kept["attachments"][0]
        attachment = Attachment(
            AttachmentType(first["type"]), first.get("url"), first.get("mediaId"), first.get("fileName")
        )
    if "sent" in kept:
        content, text = msgspec.convert(kept["sent"], Template | Raw), None
    return Reply(text, attachment, content, kept.get("humanAgent", False), quoted)


def is_allowed(kind: ChannelKind, reply: Reply, window: ReplyWindow) -> bool:
    if Allowed.MESSAGE in window.allowed:
        return True
    match kind, reply.content:
        case ChannelKind.WHATSAPP, Template() | Raw(payload={"type": "template"}):
            return Allowed.TEMPLATE in window.allowed
        case ChannelKind.MESSENGER, Raw(payload={"messaging_type": str(), "tag": "HUMAN_AGENT"}):
            return Allowed.HUMAN_AGENT in window.allowed
        case ChannelKind.MESSENGER, Raw(payload={"messaging_type": str(messaging_type)}):
            return messaging_type in _OUTSIDE
    return reply.human_agent and Allowed.HUMAN_AGENT in window.allowed


def compose(
    kind: ChannelKind, reply: Reply, window: ReplyWindow, uploaded: str | None = None
) -> tuple[Content, dict[str, str]]:
    """What is sent, and its variables. Raises ContentError for what is wrong with text, attachment and quoting.

    `uploaded` is what Meta calls the attached file, if that is one of ours.
    """
    content, variables = _compose(kind, reply, window, uploaded)
    return (content if reply.quoted is None else _quoting(kind, content, reply.quoted)), variables


def _compose(
    kind: ChannelKind, reply: Reply, window: ReplyWindow, uploaded: str | None
) -> tuple[Content, dict[str, str]]:
    if reply.content is not None:
        return _with_envelope(kind, reply.content, window), {}
    if reply.text is not None:
        _check_text(reply.text, _MAX_CAPTION if reply.attachment is not None else MAX_TEXT[kind])
    variables = {} if reply.text is None else {"text": reply.text}
    if reply.attachment is not None:
        return _with_attachment(kind, reply.attachment, reply.text is not None, window, uploaded), variables
    if kind is ChannelKind.WHATSAPP:
        return Text(_TYPED), variables
    return Raw({**_envelope(window), "message": {"text": _TYPED}}), variables


def _quoting(kind: ChannelKind, content: Content, quoted: str) -> Raw:
    match content:
        case Template():
            sentence = "A template quotes no message: leave out 'replyTo'."
            raise ContentError([ContentProblem("quote_not_possible", sentence, "replyTo")])
        case Text(text=text, preview_url=preview_url):
            payload: dict[str, Any] = {"type": "text", "text": {"preview_url": preview_url, "body": text}}
        case Raw(payload=payload):
            pass
    if kind is ChannelKind.WHATSAPP:
        return Raw({**payload, "context": {"message_id": quoted}})
    return Raw({**payload, "reply_to": {"mid": quoted}})


def _with_attachment(
    kind: ChannelKind, attachment: Attachment, captioned: bool, window: ReplyWindow, uploaded: str | None
) -> Raw:
    if captioned and (kind is ChannelKind.MESSENGER or attachment.type is AttachmentType.AUDIO):
        whose = "Messenger an attachment" if kind is ChannelKind.MESSENGER else "WhatsApp audio"
        raise _problem("caption_not_possible", f"On {whose} has no text beside it: send two messages.")
    name = _FILE[kind] if attachment.type is AttachmentType.FILE else attachment.type.value
    # Braces would be a template's.
    url = (attachment.url or "").replace("{", "%7B").replace("}", "%7D")
    if kind is ChannelKind.MESSENGER:
        payload = {"url": url} if uploaded is None else {"attachment_id": uploaded}
        return Raw({**_envelope(window), "message": {"attachment": {"type": name, "payload": payload}}})
    media = {"link": url} if uploaded is None else {"id": uploaded}
    if captioned:
        media["caption"] = _TYPED
    if attachment.file_name is not None and attachment.type is AttachmentType.FILE:
        media["filename"] = attachment.file_name.replace("{", "(").replace("}", ")")
    return Raw({"type": name, name: media})


def _with_envelope(kind: ChannelKind, content: Template | Raw, window: ReplyWindow) -> Content:
    """A raw payload for Messenger that says nothing of it is an answer."""
    if kind is ChannelKind.MESSENGER and isinstance(content, Raw):
        if "message" in content.payload:
            return content if "messaging_type" in content.payload else Raw({**_envelope(window), **content.payload})
        return Raw({**_envelope(window), "message": content.payload})
    return content


def _envelope(window: ReplyWindow) -> dict[str, str]:
    if Allowed.MESSAGE in window.allowed:
        return {"messaging_type": "RESPONSE"}
    return {"messaging_type": "MESSAGE_TAG", "tag": "HUMAN_AGENT"}


def _check_text(text: str, longest: int) -> None:
    if not text.strip():
        raise _problem("text_empty", "The text is empty; write what is to be sent.")
    if len(text) > longest:
        raise _problem("text_too_long", f"The text has {len(text)} characters; at most {longest} are allowed.")


def _problem(code: str, sentence: str) -> ContentError:
    return ContentError([ContentProblem(code, sentence, "text")])
