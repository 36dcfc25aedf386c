"""`POST /api/send-message`: one message to one recipient, ahead of all campaigns (rows B3, B7)."""

import hashlib
import json
from enum import StrEnum
from typing import Any

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from pombo.api.contents import WithContent, check_content
from pombo.api.errors import ApiError
from pombo.api.idempotency import Claim, key_of, replay
from pombo.api.shapes import Given, Id, Shape, Workspace
from pombo.domain.classes import MessageClass
from pombo.domain.ids import ChannelId, WorkspaceId
from pombo.domain.phones import normalise_recipient
from pombo.store import channels, direct, idempotency
from pombo.store.database import Database
from pombo.store.idempotency import StoredAnswer

router = APIRouter(prefix="/api", tags=["messages"])


class DirectClass(StrEnum):
    REPLY = "reply"
    TRANSACTIONAL = "transactional"


class DirectMessage(WithContent):
    channel_id: Id
    recipient: str = Field(description="A phone number, a business-scoped user id, or a page-scoped id.")
    message_class: DirectClass = Field(
        DirectClass.REPLY, alias="class", description="Replies go first, then transactional messages, then campaigns."
    )
    variables: dict[str, Any] | None = Field(None, description="For the content's Liquid variables.")


class QueuedMessage(Shape):
    message_id: int
    channel_id: int
    recipient: str = Field(description="As it is sent: normalised.")
    status: str = "queued"


@router.post("/send-message", status_code=202, response_model=QueuedMessage)
async def send_message(asked: DirectMessage, request: Request, workspace: Workspace, given: Given) -> Response:
    """Queues a message; it leaves within milliseconds, as the channel's rate allows.

    With an `Idempotency-Key` a repeated request sends nothing again.
    """
    digest = hashlib.sha256(await request.body()).digest()
    key = key_of(request)
    if key is None:
        return Response(await _queue(given.database, workspace, asked, digest, None), 202, None, "application/json")
    claim = Claim(given.database, workspace, key)
    if (answered := await claim.take()) is not None:
        return replay(answered, digest, is_given=True)
    try:
        return Response(await _queue(given.database, workspace, asked, digest, key), 202, None, "application/json")
    finally:
        await claim.release()


async def _queue(
    database: Database, workspace_id: WorkspaceId, asked: DirectMessage, digest: bytes, key: str | None
) -> str:
    content = asked.read_content()
    if content is None:
        raise ApiError("content_missing", "There is nothing to send: give 'content', or 'messageType' and 'payload'.")
    async with database.tenant(workspace_id) as connection:
        channel_id = ChannelId(asked.channel_id)
        found = await channels.get_channels(connection, [(workspace_id, channel_id)])
        if not found:
            raise ApiError("channel_not_found", f"There is no channel {channel_id}; GET /api/channels lists them.")
        recipient = normalise_recipient(found[0].kind, asked.recipient)
        if not isinstance(recipient, str):
            raise ApiError(
                "recipients_invalid", recipient.sentence, [{"code": recipient.code, "message": recipient.sentence}]
            )
        check_content(content, [found[0].kind])
        message_id = await direct.enqueue(
            connection,
            workspace_id=workspace_id,
            channel_id=channel_id,
            message_class=MessageClass[asked.message_class.name],
            recipient=recipient,
            content=content,
            variables=None if not asked.variables else json.dumps(asked.variables),
        )
        answer = QueuedMessage(message_id=message_id, channel_id=channel_id, recipient=recipient).model_dump_json(
            by_alias=True
        )
        if key is not None:
            await idempotency.remember(connection, workspace_id, key, StoredAnswer(digest, 202, answer))
    return answer
