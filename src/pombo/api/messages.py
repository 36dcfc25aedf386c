"""`POST /api/send-message`: a reply in a conversation, or one message to one recipient, ahead of campaigns (B3, B7)."""

import hashlib
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import AfterValidator, Field, StringConstraints
from starlette.responses import Response

from pombo.api.contents import WithContent, check_content
from pombo.api.errors import ApiError
from pombo.api.idempotency import Claim, key_of, replay
from pombo.api.shapes import ActingAgent, Given, Id, Name, RequestShape, Shape, Workspace, storable_text
from pombo.domain.classes import MessageClass
from pombo.domain.content import Content, Text
from pombo.domain.ids import AgentId, ChannelId, WorkspaceId
from pombo.domain.phones import normalise_recipient
from pombo.domain.replies import Attachment, AttachmentType, Reply
from pombo.inbox import direct, replying
from pombo.inbox.replying import Wish
from pombo.store import channels, idempotency
from pombo.store.database import Connection
from pombo.store.idempotency import StoredAnswer

router = APIRouter(prefix="/api", tags=["messages"])


class DirectClass(StrEnum):
    REPLY = "reply"
    TRANSACTIONAL = "transactional"


class AttachmentRequest(RequestShape):
    """`mediaId` of a file brought by `POST /api/media`; or `type` and `url`, which Meta fetches it from."""

    media_id: Id | None = None
    type: AttachmentType | None = None
    url: (
        Annotated[str, StringConstraints(pattern="^https?://[^ ]+$", max_length=2000), AfterValidator(storable_text)]
        | None
    ) = None
    file_name: Name | None = Field(None, description="Shown with a file on WhatsApp.")

    def read(self) -> Attachment:
        """Raises ApiError."""
        if self.media_id is not None and self.type is None and self.url is None:
            # What it is, its first bytes have told.
            return Attachment(AttachmentType.FILE, None, self.media_id, self.file_name)
        if self.media_id is None and self.type is not None and self.url is not None:
            return Attachment(self.type, self.url, None, self.file_name)
        raise ApiError("validation_failed", "An 'attachment' has either a 'mediaId', or 'type' and 'url'.")


class MessageRequest(WithContent):
    """Either `conversationId`, or `channelId` and `recipient`."""

    channel_id: Id | None = None
    recipient: str | None = Field(None, description="A phone number, a business-scoped user id, or a page-scoped id.")
    message_class: DirectClass = Field(
        DirectClass.REPLY, alias="class", description="Replies go first, then transactional messages, then campaigns."
    )
    variables: dict[str, Any] | None = Field(
        None, description="For the content's Liquid variables. Not for a reply in a conversation: its text is as typed."
    )
    conversation_id: Id | None = Field(None, description="Answers in this conversation.")
    attachment: AttachmentRequest | None = Field(None, description="Of a reply; its text is the caption then.")
    last_seen_message_id: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = Field(
        None,
        description="The newest message that the agent has seen, by `id`: refused if somebody else has answered "
        "after it. What the contact wrote after it stays unread.",
    )
    reply_to: Id | None = Field(None, description="Of a reply: the message of the thread that it quotes.")
    force: bool = Field(False, description="Answers even so.")
    human_agent: bool = Field(
        False, description="Written by a person, which Messenger takes until seven days after the contact wrote."
    )


class QueuedMessage(Shape):
    message_id: int | None = Field(
        default=None, description="Left out while the file that a reply brings is on its way to Meta."
    )
    channel_id: int
    recipient: str = Field(description="As it is sent: normalised.")
    status: str = "queued"
    conversation_id: int = Field(description="Where it is shown.")
    id: int = Field(description="Of the thread's message; the rest of it comes as an event.")


@router.post("/send-message", status_code=202, response_model=QueuedMessage)
async def send_message(
    asked: MessageRequest, request: Request, workspace: Workspace, agent: ActingAgent, given: Given
) -> Response:
    """Queues a message; it leaves within milliseconds, as the channel's rate allows.

    With a `conversationId` it is a reply: it stands in the thread, opens the conversation, and gives it to the agent if
    it is nobody's. Without, it is shown in the recipient's conversation and changes nothing else of it. Where there is
    none, it begins one: closed for a program's message, open and the agent's for an agent's.

    With an `Idempotency-Key` a repeated request sends nothing again.
    """
    digest = hashlib.sha256(await request.body()).digest()
    key = key_of(request)
    queue = _Queueing(workspace, agent, asked, given.settings.assign_on_reply)
    if key is None:
        async with given.database.tenant(workspace) as connection:
            return Response(await queue.run(connection), 202, None, "application/json")
    claim = Claim(given.database, workspace, key)
    if (answered := await claim.take()) is not None:
        return replay(answered, digest, is_given=True)
    try:
        async with given.database.tenant(workspace) as connection:
            answer = await queue.run(connection)
            await idempotency.remember(connection, workspace, key, StoredAnswer(digest, 202, answer))
        return Response(answer, 202, None, "application/json")
    finally:
        await claim.release()


