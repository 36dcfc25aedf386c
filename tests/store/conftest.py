"""A workspace with one channel, for tests that need no sandbox."""

from typing import NamedTuple

import pytest

from pombo.domain.ids import ChannelId, WorkspaceId
from pombo.store.database import Database
from pombo.store.secrets import SecretBox
from tests.sandbox_server import AppHandle, ChannelHandle
from tests.seeding import add_channel, add_workspace


class Tenant(NamedTuple):
    workspace_id: WorkspaceId
    channel_id: ChannelId


@pytest.fixture
async def tenant(database: Database, box: SecretBox) -> Tenant:
    workspace_id = await add_workspace(database)
    page = ChannelHandle("messenger", "4001", "a-token", AppHandle("1", "an-app-secret", "verify"))
    return Tenant(workspace_id, await add_channel(database, box, workspace_id, page))


def sent_under(ids: list[int], attempts: int = 0) -> list[tuple[int, int, int]]:
    """These messages as `store_intents` takes them, of one lease."""
    return [(message_id, 1, attempts) for message_id in ids]
