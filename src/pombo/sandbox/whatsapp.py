"""The WhatsApp Cloud API: `POST /{phone-number-id}/messages`, its shape, its limits and its window."""

import re

import msgspec

from pombo.sandbox.accounts import Action, Channel, Template
from pombo.sandbox.contents import WhatsAppContent
from pombo.sandbox.errors import MetaError
from pombo.sandbox.forms import unfold
from pombo.sandbox.people import in_window
from pombo.sandbox.reply import Reply, json_reply
from pombo.sandbox.submission import Outgoing, Submission
from pombo.sandbox.templates import CATEGORY_NUMBERS, fitting
from pombo.sandbox.whatsapp_content import SendRequest, check_content

_MAX_CALLBACK_DATA = 512
_FORMATTING = str.maketrans("", "", "+-() ")
_BSUID = re.compile(r"[A-Z]{2}\.(?:ENT\.)?[A-Za-z0-9]{1,128}", re.ASCII)


_decode = msgspec.json.Decoder(SendRequest).decode


def parse(body: bytes, form: dict[str, str] | None) -> SendRequest:
    """Raises MetaError 100 with the path of what does not fit."""
    try:
        return _decode(body or b"{}") if form is None else msgspec.convert(unfold(form), SendRequest)
    except msgspec.ValidationError as error:
        raise MetaError("whatsapp", 100, message="(#100) Invalid parameter", details=str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MetaError("whatsapp", 100, message="(#100) Invalid parameter", details=f"Not JSON: {error}") from error


def send(desk: Submission, channel: Channel, request: SendRequest, *, in_batch: bool) -> Reply:
    now = desk.count_call(channel)
    if request.messaging_product != "whatsapp":
        raise _invalid("The parameter messaging_product is required and must be whatsapp.")
    if request.status is not None:
        return _mark_read(desk, channel, request, now)
    key = request.biz_opaque_callback_data
    if key is not None and len(key) > _MAX_CALLBACK_DATA:
        raise _invalid(f"Param biz_opaque_callback_data must be at most {_MAX_CALLBACK_DATA} characters long.")
    recipient, contact = _recipient(channel, request)
    check_content(request)
    template = None
    if request.type == "template" and channel.account is not None:
        template = fitting(channel.account, request.template or {})
    person = channel.person(recipient)
    if template is None and not in_window(person, now, policy=channel.settings.window):
        details = "Message failed to send because more than 24 hours have passed since the customer last replied"
        raise MetaError("whatsapp", 131047, details=details)
    if person.standing == "opted_out" and template is not None and template.category == "MARKETING":
        raise MetaError("whatsapp", 131050)
    # Meta accepts a message to somebody unreachable, and reports the failure later.
    unreachable = 131026 if person.standing in ("unknown", "blocked") else None
    outgoing = Outgoing(
        recipient,
        key,
        f'{{"messaging_product":"whatsapp","contacts":[{contact}],"messages":[{{"id":"',
        _tail(template),
        category=0 if template is None else CATEGORY_NUMBERS.get(template.category, 0),
        is_reaction=request.type == "reaction",
        async_failure=132015 if template is not None and template.pacing == "drop" else unreachable,
        content=WhatsAppContent(request, template),
    )
    return desk.submit(channel, outgoing, now, in_batch=in_batch)


def _tail(template: Template | None) -> str:
    if template is None:
        return '"}]}'
    held = template.pacing != "none"
    return f'","message_status":"{"held_for_quality_assessment" if held else "accepted"}"}}]}}'


def _invalid(message: str) -> MetaError:
    return MetaError("whatsapp", 100, message=f"(#100) {message}")


def _recipient(channel: Channel, request: SendRequest) -> tuple[str, str]:
    """Whom it goes to, as the ledger has it, and the answer's contact as JSON. A phone number wins over a user id."""
    if request.recipient_type not in ("individual", "group"):
        raise _invalid("Param recipient_type must be one of individual, group.")
    if request.to is None or request.to == "":
        if not request.recipient:
            raise _invalid("The parameter to is required.")
        if not _BSUID.fullmatch(request.recipient):
            raise MetaError("whatsapp", 131009, details="recipient is not a business-scoped user id")
        return request.recipient, f'{{"input":"{request.recipient}","user_id":"{request.recipient}"}}'
    given = str(request.to)
    if request.recipient_type == "group":
        quoted = msgspec.json.encode(given).decode()
        return given, f'{{"input":{quoted},"wa_id":{quoted}}}'
    digits = given.translate(_FORMATTING)
    # E.164 numbers have at most 15 digits; the shortest real ones with a country code have 7.
    if not (digits.isascii() and digits.isdecimal() and 7 <= len(digits) <= 15):
        raise MetaError("whatsapp", 131009, details="to is not a valid phone number")
    if digits == channel.display_phone_number.translate(_FORMATTING):
        raise MetaError("whatsapp", 131021)
    return digits, f'{{"input":"{given}","wa_id":"{digits}"}}'


def _mark_read(desk: Submission, channel: Channel, request: SendRequest, now: float) -> Reply:
    """A read receipt, perhaps with a typing indicator; also of messages that the sandbox does not know."""
    if request.status != "read":
        raise _invalid("Param status must be one of read.")
    if not request.message_id:
        raise _invalid("The parameter message_id is required.")
    found = desk.threads.find_message(request.message_id)
    person_id = "" if found is None else found[0].person_id
    channel.actions.append(Action(now, person_id, "read", request.message_id))
    if request.typing_indicator is not None:
        channel.actions.append(Action(now, person_id, "typing", request.message_id))
    if found is not None:
        found[0].unread = 0
    return json_reply({"success": True})
