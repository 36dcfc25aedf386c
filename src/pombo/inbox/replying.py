"""An agent answers: the thread's message, the message that is sent, and the events, in one transaction.

The reply leaves ahead of all campaigns (class reply). Its state in the thread follows by `pombo.inbox.following`.
"""

import json
from dataclasses import dataclass, replace

from pombo.domain.classes import MessageClass
from pombo.domain.content import ContentError
from pombo.domain.content_rules import validate_content
from pombo.domain.ids import AgentId, ChannelId, MessageId, WorkspaceId
from pombo.domain.phones import is_group
from pombo.domain.replies import Attachment, AttachmentType, Reply, compose, is_allowed, reply_of
from pombo.domain.reply_window import Allowed, ReplyWindow, reply_window
from pombo.inbox.errors import Collision, InboxError, Missing, conversation_not_found
from pombo.store import channel_jobs, conversations, direct, inbox_events, media, replies, thread
from pombo.store.channel_jobs import NewJob
from pombo.store.conversations import Conversation
from pombo.store.database import Connection
from pombo.store.replies import OwnMessage


@dataclass(frozen=True, slots=True)
class Wish:
    reply: Reply
    last_seen: int | None = None
    """The newest message that the agent's window showed: a colleague's reply after it is a collision, and what the
    contact wrote after it stays unread."""
    force: bool = False
    """Answer all the same."""
    reply_to: int | None = None
    """The message of the thread that it quotes."""
    assigns: bool = True
    """Who answers a conversation of nobody gets it."""


@dataclass(frozen=True, slots=True)
class Sent:
    id: int
    """Of the thread's message."""
    message_id: MessageId | None
    """None while the file that it brings is on its way to Meta."""
    channel_id: ChannelId
    recipient: str


async def reply(
    connection: Connection, workspace_id: WorkspaceId, conversation_id: int, wish: Wish, agent_id: AgentId | None
) -> Sent:
    """Raises Missing, Collision, InboxError, ContentError."""
    conversation = await conversations.lock(connection, workspace_id, conversation_id)
    if conversation is None:
        raise conversation_not_found(conversation_id)
    if wish.last_seen is not None and not wish.force:
        await _look_for_others(connection, workspace_id, conversation, wish.last_seen, agent_id)
    said = await _with_file(connection, workspace_id, wish.reply)
    if wish.reply_to is not None:
        said = replace(said, quoted=await _quoted(connection, workspace_id, conversation, wish.reply_to))
    message_id = await queue(connection, workspace_id, conversation, said)
    added = await replies.add_reply(
        connection,
        workspace_id,
        conversation,
        said,
        agent_id=agent_id,
        message_id=message_id,
    )
    await wait_for_file(connection, workspace_id, conversation, added, said, message_id)
    assignee_id = conversation.assignee_id
    if assignee_id is None and wish.assigns:
        assignee_id = agent_id
    # A program reads nothing.
    unread = conversation.unread
    if agent_id is not None:
        unread = await conversations.unread_after(connection, workspace_id, conversation, wish.last_seen)
        await conversations.set_read(connection, workspace_id, conversation, agent_id, wish.last_seen)
    await replies.note_reply(connection, workspace_id, conversation.id, added, assignee_id, unread)
    await inbox_events.append(
        connection, created=[(workspace_id, added, conversation.id)], conversations=[(workspace_id, conversation.id)]
    )
    return Sent(added, message_id, conversation.channel_id, conversation.recipient)


async def retry(connection: Connection, workspace_id: WorkspaceId, id: int) -> str:
    """Sends a failed reply once more; its message as JSON text. Raises Missing, InboxError, ContentError."""
    locked = await lock_own(connection, workspace_id, id)
    if locked is None:
        raise Missing("message_not_found", f"There is no message {id} in any conversation.")
    found, conversation = locked
    if found.author != "agent" or found.state != "failed":
        raise InboxError("message_not_retryable", "Only a reply that failed can be sent again.")
    said = reply_of(found.text, json.loads(found.content), found.reply_to)
    again = await queue(connection, workspace_id, conversation, said)
    await replies.queue_again(connection, workspace_id, id, again)
    await wait_for_file(connection, workspace_id, conversation, id, said, again)
    await inbox_events.append(connection, updated=[(workspace_id, id)])
    return await thread.show_message(connection, workspace_id, id)


async def lock_own(
    connection: Connection, workspace_id: WorkspaceId, id: int
) -> tuple[OwnMessage, Conversation] | None:
    """A message with its conversation, which is locked first, as everybody does; None if there is no such message."""
    while (conversation_id := await replies.conversation_of(connection, workspace_id, id)) is not None:
        conversation = await conversations.lock(connection, workspace_id, conversation_id)
        # A merge may have moved the message while this waited.
        if conversation is not None and conversation_id == await replies.conversation_of(connection, workspace_id, id):
            found = await replies.lock_message(connection, workspace_id, id)
            return None if found is None else (found, conversation)
    return None


