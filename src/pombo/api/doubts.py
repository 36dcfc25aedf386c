"""Messages held in doubt: which, why, and a person's decision about one or many."""

import hashlib
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import Field

from pombo.api.errors import ApiError
from pombo.api.idempotency import Claim, key_of, replay
from pombo.api.runs import run_not_found
from pombo.api.shapes import Given, Id, RequestShape, Shape, Workspace
from pombo.domain.doubt import HoldReason
from pombo.domain.ids import RunId, WorkspaceId
from pombo.store import channels, held, idempotency, runs
from pombo.store.database import Connection, Database
from pombo.store.held import DoubtAction, HeldMessage, Selection
from pombo.store.idempotency import StoredAnswer

router = APIRouter(prefix="/api/doubts", tags=["doubts"])

ChannelFilter = Annotated[Id | None, Query(alias="channelId")]
RunFilter = Annotated[Id | None, Query(alias="runId")]


class HeldShape(Shape):
    message_id: int
    channel_id: int
    run_id: int = Field(description="0 or less for a message of no run.")
    recipient: str
    attempt: int
    attempted_at: datetime
    doubtful_since: datetime
    cause: str | None = Field(description="What came in place of an answer.")
    reason: HoldReason
    words: str = Field(description="The reason, in a sentence.")
    held_since: datetime


class HeldPage(Shape):
    doubts: list[HeldShape]
    next_after: int | None = Field(description="Pass it as `after` for the next page; null on the last.")


class SentTwiceShape(Shape):
    message_id: int
    channel_id: int
    run_id: int = Field(description="0 or less for a message of no run.")
    recipient: str
    provider_ids: list[str] = Field(description="Meta's ids of it, in the order in which they were found.")
    found_at: datetime


class SentTwicePage(Shape):
    messages: list[SentTwiceShape]
    next_after: int | None = Field(description="Pass it as `after` for the next page; null on the last.")


class ResolveRequest(RequestShape):
    """At least one of `messageIds`, `channelId` and `runId`; several must all fit."""

    action: DoubtAction = Field(
        description="resend: again, at the risk of twice. mark_sent: counts as accepted. drop: counts as cancelled. "
        "Evidence that comes later corrects all three."
    )
    message_ids: Annotated[list[Id], Field(min_length=1, max_length=10_000)] | None = None
    channel_id: Id | None = None
    run_id: Id | None = None


class ResolveAnswer(Shape):
    action: DoubtAction
    resolved: int
    skipped: int = Field(description="Of messageIds, those that are not held (any more).")


@router.get("")
async def list_held(
    workspace: Workspace,
    given: Given,
    channel_id: ChannelFilter = None,
    run_id: RunFilter = None,
    after: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> HeldPage:
    """Messages that may or may not have been accepted, and that nothing has told of within the channel's grace."""
    async with given.database.tenant(workspace) as connection:
        await _require(connection, workspace, channel_id, run_id)
        found = await held.list_held(connection, workspace, Selection(channel_id, run_id), after, limit)
    return HeldPage(
        doubts=[_show(message) for message in found], next_after=found[-1].message_id if len(found) == limit else None
    )


@router.get("/sent-twice")
async def list_sent_twice(
    workspace: Workspace,
    given: Given,
    channel_id: ChannelFilter = None,
    run_id: RunFilter = None,
    after: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> SentTwicePage:
    """Messages that Meta accepted more than once: the totals' `sentTwice`, one by one."""
    async with given.database.tenant(workspace) as connection:
        await _require(connection, workspace, channel_id, run_id)
        found = await held.list_sent_twice(connection, workspace, Selection(channel_id, run_id), after, limit)
    return SentTwicePage(
        messages=[
            SentTwiceShape(
                message_id=message.message_id,
                channel_id=message.channel_id,
                run_id=message.run_id,
                recipient=message.recipient,
                provider_ids=message.provider_ids,
                found_at=message.found_at,
            )
            for message in found
        ],
        next_after=found[-1].message_id if len(found) == limit else None,
    )


@router.post("/resolve")
async def resolve(request: Request, wanted: ResolveRequest, workspace: Workspace, given: Given) -> ResolveAnswer:
    """Of messages that are not held (any more) nothing is changed, so that asking twice does nothing twice.

    With an `Idempotency-Key` a repeated request gets the first answer, even if a message is held once more meanwhile.
    """
    if wanted.message_ids is None and wanted.channel_id is None and wanted.run_id is None:
        raise ApiError("validation_failed", "Say which messages are meant: name 'messageIds', 'channelId' or 'runId'.")
    async with given.database.tenant(workspace) as connection:
        await _require(connection, workspace, wanted.channel_id, wanted.run_id)
    key = key_of(request)
    if key is None:
        return await _resolve(given.database, workspace, wanted)
    digest = hashlib.sha256(b"doubts:" + wanted.model_dump_json().encode()).digest()
    claim = Claim(given.database, workspace, key)
    if (answered := await claim.take()) is not None:
        return replay(answered, digest, is_given=True)  # type: ignore[return-value]  # passed through as it is
    try:
        answer = await _resolve(given.database, workspace, wanted, claim)
        kept = StoredAnswer(digest, 200, answer.model_dump_json(by_alias=True))
        async with given.database.tenant(workspace) as connection:
            await idempotency.remember(connection, workspace, key, kept)
        return answer
    finally:
        await claim.release()


async def _resolve(
    database: Database, workspace_id: WorkspaceId, wanted: ResolveRequest, claim: Claim | None = None
) -> ResolveAnswer:
    selection = Selection(wanted.channel_id, wanted.run_id, wanted.message_ids)
    resolved = 0
    after: int | None = 0
    while after is not None:
        # A worker's connection, since a settlement touches what belongs to no workspace; the statements name it.
        async with database.transaction() as connection:
            count, after = await held.resolve(connection, workspace_id, wanted.action, selection, after)
        resolved += count
        if claim is not None:
            await claim.keep()
    named = 0 if wanted.message_ids is None else len(set(wanted.message_ids))
    return ResolveAnswer(action=wanted.action, resolved=resolved, skipped=max(0, named - resolved))


async def _require(
    connection: Connection, workspace_id: WorkspaceId, channel_id: int | None, run_id: int | None
) -> None:
    if channel_id is not None and not await channels.get_channels(connection, [(workspace_id, channel_id)]):
        raise ApiError("channel_not_found", f"There is no channel {channel_id}; GET /api/channels lists them.")
    if run_id is not None and await runs.get_run(connection, workspace_id, RunId(run_id)) is None:
        raise run_not_found(run_id)


def _show(message: HeldMessage) -> HeldShape:
    return HeldShape(
        message_id=message.message_id,
        channel_id=message.channel_id,
        run_id=message.run_id,
        recipient=message.recipient,
        attempt=message.attempt,
        attempted_at=message.intent_at,
        doubtful_since=message.since,
        cause=message.error_title,
        reason=message.reason,
        words=message.reason.words,
        held_since=message.held_since,
    )
