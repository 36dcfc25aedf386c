"""Takes a webhook apart in which something has not the expected shape, and keeps all the rest of it.

Meta adds and changes shapes without notice and sends no single event again: an odd one must not cost its neighbours.
"""

import json
from collections.abc import Callable
from typing import TypeVar

import msgspec

from pombo.meta.webhook_shapes import NULL, Change, Entry, Envelope, Id, Messaging, Metadata, Status, Value

T = TypeVar("T")

# UnicodeDecodeError: the decoder looks at a string's bytes only when it makes a string of them.
MISMATCH = (msgspec.DecodeError, UnicodeDecodeError)

_Decode = Callable[[msgspec.Raw], T]

# Decodes as nothing at all.
_NOTHING = msgspec.Raw()

_decode_parts = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_items = msgspec.json.Decoder(list[msgspec.Raw] | None).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_id: _Decode[str] = msgspec.json.Decoder(Id).decode
_decode_time = msgspec.json.Decoder(int | None).decode
_decode_messaging = msgspec.json.Decoder(Messaging).decode
_decode_value = msgspec.json.Decoder(Value | None).decode
_decode_metadata = msgspec.json.Decoder(Metadata | None).decode
_decode_status = msgspec.json.Decoder(Status).decode


def salvage(body: bytes) -> tuple[Envelope, list[str]]:
    """What of the body has the expected shape, and for each event that has not, the id of its entry ("" if unknown).

    Raises ValueError if the body is not a JSON object.
    """
    try:
        parts = _decode_parts(body)
    except MISMATCH:
        # Python's reader takes halves of surrogate pairs (an emoji cut in two), which JSON's grammar allows.
        repaired = json.dumps(json.loads(body), ensure_ascii=False).encode("utf-8", "replace")
        parts = _decode_parts(repaired)
    return _Salvage().envelope(parts)


class _Salvage:
    def __init__(self) -> None:
        self._malformed: list[str] = []
        self._id = ""

    def envelope(self, parts: dict[str, msgspec.Raw]) -> tuple[Envelope, list[str]]:
        name = self._one(parts.get("object"), _decode_text, "")
        entries = self._many(parts.get("entry"), self._entry)
        return Envelope(name, entries), self._malformed

    def _entry(self, raw: msgspec.Raw) -> Entry:
        parts = _decode_parts(raw)
        # Events of nobody knows whom are of no use.
        self._id = _decode_id(parts.get("id", _NOTHING))
        entry = Entry(
            self._id,
            self._one(parts.get("time"), _decode_time, None),
            self._many(parts.get("messaging"), _messaging),
            self._many(parts.get("standby"), _messaging),
            self._many(parts.get("changes"), self._change),
        )
        self._id = ""
        return entry

    def _change(self, raw: msgspec.Raw) -> Change:
        parts = _decode_parts(raw)
        field = _decode_text(parts.get("field", _NOTHING))
        said = parts.get("value", NULL)
        if field != "messages":
            # Only that field's value has a shape to rely on.
            return Change(field, None, said)
        try:
            return Change(field, _decode_value(said), said)
        except MISMATCH:
            value = _decode_parts(said)
        return Change(
            field,
            Value(
                self._one(value.get("metadata"), _decode_metadata, None),
                self._many(value.get("statuses"), _decode_status),
                self._many(value.get("messages"), _untouched),
                value.get("contacts", _NOTHING),
                self._many(value.get("errors"), _untouched),
            ),
            said,
        )

    def _one(self, raw: msgspec.Raw | None, decode: _Decode[T], default: T) -> T:
        if raw is None:
            return default
        try:
            return decode(raw)
        except MISMATCH:
            return default

    def _many(self, raw: msgspec.Raw | None, decode: _Decode[T]) -> list[T]:
        """The items that can be decoded."""
        good: list[T] = []
        if raw is None:
            return good
        try:
            items = _decode_items(raw) or []
        except MISMATCH:
            items = []
            self._malformed.append(self._id)
        for item in items:
            try:
                good.append(decode(item))
            except MISMATCH:
                self._malformed.append(self._id)
        return good


def _messaging(raw: msgspec.Raw) -> Messaging:
    messaging = _decode_messaging(raw)
    messaging.raw = raw
    return messaging


def _untouched(raw: msgspec.Raw) -> msgspec.Raw:
    return raw
