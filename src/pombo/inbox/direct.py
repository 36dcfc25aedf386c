"""Messages to one recipient that are no reply in a conversation: a confirmation, what a program sends.

They are shown in the recipient's conversation, which the first of them begins, so that agents see all that the contact
was sent, and an agent can write first.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pombo.domain.classes import MessageClass
from pombo.domain.content import Content, RenderError, Text
from pombo.domain.ids import AgentId, ChannelId, ConversationId, MessageId, WorkspaceId
from pombo.domain.liquid import compile_text
from pombo.domain.replies import Reply
from pombo.store import (
    contact_profiles,
    conversations,
    direct,
    inbox_events,
    inbox_people,
    inbox_threads,
    preferences,
    replies,
)
from pombo.store.conversations import Conversation
from pombo.store.database import Connection
from pombo.store.inbox_identities import Sighting


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
    assigns: bool = True,
) -> tuple[MessageId, ConversationId, int]:
    """Queues it. Returns its id, and where it is shown: the conversation and the thread's message.

    An agent opens the conversation, and has it if it is nobody's, as with a reply; unless not `assigns`.
    """
    conversation = await conversations.lock_of(connection, workspace_id, channel_id, recipient)
    if conversation is None:
        conversation = await _begin(connection, workspace_id, channel_id, recipient, agent_id)
    if agent_id is not None:
        opened = conversation._replace(status="open", snoozed_until=None)
        if assigns and opened.assignee_id is None:
            opened = opened._replace(assignee_id=agent_id)
        if opened != conversation:
            await conversations.save(connection, workspace_id, opened)
    message_id = await direct.enqueue(
        connection,
        workspace_id=workspace_id,
        channel_id=channel_id,
        message_class=message_class,
        recipient=recipient,
        content=content,
        variables=json.dumps(variables) if variables else None,
    )
    said = Reply(_rendered(content, variables or {})) if isinstance(content, Text) else Reply(content=content)
    added = await replies.add_reply(
        connection,
        workspace_id,
        conversation,
        said,
        agent_id=agent_id,
        message_id=message_id,
        author="app" if agent_id is None else "agent",
    )
    # It answers nobody: who is unread stays so, and what is closed unless an agent has opened it.
    await inbox_threads.touch(connection, [(workspace_id, conversation.id)])
    await inbox_events.append(
        connection, created=[(workspace_id, added, conversation.id)], conversations=[(workspace_id, conversation.id)]
    )
    return message_id, conversation.id, added


async def _begin(
    connection: Connection,
    workspace_id: WorkspaceId,
    channel_id: ChannelId,
    recipient: str,
    agent_id: AgentId | None,
) -> Conversation:
    """A conversation with whoever has this address, closed if it is new; locked.

    Somebody who writes at this moment may have begun it.
    """
    await inbox_people.lock_channels(connection, [(workspace_id, channel_id)])
    sighting = Sighting(workspace_id, channel_id, datetime.now(UTC), {recipient: None})
    people = await inbox_people.resolve(connection, [sighting])
    await preferences.suppress(connection, people.changed)
    [contact_id] = people.contacts
    contact = [(workspace_id, channel_id, contact_id)]
    found = await inbox_threads.find_conversations(connection, contact)
    ids = found or await inbox_threads.open_conversations(connection, contact)
    conversation = await conversations.lock(connection, workspace_id, ids[workspace_id, contact_id])
    assert conversation is not None  # only who holds the channel's lock takes one away
    if not found:
        if agent_id is not None:
            # Programs write to thousands, of whom those will have names who answer.
            await contact_profiles.want(connection, [(workspace_id, contact_id)])
        conversation = conversation._replace(status="closed")
        await conversations.save(connection, workspace_id, conversation)
    return conversation


def _rendered(content: Text, variables: Mapping[str, Any]) -> str:
    try:
        return compile_text(content.text).render(variables)
    except RenderError:
        # The message fails for the same reason, which the thread will show.
        return content.text
