"""Messages to one recipient that are no reply in a conversation: a confirmation, what a program sends.

Where the contact has a conversation they are shown in it, so that agents see all that the contact was sent.
"""

import json
from collections.abc import Mapping
from typing import Any

from pombo.domain.classes import MessageClass
from pombo.domain.content import Content, RenderError, Text
from pombo.domain.ids import AgentId, ChannelId, MessageId, WorkspaceId
from pombo.domain.liquid import compile_text
from pombo.domain.replies import Reply
from pombo.store import conversations, direct, inbox_events, inbox_threads, replies
from pombo.store.database import Connection


async def send(
    connection: Connection,
    workspace_id: WorkspaceId,
    channel_id: ChannelId,
    recipient: str,
    content: Content,
    *,
    message_class: MessageClass,
    variables: Mapping[str, Any] | None = None,
    agent_id: AgentId | None = None,
) -> tuple[MessageId, int | None, int | None]:
    """Queues it. Returns its id, and where it is shown: the conversation and the thread's message."""
    conversation = await conversations.lock_of(connection, workspace_id, channel_id, recipient)
    message_id = await direct.enqueue(
        connection,
        workspace_id=workspace_id,
        channel_id=channel_id,
        message_class=message_class,
        recipient=recipient,
        content=content,
        variables=json.dumps(variables) if variables else None,
    )
    if conversation is None:
        return message_id, None, None
    said = Reply(_rendered(content, variables or {})) if isinstance(content, Text) else Reply(content=content)
    added = await replies.add_reply(
        connection,
        workspace_id,
        conversation,
        agent_id=agent_id,
        message_id=message_id,
        kind=said.kind,
        text=said.shown_text,
        content=json.dumps(said.kept()),
        reply_to=None,
        author="app" if agent_id is None else "agent",
    )
    # It answers nobody: who is unread stays so, and what is closed.
    await inbox_threads.touch(connection, {(workspace_id, conversation.id): 0})
    await inbox_events.messages_created(connection, [(workspace_id, added)])
    await inbox_events.conversations_updated(connection, [(workspace_id, conversation.id)])
    return message_id, conversation.id, added


def _rendered(content: Text, variables: Mapping[str, Any]) -> str:
    try:
        return compile_text(content.text).render(variables)
    except RenderError:
        # The message fails for the same reason, which the thread will show.
        return content.text
