"""Campaigns: what to send, and from which channels."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from pombo.domain.content import Content
from pombo.domain.ids import CampaignId, ChannelId, WorkspaceId
from pombo.store.database import Connection

_COLUMNS = "workspace_id, id, name, content, channel_ids, created_at"
_decode_content = msgspec.json.Decoder(Content).decode


@dataclass(frozen=True, slots=True)
class Campaign:
    workspace_id: WorkspaceId
    id: CampaignId
    name: str
    content: Content | None
    """None until the first send brings it."""
    channel_ids: list[ChannelId]
    created_at: datetime


async def create_campaign(
    connection: Connection, workspace_id: WorkspaceId, name: str, content: Content | None, channel_ids: list[ChannelId]
) -> Campaign:
    row = await connection.fetchrow(
        f"""INSERT INTO campaigns (workspace_id, name, content, channel_ids) VALUES ($1, $2, $3, $4)
            RETURNING {_COLUMNS}""",
        workspace_id,
        name,
        None if content is None else encode_content(content),
        channel_ids,
    )
    return _campaign(row)


async def get_campaign(connection: Connection, workspace_id: WorkspaceId, campaign_id: CampaignId) -> Campaign | None:
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM campaigns WHERE workspace_id = $1 AND id = $2", workspace_id, campaign_id
    )
    return None if row is None else _campaign(row)


async def list_campaigns(
    connection: Connection, workspace_id: WorkspaceId, before: CampaignId | None, limit: int
) -> list[Campaign]:
    """Newest first; `before` is the last id of the page seen."""
    rows = await connection.fetch(
        f"""SELECT {_COLUMNS} FROM campaigns WHERE workspace_id = $1 AND ($2::bigint IS NULL OR id < $2)
            ORDER BY id DESC LIMIT $3""",
        workspace_id,
        before,
        limit,
    )
    return [_campaign(row) for row in rows]


async def adopt_content(
    connection: Connection, workspace_id: WorkspaceId, campaign_id: CampaignId, content: Content
) -> None:
    """A campaign made without content keeps that of its first send."""
    await connection.execute(
        "UPDATE campaigns SET content = $3 WHERE workspace_id = $1 AND id = $2 AND content IS NULL",
        workspace_id,
        campaign_id,
        encode_content(content),
    )


def encode_content(content: Content) -> str:
    """The JSON stored in `campaigns.content` and `runs.content`."""
    return msgspec.json.encode(content).decode()


def _campaign(row: Any) -> Campaign:
    values = dict(row)
    if values["content"] is not None:
        values["content"] = _decode_content(values["content"])
    return Campaign(**values)
