"""The Messenger Send API: `POST /{page|me}/messages`, its shape, its limits and its window."""

import json
from typing import Any

import msgspec

from pombo.sandbox.accounts import Action, Channel
from pombo.sandbox.contents import MessengerContent
from pombo.sandbox.errors import MetaError
from pombo.sandbox.forms import unfold
from pombo.sandbox.messenger_content import Message, check_message, is_heavy
from pombo.sandbox.people import HUMAN_AGENT_WINDOW, WINDOW, in_window
from pombo.sandbox.reply import Reply
from pombo.sandbox.submission import Outgoing, Submission

_MESSAGING_TYPES = frozenset(("RESPONSE", "UPDATE", "MESSAGE_TAG", "UTILITY"))
_LIVING_TAGS = frozenset(("HUMAN_AGENT", "CUSTOMER_FEEDBACK", "NON_PROMOTIONAL_SUBSCRIPTION"))
_NOTIFICATION_TYPES = frozenset(("REGULAR", "SILENT_PUSH", "NO_PUSH"))
_SENDER_ACTIONS = frozenset(("typing_on", "typing_off", "mark_seen", "react", "unreact"))


class _Recipient(msgspec.Struct, gc=False):
    id: str | int | None = None
    user_ref: str | None = None
    comment_id: str | None = None
    post_id: str | None = None
    notification_messages_token: str | None = None
    one_time_notif_token: str | None = None


class SendRequest(msgspec.Struct):
    recipient: _Recipient | None = None
    message: Message | None = None
    messaging_type: str | None = None
    tag: str | None = None
    notification_type: str | None = None
    sender_action: str | None = None
    payload: dict[str, Any] | None = None
    access_token: str | None = None


_decode = msgspec.json.Decoder(SendRequest).decode


