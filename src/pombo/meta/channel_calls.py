"""Calls to Meta that are no sends: how each is asked, and what its answer says.

None of them is harmed by being done twice, so an answer that was lost is asked for again.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import msgspec

from pombo.domain.channels import ChannelKind
from pombo.domain.outcomes import ErrorClass, ErrorScope, SendError
from pombo.meta.answers import printable
from pombo.meta.errors import connection_error, send_error
from pombo.meta.transport import Answer, NeverWritten, Result

# Only so many of a thread's messages can be read in detail (Conversations API, 2026).
_MESSAGES = (
    "messages.limit(20){id,created_time,from,message,attachments{id,mime_type,name,image_data,video_data,file_url}}"
)
THREAD_FIELDS = f"id,updated_time,participants,{_MESSAGES}"
PASSING_FIELDS = "id,updated_time"
"""For threads that were read before."""
_PROFILE_FIELDS = "first_name,last_name,name,profile_pic"
_MAX_TITLE = 300


@dataclass(frozen=True, slots=True)
class Call:
    """`target` comes after the version. `content_type` is the body's."""

    method: str
    target: str
    body: bytes | None = None
    content_type: str = "application/json"

    def headers(self, token: str) -> Mapping[str, str]:
        bearer = {"Authorization": f"Bearer {token}"}
        return bearer if self.body is None else {**bearer, "Content-Type": self.content_type}


def sender_action(kind: ChannelKind, external_id: str, action: str, recipient: str, message_id: str | None) -> Call:
    """`typing_on`, `typing_off` or `mark_seen`. WhatsApp has both only for a message of the contact's, read with it.

    Raises ValueError where the channel has no such thing.
    """
    if kind is ChannelKind.MESSENGER:
        body: dict[str, Any] = {"recipient": {"id": recipient}, "sender_action": action}
        return Call("POST", f"/{external_id}/messages", msgspec.json.encode(body))
    if message_id is None or action == "typing_off":
        raise ValueError("WhatsApp shows typing and reading for a message of the contact's only.")
    body = {"messaging_product": "whatsapp", "status": "read", "message_id": message_id}
    if action == "typing_on":
        body["typing_indicator"] = {"type": "text"}
    return Call("POST", f"/{external_id}/messages", msgspec.json.encode(body))


def profile(psid: str) -> Call:
    return Call("GET", f"/{psid}?{urlencode({'fields': _PROFILE_FIELDS})}")


def media_address(media_id: str) -> Call:
    return Call("GET", f"/{media_id}")


def conversations(external_id: str, after: str | None, limit: int, *, passing: bool) -> Call:
    """One page of threads, the newest first, each with what of it can be read."""
    query = {"platform": "messenger", "limit": str(limit), "fields": PASSING_FIELDS if passing else THREAD_FIELDS}
    if after is not None:
        query["after"] = after
    return Call("GET", f"/{external_id}/conversations?{urlencode(query)}")


def upload(kind: ChannelKind, external_id: str, content: bytes, content_type: str, file_name: str) -> Call:
    """A file, to be named in sends by the id that the answer gives (`id`, or Messenger's `attachment_id`)."""
    if kind is ChannelKind.WHATSAPP:
        fields = {"messaging_product": "whatsapp", "type": content_type}
        body, boundary = _multipart(fields, "file", content, content_type, file_name)
        return Call("POST", f"/{external_id}/media", body, f"multipart/form-data; boundary={boundary}")
    attachment = {"type": attachment_type(content_type), "payload": {"is_reusable": True}}
    fields = {"message": msgspec.json.encode({"attachment": attachment}).decode()}
    body, boundary = _multipart(fields, "filedata", content, content_type, file_name)
    return Call("POST", f"/{external_id}/message_attachments", body, f"multipart/form-data; boundary={boundary}")


def attachment_type(content_type: str) -> str:
    """Messenger's word for a file of this type."""
    kind = content_type.partition("/")[0]
    return kind if kind in ("image", "audio", "video") else "file"


def read_profile(said: dict[str, Any]) -> dict[str, str]:
    """What of a profile is kept: name and picture, as far as Meta tells them."""
    name = said.get("name") or " ".join(filter(None, (said.get("first_name"), said.get("last_name"))))
    found = {"name": name, "picture": said.get("profile_pic")}
    return {key: value.replace("\0", "") for key, value in found.items() if isinstance(value, str) and value}


def read_result(kind: ChannelKind, result: Result) -> dict[str, Any] | SendError:
    """The answer's object, or what went wrong. Never raises."""
    if not isinstance(result, Answer):
        return connection_error(f"{result.reason}: {result.detail}", isinstance(result, NeverWritten))
    try:
        said = msgspec.json.decode(result.body, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return _unreadable(result.status)
    error = said.get("error")
    if error is None:
        return said if result.status < 300 else _unreadable(result.status)
    code, subcode = (error.get("code"), error.get("error_subcode")) if isinstance(error, dict) else (None, None)
    if not isinstance(code, int) or abs(code) >= 2**31:
        return _unreadable(result.status)
    known = subcode if isinstance(subcode, int) and abs(subcode) < 2**31 else None
    return send_error(kind, code, known, printable(str(error.get("message", "")))[:_MAX_TITLE])


def _unreadable(status: int) -> SendError:
    return SendError(
        0,
        0,
        f"HTTP {status} without an answer that can be read",
        ErrorClass.AMBIGUOUS,
        ErrorScope.CHANNEL,
        False,
        "Meta's answer could not be read.",
        "Nothing to do: it is tried again.",
    )


def _multipart(
    fields: Mapping[str, str], name: str, content: bytes, content_type: str, file_name: str
) -> tuple[bytes, str]:
    boundary = f"pombo-{secrets.token_hex(16)}"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'.encode()
        for field, value in fields.items()
    ]
    safe = "".join(character for character in file_name if character.isprintable() and character not in '"\\') or "file"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{safe}"\r\n'
    parts.append(f"{head}Content-Type: {content_type}\r\n\r\n".encode())
    parts += [content, f"\r\n--{boundary}--\r\n".encode()]
    return b"".join(parts), boundary
