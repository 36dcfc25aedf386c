"""Canned replies: texts with variables that agents insert by a shortcut."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import Field
from starlette.responses import Response

from pombo.api.errors import ApiError
from pombo.api.inbox_shapes import raw, raw_list
from pombo.api.shapes import ActingAgent, Given, Id, LongText, Name, RequestShape, Shape, Workspace
from pombo.domain.content import RenderError
from pombo.domain.liquid import TemplateError, compile_text
from pombo.inbox.errors import conversation_not_found
from pombo.store import agents, canned_replies, conversations

ReplyId = Annotated[Id, Path(alias="replyId")]
router = APIRouter(prefix="/api/canned-replies", tags=["inbox"])


class CannedReplyShape(Shape):
    id: int
    version: int
    shortcut: str
    text: str = Field(description="May hold `{{ contact.name }}`, other attributes of the contact, `{{ agent.name }}`.")
    created_at: datetime


class CannedReplyList(Shape):
    canned_replies: list[CannedReplyShape]


class NewCannedReply(RequestShape):
    shortcut: Name
    text: LongText


class CannedReplyChange(RequestShape):
    shortcut: Name | None = None
    text: LongText | None = None


class RenderedReply(Shape):
    text: str


@router.get("", response_model=CannedReplyList)
async def list_canned_replies(workspace: Workspace, given: Given) -> Response:
    async with given.database.tenant(workspace) as connection:
        return raw_list("cannedReplies", await canned_replies.list_replies(connection, workspace))


@router.post("", status_code=201, response_model=CannedReplyShape)
async def add_canned_reply(reply: NewCannedReply, workspace: Workspace, given: Given) -> Response:
    _check(reply.text)
    async with given.database.tenant(workspace) as connection:
        return raw(await canned_replies.add_reply(connection, workspace, reply.shortcut, reply.text), 201)


@router.patch("/{replyId}", response_model=CannedReplyShape)
async def change_canned_reply(
    reply_id: ReplyId, change: CannedReplyChange, workspace: Workspace, given: Given
) -> Response:
    if change.text is not None:
        _check(change.text)
    async with given.database.tenant(workspace) as connection:
        changed = await canned_replies.change_reply(connection, workspace, reply_id, change.shortcut, change.text)
    if changed is None:
        raise _not_found(reply_id)
    return raw(changed)


@router.delete("/{replyId}", status_code=204)
async def delete_canned_reply(reply_id: ReplyId, workspace: Workspace, given: Given) -> None:
    async with given.database.tenant(workspace) as connection:
        if not await canned_replies.delete_reply(connection, workspace, reply_id):
            raise _not_found(reply_id)


@router.get("/{replyId}/text")
async def render_canned_reply(
    reply_id: ReplyId,
    conversation_id: Annotated[Id, Query(alias="conversationId")],
    workspace: Workspace,
    agent: ActingAgent,
    given: Given,
) -> RenderedReply:
    """The text for this conversation's contact, for the agent to look at and send."""
    async with given.database.tenant(workspace) as connection:
        text = await canned_replies.reply_text(connection, workspace, reply_id)
        if text is None:
            raise _not_found(reply_id)
        contact = await conversations.contact_variables(connection, workspace, conversation_id)
        if contact is None:
            raise conversation_not_found(conversation_id)
        person = None if agent is None else await agents.get_agent(connection, workspace, agent)
    variables: dict[str, Any] = contact | {"agent": {"name": None if person is None else person.name}}
    try:
        return RenderedReply(text=compile_text(text).render(variables))
    except RenderError as error:
        raise ApiError(error.code, error.sentence, status=422) from error


def _check(text: str) -> None:
    try:
        compile_text(text)
    except TemplateError as error:
        raise ApiError("template_syntax", f"text: {error.sentence}", status=422) from error


def _not_found(reply_id: int) -> ApiError:
    return ApiError(
        "canned_reply_not_found", f"There is no canned reply {reply_id}; GET /api/canned-replies lists them."
    )
