"""Identifiers. All are database integers; the types keep one from standing where another belongs."""

from typing import NewType

WorkspaceId = NewType("WorkspaceId", int)
AppId = NewType("AppId", int)
ChannelId = NewType("ChannelId", int)
ContactId = NewType("ContactId", int)
CampaignId = NewType("CampaignId", int)
RunId = NewType("RunId", int)
MessageId = NewType("MessageId", int)
ConversationId = NewType("ConversationId", int)
AgentId = NewType("AgentId", int)
WorkerId = NewType("WorkerId", int)
