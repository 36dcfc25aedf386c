"""Status, assignee, labels, read, snooze: what `PATCH /api/conversations/{id}` changes."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pombo.domain.ids import AgentId, WorkspaceId
from pombo.inbox.errors import Collision, InboxError, Missing, conversation_not_found
from pombo.store import agents, conversations, inbox_events, labels
from pombo.store.conversations import Conversation
from pombo.store.database import Connection

_AS_IT_IS: Literal["as it is"] = "as it is"


@dataclass(frozen=True, slots=True)
class Change:
    """What is left out stays as it is."""

    status: Literal["open", "snoozed", "closed"] | None = None
    snoozed_until: datetime | None = None
    """Snoozes until then; a duty opens the conversation again."""
    assignee_id: int | Literal["as it is"] | None = _AS_IT_IS
    label_ids: tuple[int, ...] | None = None
    read: bool | None = None
    """By the agent who asks: up to the contact's last message, or not even that one."""
    read_until: int | None = None
    """Read up to this message only, the last that the agent's window showed."""


async def change(
    connection: Connection,
    workspace_id: WorkspaceId,
    conversation_id: int,
    wanted: Change,
    *,
    agent_id: AgentId | None,
    expected_version: int | None = None,
) -> str:
    """The conversation as it is then, as JSON text. Nothing is told to anybody when nothing changes.

    Raises Missing, InboxError, or Collision when the version is another than expected.
    """
    before = await conversations.lock(connection, workspace_id, conversation_id)
    if before is None:
        raise conversation_not_found(conversation_id)
    if expected_version is not None and before.version != expected_version:
        (shown,) = await conversations.show(connection, workspace_id, [before.id])
        sentence = "The conversation was changed meanwhile; look at what it is now, and ask again."
        raise Collision("conversation_changed", sentence, json.loads(shown))
    after = await _changed(connection, workspace_id, before, wanted)
    read_anew = False
    if wanted.read and agent_id is not None:
        read_anew = await conversations.set_read(connection, workspace_id, before, agent_id, wanted.read_until)
    elif wanted.read is False and agent_id is not None:
        read_anew = await conversations.set_unread(connection, workspace_id, before, agent_id)
    if after != before or read_anew:
        await conversations.save(connection, workspace_id, after)
        await inbox_events.append(connection, conversations=[(workspace_id, before.id)])
    (shown,) = await conversations.show(connection, workspace_id, [before.id])
    return shown


async def _changed(
    connection: Connection, workspace_id: WorkspaceId, before: Conversation, wanted: Change
) -> Conversation:
    after = before
    if wanted.snoozed_until is not None:
        if wanted.status not in (None, "snoozed"):
            raise InboxError("validation_failed", "'snoozedUntil' goes with the status snoozed alone.")
        after = after._replace(status="snoozed", snoozed_until=wanted.snoozed_until)
    elif wanted.status == "snoozed":
        if before.status != "snoozed":
            raise InboxError("validation_failed", "To snooze a conversation say 'snoozedUntil'.")
    elif wanted.status is not None:
        after = after._replace(status=wanted.status, snoozed_until=None)
    if wanted.assignee_id is None:
        after = after._replace(assignee_id=None)
    elif not isinstance(wanted.assignee_id, str):
        if await agents.get_agent(connection, workspace_id, wanted.assignee_id) is None:
            raise Missing("agent_not_found", f"There is no agent {wanted.assignee_id}; GET /api/agents lists them.")
        after = after._replace(assignee_id=AgentId(wanted.assignee_id))
    if wanted.label_ids is not None:
        label_ids = sorted(set(wanted.label_ids))
        if unknown := await labels.unknown_labels(connection, workspace_id, label_ids):
            raise Missing("label_not_found", f"There is no label {unknown[0]}; GET /api/labels lists them.")
        after = after._replace(label_ids=label_ids)
    if wanted.read_until is not None and not wanted.read:
        raise InboxError("validation_failed", "'readUntil' goes with 'read': true alone.")
    if wanted.read:
        unread = await conversations.unread_after(connection, workspace_id, before, wanted.read_until)
        after = after._replace(unread=unread)
    elif wanted.read is False and before.last_inbound_at is not None:
        after = after._replace(unread=max(before.unread, 1))
    return after