async def add_note(
    connection: Connection, workspace_id: WorkspaceId, conversation_id: int, text: str, agent_id: AgentId | None
) -> str:
    """What colleagues see and the contact does not, as JSON text. Raises Missing."""
    conversation = await conversations.lock(connection, workspace_id, conversation_id)
    if conversation is None:
        raise conversation_not_found(conversation_id)
    added = await thread.add_note(connection, workspace_id, conversation.id, conversation.channel_id, agent_id, text)
    await inbox_events.append(connection, created=[(workspace_id, added, conversation.id)])
    return await thread.show_message(connection, workspace_id, added)


async def queue(
    connection: Connection, workspace_id: WorkspaceId, conversation: Conversation, said: Reply
) -> MessageId | None:
    """None when its file must be uploaded first; what else could be wrong is found out all the same.

    Raises InboxError, ContentError.
    """
    if is_group(conversation.kind, conversation.recipient):
        raise InboxError(
            "group_not_supported", "Pombo shows what is written in WhatsApp groups, but does not answer there."
        )
    window = reply_window(conversation.kind, conversation.last_inbound_at, conversation.now)
    if not is_allowed(conversation.kind, said, window):
        raise InboxError("reply_window_closed", _closed(window), {"allowed": [each.value for each in window.allowed]})
    uploaded = None
    media_id = None if said.attachment is None else said.attachment.media_id
    if media_id is not None:
        uploaded = await media.uploaded(connection, workspace_id, media_id, conversation.channel_id)
    content, variables = compose(conversation.kind, said, window, uploaded)
    if problems := validate_content(conversation.kind, content, by_person=True):
        raise ContentError(problems)
    if media_id is not None and uploaded is None:
        return None
    return await direct.enqueue(
        connection,
        workspace_id=workspace_id,
        channel_id=conversation.channel_id,
        message_class=MessageClass.REPLY,
        recipient=conversation.recipient,
        content=content,
        variables=json.dumps(variables) if variables else None,
    )


async def _with_file(connection: Connection, workspace_id: WorkspaceId, said: Reply) -> Reply:
    """With the file's name and type, where one of ours is attached. Raises Missing."""
    if said.attachment is None or said.attachment.media_id is None:
        return said
    found = await media.get_media(connection, workspace_id, said.attachment.media_id)
    if found is None or found.state != "stored":
        raise Missing("media_not_found", f"There is no file {said.attachment.media_id}; POST /api/media brings one.")
    name = said.attachment.file_name or found.file_name
    attachment = Attachment(AttachmentType.of(found.content_type), None, found.id, name)
    return replace(said, attachment=attachment)


async def _quoted(connection: Connection, workspace_id: WorkspaceId, conversation: Conversation, id: int) -> str:
    """What Meta calls the message. Raises Missing, InboxError."""
    found = await thread.quotable(connection, workspace_id, conversation.id, id)
    if found is None:
        raise Missing("message_not_found", f"There is no message {id} in this conversation.")
    if found.provider_id is None:
        raise InboxError("message_not_quotable", "Only what the contact has written or received can be quoted.")
    return found.provider_id


async def wait_for_file(
    connection: Connection,
    workspace_id: WorkspaceId,
    conversation: Conversation,
    id: int,
    said: Reply,
    message_id: MessageId | None,
) -> None:
    """Has the file uploaded, where there is no message of the outbox yet because of it."""
    if message_id is not None:
        return
    assert said.attachment is not None
    media_id = said.attachment.media_id
    assert media_id is not None
    key = f"upload {media_id} {conversation.channel_id}"
    job = NewJob(workspace_id, conversation.channel_id, "upload", json.dumps({"mediaId": media_id}), key)
    await channel_jobs.add(connection, [job])
    await replies.wait_for_upload(connection, workspace_id, id, conversation.channel_id, media_id)


def _closed(window: ReplyWindow) -> str:
    why = "The contact last wrote more than 24 hours ago" if window.closes_at is not None else "The contact never wrote"
    if Allowed.TEMPLATE in window.allowed:
        return f"{why}, so WhatsApp takes a template only."
    if Allowed.HUMAN_AGENT in window.allowed:
        return f"{why}; within seven days Messenger takes what a person wrote: say so with 'humanAgent'."
    return f"{why}, so Messenger takes nothing until the contact writes again, but for approved utility templates."


async def _look_for_others(
    connection: Connection,
    workspace_id: WorkspaceId,
    conversation: Conversation,
    last_seen: int,
    agent_id: AgentId | None,
) -> None:
    other = await replies.answered_since(connection, workspace_id, conversation.id, last_seen, agent_id)
    if other is not None:
        shown = json.loads(await thread.show_message(connection, workspace_id, other.id))
        sentence = "Somebody else has answered meanwhile; read it, and send with 'force' to answer all the same."
        raise Collision("answered_meanwhile", sentence, shown)
