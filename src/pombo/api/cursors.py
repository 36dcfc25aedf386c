"""Cursors of lists: opaque to clients, positions to us."""

import base64
import binascii
import json
from datetime import UTC, datetime

from pombo.api.errors import ApiError


def write_cursor(name: str, at: datetime, id: int) -> str:
    """`name` keeps a cursor of one list from being used in another."""
    return base64.urlsafe_b64encode(json.dumps([name, at.isoformat(), id]).encode()).decode().rstrip("=")


def read_cursor(name: str, cursor: str) -> tuple[datetime, int]:
    """Raises ApiError."""
    try:
        match json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))):
            case [str(of), str(at), int(id)] if of == name and not isinstance(id, bool) and 0 <= id < 2**63:
                moment = datetime.fromisoformat(at)
                if moment.tzinfo is not None:
                    return moment.astimezone(UTC), id
    except (binascii.Error, ValueError, OverflowError, RecursionError):
        pass
    raise ApiError("validation_failed", "The cursor must be one that a page of the same list has answered.")
