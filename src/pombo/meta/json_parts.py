"""Picks what is wanted out of decoded JSON of which nothing is certain. What has another type is as good as absent.

Times and ids must be right, or the event is nobody's: these raise ValueError. All that comes out can be stored:
PostgreSQL knows no NUL, and encoders no integer of more than 64 bits.
"""

from datetime import UTC, datetime
from typing import Any

import msgspec

Json = dict[str, Any]

decode = msgspec.json.Decoder(dict[str, Any]).decode

# Meta's are some 130 characters at most, and no index holds a key of more than 2,700 bytes.
LONGEST_ID = 600
# From here on a number of seconds would be the year 5138: it counts milliseconds.
_MILLISECONDS_FROM = 10**11


def part(value: Any, name: str) -> Json:
    """The object of that name; an empty one if there is none."""
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def parts(value: Any, name: str) -> list[Json]:
    """The objects in the list of that name; a single one stands for a list of itself."""
    found = value.get(name) if isinstance(value, dict) else None
    if isinstance(found, dict):
        return [found]
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def text(value: Any, name: str) -> str | None:
    """A number counts as the text that it is written as."""
    found = value.get(name) if isinstance(value, dict) else None
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)
    return found.replace("\0", "") or None if isinstance(found, str) else None


def an_id(value: Any) -> str:
    """Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value or not value.isprintable() or len(value) > LONGEST_ID:
        raise ValueError("no id")
    return value


def maybe_id(value: Any) -> str | None:
    try:
        return an_id(value)
    except ValueError:
        return None


def moment(value: Any, otherwise: Any = None) -> datetime:
    """Of a number, or a number in text, of seconds or milliseconds. Raises ValueError, OverflowError or OSError."""
    if value is None:
        value = otherwise
    if value is None or isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("no time")
    number = int(value)
    return datetime.fromtimestamp(number / 1000 if number >= _MILLISECONDS_FROM else number, UTC)


def storable(value: Any) -> Any:
    """The same, as it can be stored. Raises RecursionError."""
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, dict):
        return {name.replace("\0", ""): storable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [storable(item) for item in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return str(value)
    return value


def chosen(value: Json, *names: str, **renamed: str) -> Json:
    """These members, as far as they are there and not null; `new=old` gives one a new name."""
    pairs = [(name, value.get(name)) for name in names] + [(new, value.get(old)) for new, old in renamed.items()]
    return {name: storable(found) for name, found in pairs if found is not None}
