"""The suppression list: who gets no more campaigns, by Meta's word or the workspace's own (row E11)."""

import base64
import binascii
import json
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import Field, StringConstraints

from pombo.api.errors import ApiError
from pombo.api.shapes import Given, RequestShape, Shape, Workspace
from pombo.domain.channels import ChannelKind
from pombo.domain.phones import normalise_recipient
from pombo.store import suppressions
from pombo.store.suppressions import Suppressed, Suppression

router = APIRouter(prefix="/api/suppressions", tags=["suppressions"])

_BEGINNING = ("", "")


class SuppressionShape(Shape):
    kind: ChannelKind
    recipient: str
    reason: str
    code: str | None = Field(description="Meta's, when it is Meta's word.")
    at: datetime


class SuppressionPage(Shape):
    suppressions: list[SuppressionShape]
    next_cursor: str | None = Field(description="Pass it as `cursor` for the next page; null on the last.")


class SuppressRequest(RequestShape):
    kind: ChannelKind
    recipients: Annotated[list[str], Field(min_length=1, max_length=10_000)]
    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)] = "Asked for it."


class SuppressAnswer(Shape):
    added: int = Field(description="Those who were not on the list yet.")


@router.get("")
async def list_suppressions(
    workspace: Workspace, given: Given, cursor: str | None = None, limit: Annotated[int, Query(ge=1, le=500)] = 100
) -> SuppressionPage:
    """By kind and recipient."""
    after = _BEGINNING if cursor is None else _read_cursor(cursor)
    async with given.database.tenant(workspace) as connection:
        found = await suppressions.list_suppressions(connection, workspace, after, limit)
    return SuppressionPage(
        suppressions=[
            SuppressionShape(kind=s.kind, recipient=s.recipient, reason=s.reason, code=s.code, at=s.at) for s in found
        ],
        next_cursor=_make_cursor(found[-1]) if len(found) == limit else None,
    )


@router.post("", status_code=201)
async def suppress(asked: SuppressRequest, workspace: Workspace, given: Given) -> SuppressAnswer:
    """Adds people. None is added when one of them is no address of that kind."""
    rows, bad = [], []
    for place, given_recipient in enumerate(asked.recipients, 1):
        recipient = normalise_recipient(asked.kind, given_recipient)
        if isinstance(recipient, str):
            rows.append(Suppression(workspace, asked.kind, recipient, asked.reason))
        else:
            bad.append({"line": place, "code": recipient.code, "message": recipient.sentence})
    if bad:
        raise ApiError("recipients_invalid", f"{len(bad)} of the recipients are no addresses; nobody was added.", bad)
    async with given.database.tenant(workspace) as connection:
        return SuppressAnswer(added=await suppressions.suppress(connection, rows))


@router.delete("/{kind}/{recipient}", status_code=204)
async def lift(kind: ChannelKind, recipient: str, workspace: Workspace, given: Given) -> Response:
    """Takes somebody off the list."""
    address = normalise_recipient(kind, recipient)
    async with given.database.tenant(workspace) as connection:
        if isinstance(address, str) and await suppressions.lift(connection, workspace, kind, address):
            return Response(status_code=204)
    raise ApiError(
        "suppression_not_found", "This person is not on the suppression list; GET /api/suppressions shows it."
    )


def _make_cursor(last: Suppressed) -> str:
    return base64.urlsafe_b64encode(json.dumps([last.kind, last.recipient]).encode()).decode()


def _read_cursor(cursor: str) -> tuple[str, str]:
    try:
        match json.loads(base64.urlsafe_b64decode(cursor)):
            case [str(kind), str(recipient)] if "\x00" not in kind + recipient:
                return kind, recipient
    except (binascii.Error, ValueError, RecursionError):
        pass
    raise ApiError("validation_failed", "'cursor' must be the nextCursor of another page of the same list.")
