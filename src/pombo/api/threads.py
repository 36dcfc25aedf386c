"""Threads: the messages of a conversation, and a failed reply's second try."""

import json
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import Field
from starlette.responses import Response

from pombo.api.cursors import read_cursor, write_cursor
from pombo.api.errors import ApiError
from pombo.api.inbox_shapes import ConversationMessageShape, raw, raw_list
from pombo.api.shapes import Given, Id, Shape, Workspace
from pombo.inbox import replying
from pombo.inbox.errors import conversation_not_found
from pombo.store import thread
from pombo.store.planning import IN_ORDER
from pombo.store.thread import Position

ConversationId = Annotated[Id, Path(alias="conversationId")]
MessageId = Annotated[Id, Path(alias="messageId")]
router = APIRouter(prefix="/api/messages", tags=["inbox"])


class ThreadPage(Shape):
    messages: list[ConversationMessageShape] = Field(description="Newest first.")
    older: str | None = Field(description="Pass it as `older` for what was before; null at the thread's beginning.")
    newer: str | None = Field(description="Pass it as `newer` for what comes after; null when the page is empty.")


@router.get("/{conversationId}", response_model=ThreadPage)
async def read_thread(
    conversation_id: ConversationId,
    workspace: Workspace,
    given: Given,
    older: Annotated[str | None, Query(description="A page's `older`.")] = None,
    newer: Annotated[str | None, Query(description="A page's `newer`.")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Response:
    """What the contact wrote, replies, notes, campaign messages among them; the newest unless asked for others."""
    if older is not None and newer is not None:
        raise ApiError("validation_failed", "Ask for what is older or for what is newer, not for both at once.")
    async with given.database.tenant(workspace, IN_ORDER) as connection:
        page = await thread.read_thread(
            connection,
            workspace,
            conversation_id,
            limit,
            older_than=None if older is None else Position(*read_cursor("thread", older)),
            newer_than=None if newer is None else Position(*read_cursor("thread", newer)),
        )
        if not page.messages and not await thread.exists(connection, workspace, conversation_id):
            raise conversation_not_found(conversation_id)
    goes_on = page.oldest is not None and (newer is not None or len(page.messages) == limit)
    return raw_list(
        "messages",
        page.messages,
        older=json.dumps(write_cursor("thread", *page.oldest) if goes_on and page.oldest else None),
        newer=json.dumps(write_cursor("thread", *page.newest) if page.newest else newer),
    )


@router.post("/{messageId}/retry", status_code=202, response_model=ConversationMessageShape)
async def retry_reply(message_id: MessageId, workspace: Workspace, given: Given) -> Response:
    """Sends a reply that failed once more."""
    async with given.database.tenant(workspace) as connection:
        return raw(await replying.retry(connection, workspace, message_id), 202)