def parse(body: bytes, form: dict[str, str] | None) -> SendRequest:
    """Raises MetaError 100 with the path of what does not fit."""
    try:
        return _decode(body or b"{}") if form is None else msgspec.convert(unfold(form), SendRequest)
    except msgspec.ValidationError as error:
        raise MetaError("messenger", 100, message=f"(#100) {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MetaError("messenger", 100, message=f"(#100) The request is not valid JSON: {error}") from error


def send(desk: Submission, channel: Channel, request: SendRequest, *, in_batch: bool) -> Reply:
    now = desk.count_call(channel)
    recipient = _recipient(request)
    if request.sender_action is not None:
        return _act(channel, request, recipient, now)
    if request.message is None:
        raise _invalid("The parameter message is required.")
    _check_type(request)
    check_message(request.message)
    if is_heavy(request.message) and not channel.media_calls.take(now):
        raise MetaError("messenger", 613, 2534040)
    person_id = recipient.id
    if person_id is None:
        return _send_to_stranger(desk, channel, request, recipient, now, in_batch=in_batch)
    psid = str(person_id)
    if channel.people:
        _check_person(channel, psid)
    _check_window(channel, psid, request, now)
    outgoing = Outgoing(
        psid,
        request.message.metadata,
        f'{{"recipient_id":"{psid}","message_id":"',
        '"}',
        _echo(channel, request.message),
        content=MessengerContent(request.message),
    )
    return desk.submit(channel, outgoing, now, in_batch=in_batch)


def _invalid(message: str, subcode: int | None = None) -> MetaError:
    return MetaError("messenger", 100, subcode, message=f"(#100) {message}")


def _recipient(request: SendRequest) -> _Recipient:
    recipient = request.recipient
    if recipient is None:
        raise _invalid("The parameter recipient is required.")
    if recipient.id is not None:
        if not str(recipient.id).isascii() or not str(recipient.id).isdecimal():
            raise _invalid("Parameter error: the recipient's id must be a page-scoped id.")
    elif not (
        recipient.user_ref
        or recipient.comment_id
        or recipient.post_id
        or recipient.notification_messages_token
        or recipient.one_time_notif_token
    ):
        raise _invalid("Parameter error: You must specify one of id, user_ref, comment_id or post_id.")
    return recipient


def _act(channel: Channel, request: SendRequest, recipient: _Recipient, now: float) -> Reply:
    """Typing indicators, mark_seen and reactions: nothing enters the ledger, no webhook follows."""
    if request.message is not None:
        raise _invalid("A sender action cannot be sent together with a message.", 2018014)
    if request.sender_action not in _SENDER_ACTIONS:
        raise _invalid("Param sender_action must be one of typing_on, typing_off, mark_seen, react, unreact.")
    person_id = str(recipient.id)
    about = (request.payload or {}).get("message_id")
    channel.actions.append(Action(now, person_id, request.sender_action, None if about is None else str(about)))
    if request.sender_action == "mark_seen" and (thread := channel.threads.get(person_id)) is not None:
        thread.unread = 0
    return Reply(f'{{"recipient_id":"{person_id}"}}'.encode())


def _check_type(request: SendRequest) -> None:
    if request.messaging_type is not None and request.messaging_type not in _MESSAGING_TYPES:
        raise _invalid("Param messaging_type must be one of RESPONSE, UPDATE, MESSAGE_TAG, UTILITY.")
    if request.notification_type is not None and request.notification_type not in _NOTIFICATION_TYPES:
        raise _invalid("Param notification_type must be one of REGULAR, SILENT_PUSH, NO_PUSH.")
    if request.messaging_type == "MESSAGE_TAG" and request.tag is None:
        raise _invalid("Param tag is required with the messaging type MESSAGE_TAG.")
    if request.tag is not None and request.tag not in _LIVING_TAGS:
        # CONFIRMED_EVENT_UPDATE, ACCOUNT_UPDATE and POST_PURCHASE_UPDATE ended on 2026-04-27.
        raise _invalid(f"The message tag {request.tag} is invalid or no longer supported.")


def _check_person(channel: Channel, psid: str) -> None:
    standing = channel.person(psid).standing
    if standing == "unknown":
        raise MetaError("messenger", 100, 2018001)
    if standing == "blocked":
        raise MetaError("messenger", 551, 1545041)
    if standing == "opted_out":
        raise MetaError("messenger", 10, 1893015)


def _check_window(channel: Channel, psid: str, request: SendRequest, now: float) -> None:
    policy = channel.settings.window
    if policy == "open" and not channel.people:
        return
    if request.messaging_type == "UTILITY" and request.message is not None and request.message.template is not None:
        return
    person = channel.person(psid)
    tagged = request.messaging_type == "MESSAGE_TAG" and request.tag in ("HUMAN_AGENT", "CUSTOMER_FEEDBACK")
    if in_window(person, now, policy=policy, length=HUMAN_AGENT_WINDOW if tagged else WINDOW):
        return
    if request.tag == "NON_PROMOTIONAL_SUBSCRIPTION":
        # Only for registered news Pages, which the sandbox has none of.
        raise MetaError("messenger", 10, 2018065)
    raise MetaError("messenger", 10, 2018278)


def _send_to_stranger(
    desk: Submission, channel: Channel, request: SendRequest, recipient: _Recipient, now: float, *, in_batch: bool
) -> Reply:
    """A plugin's user_ref, a comment, a post or a token: Meta then does not tell who it was."""
    address = (
        recipient.user_ref
        or recipient.comment_id
        or recipient.post_id
        or recipient.notification_messages_token
        or recipient.one_time_notif_token
        or ""
    )
    assert request.message is not None
    outgoing = Outgoing(address, request.message.metadata, '{"message_id":"', '"}', _echo(channel, request.message))
    return desk.submit(channel, outgoing, now, in_batch=in_batch)


def _echo(channel: Channel, message: Message) -> str:
    """The content as the echo repeats it, in escaped ASCII; nothing where no echo will be sent."""
    if not channel.wants("message_echoes"):
        return ""
    if message.text is not None:
        return f',"text":{_escaped(message.text)}'
    attachments = message.attachments or ([message.attachment] if message.attachment is not None else [])
    return f',"attachments":{_escaped(attachments)}' if attachments else ""


def _escaped(value: Any) -> str:
    return json.dumps(value, separators=(",", ":")).replace("/", "\\/")
