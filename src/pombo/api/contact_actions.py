"""`POST /api/conversations/{id}/actions`: typing and seen, shown to the customer."""

import json
from typing import Literal

from fastapi import APIRouter
from starlette.responses import Response

from pombo.api.errors import ApiError
from pombo.api.shapes import Given, Id, RequestShape, Workspace
from pombo.domain.channels import ChannelKind
from pombo.inbox.errors import conversation_not_found
from pombo.store import channel_jobs, contact_actions
from pombo.store.channel_jobs import NewJob

router = APIRouter(prefix="/api/conversations", tags=["inbox"])

# Meta shows typing for some 20 s; later it would be a lie.
_WORTH_S = 15.0


class ContactAction(RequestShape):
    action: Literal["typing_on", "typing_off", "mark_seen"]


@router.post("/{conversation_id}/actions", status_code=202, response_class=Response)
async def act(conversation_id: Id, wanted: ContactAction, workspace: Workspace, given: Given) -> Response:
    """Sent within a moment or not at all. WhatsApp has no `typing_off`, and marks as read what it shows typing for."""
    async with given.database.tenant(workspace) as connection:
        target = await contact_actions.find_target(connection, workspace, conversation_id)
        if target is None:
            raise conversation_not_found(conversation_id)
        if target.kind is ChannelKind.WHATSAPP and (target.last_inbound is None or wanted.action == "typing_off"):
            raise ApiError("action_unavailable", "WhatsApp shows typing and reading for a message of the contact only.")
        payload = {"action": wanted.action, "recipient": target.recipient, "messageId": target.last_inbound}
        key = f"action {conversation_id} {wanted.action}"
        job = NewJob(workspace, target.channel_id, "sender_action", json.dumps(payload), key, _WORTH_S)
        await channel_jobs.add(connection, [job])
    return Response(status_code=202)