class _Queueing:
    """What one request asks for, in a transaction of its caller."""

    def __init__(self, workspace_id: WorkspaceId, agent: AgentId | None, asked: MessageRequest, assigns: bool) -> None:
        self._workspace_id = workspace_id
        self._agent = agent
        self._asked = asked
        self._assigns = assigns

    async def run(self, connection: Connection) -> str:
        """The answer as JSON text. Raises ApiError, InboxError, ContentError."""
        asked = self._asked
        if asked.conversation_id is not None:
            if asked.channel_id is not None or asked.recipient is not None:
                sentence = "A reply goes to its conversation's contact: leave out 'channelId' and 'recipient'."
                raise ApiError("validation_failed", sentence)
            queued = await self._reply(connection, asked.conversation_id)
        elif asked.channel_id is None or asked.recipient is None:
            raise ApiError("validation_failed", "Say where it goes: 'conversationId', or 'channelId' and 'recipient'.")
        elif asked.attachment is not None:
            sentence = "'attachment' is for replies in a conversation; here send a raw payload as 'content'."
            raise ApiError("validation_failed", sentence)
        elif asked.reply_to is not None:
            raise ApiError("validation_failed", "'replyTo' is for replies in a conversation: give 'conversationId'.")
        else:
            queued = await self._direct(connection, ChannelId(asked.channel_id), asked.recipient)
        return queued.model_dump_json(by_alias=True, exclude_none=True)

    async def _reply(self, connection: Connection, conversation_id: int) -> QueuedMessage:
        asked, content = self._asked, self._asked.read_content()
        if asked.variables is not None:
            raise ApiError("validation_failed", "A reply has no 'variables': its text is sent as it was typed.")
        text, attachment = None, None
        if isinstance(content, Text):
            text, content = content.text, None
        if asked.attachment is not None:
            if content is not None:
                raise ApiError("validation_failed", "Beside an 'attachment' the content can only be text.")
            attachment = asked.attachment.read()
        elif text is None and content is None:
            raise _nothing_to_send()
        sent = await replying.reply(
            connection,
            self._workspace_id,
            conversation_id,
            Wish(
                Reply(text, attachment, content, asked.human_agent),
                last_seen=asked.last_seen_message_id,
                force=asked.force,
                reply_to=asked.reply_to,
                assigns=self._assigns,
            ),
            self._agent,
        )
        return QueuedMessage(
            message_id=sent.message_id,
            channel_id=sent.channel_id,
            recipient=sent.recipient,
            conversation_id=conversation_id,
            id=sent.id,
        )

    async def _direct(self, connection: Connection, channel_id: ChannelId, given_recipient: str) -> QueuedMessage:
        asked = self._asked
        content: Content | None = asked.read_content()
        if content is None:
            raise _nothing_to_send()
        found = await channels.get_channels(connection, [(self._workspace_id, channel_id)])
        if not found:
            raise ApiError("channel_not_found", f"There is no channel {channel_id}; GET /api/channels lists them.")
        recipient = normalise_recipient(found[0].kind, given_recipient)
        if not isinstance(recipient, str):
            raise ApiError(
                "recipients_invalid", recipient.sentence, [{"code": recipient.code, "message": recipient.sentence}]
            )
        check_content(content, [found[0].kind])
        message_id, conversation_id, shown_id = await direct.send(
            connection,
            self._workspace_id,
            channel_id,
            recipient,
            content,
            message_class=MessageClass[asked.message_class.name],
            variables=asked.variables,
            agent_id=self._agent,
            assigns=self._assigns,
        )
        return QueuedMessage(
            message_id=message_id,
            channel_id=channel_id,
            recipient=recipient,
            conversation_id=conversation_id,
            id=shown_id,
        )


def _nothing_to_send() -> ApiError:
    return ApiError("content_missing", "There is nothing to send: give 'content', or 'messageType' and 'payload'.")
