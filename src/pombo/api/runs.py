"""Runs: their figures, their rejected recipients, and what became of each message."""

import base64
import binascii
import json
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import Field

from pombo.api.errors import ApiError
from pombo.api.run_shapes import RunShape, show_run
from pombo.api.shapes import Given, Id, Shape, Workspace
from pombo.domain.ids import ChannelId, RunId, WorkspaceId
from pombo.domain.outcomes import DeliveryState
from pombo.meta.errors import find_rule
from pombo.store import audience, figures, run_messages, runs
from pombo.store.audience import RejectedLine
from pombo.store.database import Connection
from pombo.store.run_messages import BEGINNING, RunMessage

router = APIRouter(prefix="/api/runs", tags=["runs"])

InPath = Annotated[Id, Path(alias="runId")]
Limit = Annotated[int, Query(ge=1, le=500)]


class Reject(Shape):
    line: int = Field(description="Place in the list from 1, or line of the CSV file.")
    recipient: str
    code: str
    message: str


class RejectPage(Shape):
    rejects: list[Reject]
    next_after: int | None = Field(description="Pass it as `after` for the next page; null on the last.")


class DeliveryError(Shape):
    code: int = Field(description="Meta's; 0 for a message that could not be made or a connection that failed.")
    subcode: int
    title: str
    words: str
    next_step: str | None


class Delivery(Shape):
    message_id: int
    channel_id: int
    recipient: str
    state: str = Field(
        description="waiting, retrying, sending, uncertain; then cancelled, failed, accepted, undelivered, delivered "
        "or read; forgotten when the delivery log no longer holds it."
    )
    attempt: int
    provider_id: str | None
    accepted_at: datetime | None
    delivered_at: datetime | None
    read_at: datetime | None
    failed_at: datetime | None
    error: DeliveryError | None


class DeliveryPage(Shape):
    deliveries: list[Delivery]
    next_cursor: str | None = Field(description="Pass it as `cursor` for the next page; null on the last.")


@router.get("/{runId}")
async def get_run(run_id: InPath, workspace: Workspace, given: Given) -> RunShape:
    async with given.database.tenant(workspace) as connection:
        run = await runs.get_run(connection, workspace, RunId(run_id))
        if run is None:
            raise run_not_found(run_id)
        return show_run(run, await figures.run_figures(connection, workspace, run.id))


@router.get("/{runId}/rejects")
async def list_rejects(
    run_id: InPath, workspace: Workspace, given: Given, after: Annotated[int, Query(ge=0)] = 0, limit: Limit = 100
) -> RejectPage:
    """Recipients that could not be used, in the order in which they came."""
    async with given.database.tenant(workspace) as connection:
        await _require(connection, workspace, run_id)
        found = await audience.list_rejects(connection, workspace, RunId(run_id), after, limit)
    return RejectPage(
        rejects=[show_reject(reject) for reject in found], next_after=found[-1].line if len(found) == limit else None
    )


@router.get("/{runId}/deliveries")
async def list_deliveries(
    run_id: InPath, workspace: Workspace, given: Given, cursor: str | None = None, limit: Limit = 100
) -> DeliveryPage:
    """Everybody in the run, by channel and recipient, and what became of each one's message."""
    after = BEGINNING if cursor is None else _read_cursor(cursor)
    async with given.database.tenant(workspace) as connection:
        await _require(connection, workspace, run_id)
        found = await run_messages.list_run_messages(connection, workspace, RunId(run_id), after, limit)
    return DeliveryPage(
        deliveries=[_show(message) for message in found],
        next_cursor=_make_cursor(found[-1]) if len(found) == limit else None,
    )


def show_reject(reject: RejectedLine) -> Reject:
    return Reject(line=reject.line, recipient=reject.recipient, code=reject.code, message=reject.reason)


async def _require(connection: Connection, workspace_id: WorkspaceId, run_id: int) -> None:
    if await runs.get_run(connection, workspace_id, RunId(run_id)) is None:
        raise run_not_found(run_id)


def run_not_found(run_id: int) -> ApiError:
    return ApiError("run_not_found", f"There is no run {run_id}; a campaign's runs are at /api/campaigns/<id>.")


def _make_cursor(message: RunMessage) -> str:
    return base64.urlsafe_b64encode(json.dumps([message.channel_id, message.recipient]).encode()).decode()


def _read_cursor(cursor: str) -> tuple[ChannelId, str]:
    try:
        match json.loads(base64.urlsafe_b64decode(cursor)):
            case [int(channel_id), str(recipient)] if 0 <= channel_id < 2**63 and "\x00" not in recipient:
                return ChannelId(channel_id), recipient
    except (binascii.Error, ValueError, RecursionError):
        pass
    raise ApiError("validation_failed", "'cursor' must be the nextCursor of another page of the same list.")


_WAITING = {"s": "sending", "u": "uncertain"}
_SETTLED = {state.rank: state.value for state in DeliveryState}


def _show(message: RunMessage) -> Delivery:
    if message.settled is not None:
        state = _SETTLED[message.settled]
    elif message.waiting is None:
        state = "forgotten"
    else:
        state = _WAITING.get(message.waiting) or ("retrying" if message.attempt else "waiting")
    return Delivery(
        message_id=message.message_id,
        channel_id=message.channel_id,
        recipient=message.recipient,
        state=state,
        attempt=message.attempt,
        provider_id=message.provider_id,
        accepted_at=message.accepted_at,
        delivered_at=message.delivered_at,
        read_at=message.read_at,
        failed_at=message.failed_at,
        error=_explain(message),
    )


def _explain(message: RunMessage) -> DeliveryError | None:
    if message.error_code is None and message.error_title is None:
        return None
    code, subcode, title = message.error_code or 0, message.error_subcode or 0, message.error_title or ""
    if not code:
        return DeliveryError(code=0, subcode=0, title=title, words=title, next_step=None)
    rule = find_rule(message.kind, code, subcode)
    return DeliveryError(code=code, subcode=subcode, title=title, words=rule.words, next_step=rule.next_step)
