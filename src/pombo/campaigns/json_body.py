"""Reads `{"campaignId": …, "recipients": […], …}` as it arrives, in any order of keys, never holding the recipients.

The parser (yajl) pushes one event a token into a coroutine, which is written like a parser by recursive descent.
"""

from collections.abc import Generator
from typing import Any

import ijson
from ijson.backends import yajl2_c

from pombo.campaigns.errors import BodyInvalid
from pombo.campaigns.reading import MAX_DEPTH, cleaned, make_line
from pombo.campaigns.surrogates import SurrogateCheck
from pombo.store.audience import RejectedLine, StagedLine

# Bytes of one recipient, or of one other field of the request: a payload of Meta's has a few KB.
MAX_VALUE = 1024 * 1024

_MAX_BIGINT = 2**63 - 1
_MEMBERS = frozenset({"recipient", "variables", "channelId"})
_CONTAINERS = frozenset({"start_map", "start_array"})
_Event = tuple[str, Any]
_Reading = Generator[None, _Event, Any]


class JsonAudienceReader:
    """An `AudienceReader`. A line's number is the recipient's place in the list, from 1."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}
        self.lines: list[StagedLine] = []
        self.rejects: list[RejectedLine] = []
        self.has_recipients = False
        self._number = 0
        # Values read to their end, and the bytes since the last: a value that never ends would fill the memory.
        self._values = 0
        self._pending_bytes = 0
        self._surrogates = SurrogateCheck()
        document = self._document()
        next(document)
        self._parser = yajl2_c.basic_parse_coro(document, use_float=True)

    def feed(self, data: bytes) -> None:
        values = self._values
        try:
            self._parser.send(data)
        except (ijson.JSONError, UnicodeDecodeError) as error:
            raise _invalid(error) from error
        if not self._surrogates.passes(data):
            raise _half_pair()
        if self._values > values:
            self._pending_bytes = 0
        self._pending_bytes += len(data)
        if self._pending_bytes > MAX_VALUE + len(data):
            raise BodyInvalid("value_too_large", f"One recipient, or one field, has more than {MAX_VALUE} bytes.")

    def finish(self) -> None:
        try:
            self._parser.close()
        except (ijson.JSONError, UnicodeDecodeError) as error:
            raise _invalid(error) from error
        if not self._surrogates.passed():
            raise _half_pair()

    def _document(self) -> _Reading:
        event, _ = yield
        if event != "start_map":
            raise BodyInvalid("json_invalid", "The body must be a JSON object.")
        while True:
            event, key = yield
            if event == "end_map":
                break
            if key in self.fields or (key == "recipients" and self.has_recipients):
                raise BodyInvalid("validation_failed", f"The field '{cleaned(key)}' is there twice.")
            event, value = yield
            if key == "recipients":
                yield from self._recipients(event)
            else:
                self.fields[key] = yield from _value(event, value, 1)
            self._values += 1
        while True:
            yield

    def _recipients(self, event: str) -> _Reading:
        if event != "start_array":
            raise BodyInvalid("validation_failed", "'recipients' must be a list.")
        self.has_recipients = True
        while True:
            event, value = yield
            if event == "end_array":
                return
            self._number += 1
            if event == "string":
                self._keep(make_line(self._number, value, 0, {}))
            else:
                self._keep(self._line_of((yield from _value(event, value, 1))))
            self._values += 1

    def _line_of(self, value: object) -> StagedLine | RejectedLine:
        if isinstance(value, dict):
            recipient = value.pop("recipient", None)
            if isinstance(recipient, str):
                return self._line_of_members(recipient, value)
            if isinstance(recipient, int) and not isinstance(recipient, bool):
                return self._line_of_members(str(recipient), value)
            return self._reject("", "recipient_invalid", "The field 'recipient' is missing, or no string.")
        if isinstance(value, int) and not isinstance(value, bool):
            return make_line(self._number, str(value), 0, {})
        return self._reject("", "recipient_invalid", "A recipient is a string, or an object with 'recipient'.")

    def _line_of_members(self, recipient: str, members: dict[Any, Any]) -> StagedLine | RejectedLine:
        variables, channel_id = members.get("variables"), members.get("channelId")
        if unknown := members.keys() - _MEMBERS:
            name = cleaned(min(unknown))
            return self._reject(
                recipient,
                "field_unknown",
                f"A recipient has no field '{name}'; put values of its own into 'variables'.",
            )
        if variables is not None and not isinstance(variables, dict):
            return self._reject(recipient, "variables_invalid", "'variables' must be an object.")
        match channel_id:
            case None:
                return make_line(self._number, recipient, 0, variables or {})
            case int() if not isinstance(channel_id, bool):
                number = channel_id
            case str() if channel_id.isascii() and channel_id.isdecimal() and len(channel_id) < 19:
                number = int(channel_id)
            case _:
                number = 0
        if number < 1:
            return self._reject(recipient, "channel_not_found", "'channelId' is not the id of a channel.")
        return make_line(self._number, recipient, number, variables or {})

    def _reject(self, recipient: str, code: str, reason: str) -> RejectedLine:
        return RejectedLine(self._number, cleaned(recipient), code, reason)

    def _keep(self, line: StagedLine | RejectedLine) -> None:
        if isinstance(line, StagedLine):
            self.lines.append(line)
        else:
            self.rejects.append(line)


def _value(event: str, value: Any, depth: int) -> _Reading:
    """The value that begins with this event."""
    if event == "start_map":
        members: dict[str, Any] = {}
        while True:
            event, key = yield
            if event == "end_map":
                return members
            event, value = yield
            members[key] = (yield from _nested(event, depth)) if event in _CONTAINERS else value
    if event == "start_array":
        items: list[Any] = []
        while True:
            event, value = yield
            if event == "end_array":
                return items
            items.append((yield from _nested(event, depth)) if event in _CONTAINERS else value)
    return value


def _nested(event: str, depth: int) -> _Reading:
    if depth == MAX_DEPTH:
        raise BodyInvalid("json_invalid", f"The JSON is nested more than {MAX_DEPTH} levels deep.")
    return (yield from _value(event, None, depth + 1))


def _half_pair() -> BodyInvalid:
    return BodyInvalid("json_invalid", "The JSON has an escape that is half of a surrogate pair (\\ud800 to \\udfff).")


def _invalid(error: Exception) -> BodyInvalid:
    """The parser's message goes on with an excerpt of the body, so only its first line is told."""
    reason = str(error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else error)
    reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else reason.split("\n")[0].rstrip(".")
    if "integer overflow" in reason:
        reason = "it has an integer of more than 64 bits; write such numbers as strings"
    elif "premature EOF" in reason:
        reason = "it ends too early"
    return BodyInvalid("json_invalid", f"The body is not valid JSON: {reason}.")
