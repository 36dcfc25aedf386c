"""What the inbox answers. The JSON is made by the database (`pombo.store.inbox_events`), for answers and events alike;
these shapes only describe it in the OpenAPI document, and a test holds it to them."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field
from starlette.responses import Response

from pombo.api.shapes import Shape
from pombo.domain.reply_window import Allowed


class ContactShape(Shape):
    id: int
    external_id: str = Field(description="A phone number, a business-scoped user id, or a page-scoped id.")
    name: str | None
    profile: dict[str, Any]
    opted_out_at: datetime | None


class ConversationShape(Shape):
    id: int
    version: int = Field(description="Rises with every change; keep the row with the higher one.")
    channel_id: int
    contact: ContactShape
    status: Literal["open", "snoozed", "closed"]
    snoozed_until: datetime | None
    assignee_id: int | None
    label_ids: list[int]
    unread: int = Field(description="Messages of the contact that no agent has read.")
    last_message_at: datetime
    last_inbound_at: datetime | None
    last_inbound_id: int = Field(
        description="The `id` of the contact's last message to come, whatever its `at`; a channel's past is left out."
    )
    preview: str
    created_at: datetime
    reads: dict[str, int] = Field(
        description="By agent: up to which `id` of the contact's messages the agent has read. One that is not here has "
        "read up to its own `seenUntil`. Unread for an agent is what has a greater `lastInboundId`."
    )


class MessageError(Shape):
    code: int | None
    title: str | None


class MessageMedia(Shape):
    id: int = Field(description="`GET /api/media/{id}`.")
    place: int = Field(description="Among the attachments of `content`.")
    state: Literal["wanted", "stored", "failed"]
    size: int | None
    content_type: str | None
    file_name: str | None


class ConversationMessageShape(Shape):
    id: int
    version: int
    conversation_id: int
    channel_id: int
    direction: Literal["in", "out"]
    author: Literal["contact", "agent", "campaign", "app", "system"]
    agent_id: int | None
    run_id: int | None
    message_id: int | None = Field(description="Of what Pombo sent: its number in the outbox and the delivery log.")
    provider_id: str | None = Field(description="Meta's id.")
    kind: str = Field(description="text, image, note, template …")
    text: str | None
    media: list[MessageMedia] = Field(description="Files that came with it.")
    content: dict[str, Any]
    reply_to: str | None = Field(description="Meta's id of the message that this one answers.")
    reactions: dict[str, Any]
    edited_at: datetime | None
    revoked_at: datetime | None
    state: Literal["queued", "accepted", "delivered", "read", "failed", "uncertain"] | None
    error: MessageError | None
    at: datetime


class WindowShape(Shape):
    """What may be sent to the contact now."""

    open: bool
    closes_at: datetime | None = Field(description="Null when the contact never wrote.")
    allowed: list[Allowed]


def raw(json_text: str, status: int = 200) -> Response:
    return Response(json_text, status, media_type="application/json")


def raw_list(name: str, rows: list[str], status: int = 200, **more: str) -> Response:
    """`more` are JSON texts by name."""
    members = [f'"{name}":[{",".join(rows)}]', *(f'"{key}":{value}' for key, value in more.items())]
    return raw("{" + ",".join(members) + "}", status)
