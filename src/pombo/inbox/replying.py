"""An agent answers: the thread's message, the message that is sent, and the events, in one transaction.

The reply leaves ahead of all campaigns (class reply). Its state in the thread follows by `pombo.inbox.following`.
"""

import json
from dataclasses import dataclass

from pombo.domain.classes import MessageClass
from pombo.domain.content import ContentError
from pombo.domain.content_rules import validate_content
from pombo.domain.ids import AgentId, ChannelId, MessageId, WorkspaceId
from pombo.domain.replies import Reply, compose, is_allowed, reply_of
from pombo.domain.reply_window import Allowed, ReplyWindow, reply_window
from pombo.inbox.errors import Collision, InboxError, Missing, conversation_not_found
from pombo.store import conversations, direct, inbox_events, replies, thread
from pombo.store.conversations import Conversation
from pombo.store.database import Connection


@dataclass(frozen=True, slots=True)
class Wish:
    reply: Reply
    last_seen: int | None = None
    """The newest message that the agent's window showed: a colleague's reply after it is a collision."""
    force: bool = False
    """Answer all the same."""
    reply_to: str | None = None
    assigns: bool = True
    """Who answers a conversation of nobody gets it."""


@dataclass(frozen=True, slots=True)
class Sent:
    id: int
    """Of the thread's message."""
    message_id: MessageId
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
    message_id = await _queue(connection, workspace_id, conversation, wish.reply)
    added = await replies.add_reply(
        connection,
        workspace_id,
        conversation,
        agent_id=agent_id,
        message_id=message_id,
        kind=wish.reply.kind,
        text=wish.reply.shown_text,
        content=json.dumps(wish.reply.kept()),
        reply_to=wish.reply_to,
    )
    assignee_id = conversation.assignee_id
    if assignee_id is None and wish.assigns:
        assignee_id = agent_id
    await replies.note_reply(connection, workspace_id, conversation.id, added, assignee_id)
    if agent_id is not None:
        await conversations.set_read(connection, workspace_id, conversation, agent_id, read=True)
    await inbox_events.messages_created(connection, [(workspace_id, added)])
    await inbox_events.conversations_updated(connection, [(workspace_id, conversation.id)])
    return Sent(added, message_id, conversation.channel_id, conversation.recipient)


async def retry(connection: Connection, workspace_id: WorkspaceId, id: int) -> str:
    """Sends a failed reply once more; its message as JSON text. Raises Missing, InboxError, ContentError."""
    found = await replies.lock_message(connection, workspace_id, id)
    if found is None:
        raise Missing("message_not_found", f"There is no message {id} in any conversation.")
    if found.author != "agent" or found.state != "failed":
        raise InboxError("message_not_retryable", "Only a reply that failed can be sent again.")
    conversation = await conversations.lock(connection, workspace_id, found.conversation_id)
    assert conversation is not None  # its messages go with it
    again = await _queue(connection, workspace_id, conversation, reply_of(found.text, json.loads(found.content)))
    await replies.queue_again(connection, workspace_id, id, again)
    await inbox_events.messages_updated(connection, [(workspace_id, id)])
    return await thread.show_message(connection, workspace_id, id)


async def add_note(
    connection: Connection, workspace_id: WorkspaceId, conversation_id: int, text: str, agent_id: AgentId | None
) -> str:
    """What colleagues see and the contact does not, as JSON text. Raises Missing."""
    conversation = await conversations.lock(connection, workspace_id, conversation_id)
    if conversation is None:
        raise conversation_not_found(conversation_id)
    added = await thread.add_note(connection, workspace_id, conversation.id, conversation.channel_id, agent_id, text)
    await inbox_events.messages_created(connection, [(workspace_id, added)])
    return await thread.show_message(connection, workspace_id, added)


async def _queue(
    connection: Connection, workspace_id: WorkspaceId, conversation: Conversation, said: Reply
) -> MessageId:
    window = reply_window(conversation.kind, conversation.last_inbound_at, conversation.now)
    if not is_allowed(conversation.kind, said, window):
        raise InboxError("reply_window_closed", _closed(window), {"allowed": [each.value for each in window.allowed]})
    content, variables = compose(conversation.kind, said, window)
    if problems := validate_content(conversation.kind, content, by_person=True):
        raise ContentError(problems)
    return await direct.enqueue(
        connection,
        workspace_id=workspace_id,
        channel_id=conversation.channel_id,
        message_class=MessageClass.REPLY,
        recipient=conversation.recipient,
        content=content,
        variables=json.dumps(variables) if variables else None,
    )


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
