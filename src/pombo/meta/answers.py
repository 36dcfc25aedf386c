"""What Meta's answer to a send means. Runs once a message, so the good case decodes one field and nothing else."""

from collections.abc import Mapping
from typing import Annotated

import msgspec

from pombo.domain.channels import ChannelKind
from pombo.domain.outcomes import Accepted, ErrorClass, ErrorScope, Failed, Outcome, Retry, SendError, Uncertain
from pombo.meta.error_table import WAIT_FOR_EVIDENCE
from pombo.meta.errors import send_error
from pombo.meta.json_parts import LONGEST_ID

# Kept with the message and shown in a list; Meta's own titles are below 100 characters.
_MAX_TITLE = 300


class _MessengerAccepted(msgspec.Struct, gc=False):
    message_id: str


class _WhatsAppMessage(msgspec.Struct, gc=False):
    id: str


class _WhatsAppAccepted(msgspec.Struct, gc=False):
    messages: list[_WhatsAppMessage]


# What a database column of that type holds; a number beyond is no code of Meta's.
_Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]


class _Error(msgspec.Struct):
    code: _Int32
    message: str = ""
    error_subcode: _Int32 | None = None


class _Refused(msgspec.Struct):
    error: _Error


_decode_messenger = msgspec.json.Decoder(_MessengerAccepted).decode
_decode_whatsapp = msgspec.json.Decoder(_WhatsAppAccepted).decode
_decode_refused = msgspec.json.Decoder(_Refused).decode


def read_answer(kind: ChannelKind, status: int, body: bytes) -> Outcome:
    """Never raises: whatever is not understood is Uncertain.

    Errors are told by Meta's code and not by the HTTP status. Those that prove that nothing was accepted and concern
    more than this message (AUTH, POLICY) are a Retry too: the lane stops the channel and keeps the message, which will
    be sent when the channel is repaired.
    """
    if status == 200:
        try:
            if kind is ChannelKind.MESSENGER:
                provider_id = _decode_messenger(body).message_id
            else:
                provider_id = _decode_whatsapp(body).messages[0].id
            if provider_id and provider_id.isprintable() and len(provider_id) <= LONGEST_ID:
                return Accepted(provider_id)
        except (msgspec.DecodeError, IndexError, RecursionError, UnicodeDecodeError):
            pass
    return _read_refusal(kind, status, body)


def _read_refusal(kind: ChannelKind, status: int, body: bytes) -> Outcome:
    try:
        error = _decode_refused(body).error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return Uncertain(_unreadable(status))
    reading = send_error(kind, error.code, error.error_subcode, printable(error.message)[:_MAX_TITLE])
    if not reading.proves_not_accepted:
        return Uncertain(reading)
    if reading.error_class is ErrorClass.PERMANENT:
        return Failed(reading)
    return Retry(reading)


def printable(text: str) -> str:
    """Without control characters, of which PostgreSQL cannot store NUL."""
    return text if text.isprintable() else "".join(filter(str.isprintable, text))


def _unreadable(status: int) -> SendError:
    return SendError(
        code=0,
        subcode=0,
        title=f"HTTP {status} without an answer that can be read",
        error_class=ErrorClass.AMBIGUOUS,
        scope=ErrorScope.CHANNEL,
        proves_not_accepted=False,
        words="Meta's answer could not be read.",
        next_step=WAIT_FOR_EVIDENCE,
    )


# ---- usage headers ----


class _Usage(msgspec.Struct):
    call_count: float = 0
    total_time: float = 0
    total_cputime: float = 0


_decode_usage = msgspec.json.Decoder(_Usage).decode
_decode_usages = msgspec.json.Decoder(dict[str, list[_Usage]]).decode


def read_usage(headers: Mapping[str, str]) -> float | None:
    """How much of Meta's limits is used, in percent of the one nearest to its end (at 100 Meta refuses calls).

    From `x-app-usage` and `x-business-use-case-usage` (names in lower case); None if neither is there or readable.
    """
    usages: list[_Usage] = []
    try:
        if app := headers.get("x-app-usage"):
            usages.append(_decode_usage(app))
        if business := headers.get("x-business-use-case-usage"):
            usages.extend(usage for group in _decode_usages(business).values() for usage in group)
    except (msgspec.DecodeError, RecursionError):
        pass
    return max((max(usage.call_count, usage.total_time, usage.total_cputime) for usage in usages), default=None)
