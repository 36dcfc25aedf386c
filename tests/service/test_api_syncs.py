"""Reading a Page's past, and showing it typing, over HTTP."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pombo.api.syncs import SyncList, SyncShape
from pombo.store.database import Database
from pombo.store.secrets import SecretBox
from tests.api_client import Api, running_api
from tests.conversations import add_conversation


@pytest.fixture
async def api(database: Database, box: SecretBox) -> AsyncIterator[Api]:
    async with running_api(database, box) as running:
        yield running


async def jobs(api: Api) -> list[Any]:
    async with api.database.borrow() as connection:
        rows = await connection.fetch("SELECT channel_id, kind, payload FROM channel_jobs ORDER BY id")
    return [(row["channel_id"], row["kind"], json.loads(row["payload"])) for row in rows]


async def test_the_five_latest_threads_of_every_page_are_asked_for(api: Api) -> None:
    answer = await api.http.post("/api/sync-conversations")
    assert answer.status_code == 202
    [sync] = SyncList.model_validate_json(answer.text).syncs
    assert (sync.channel_id, sync.wanted, sync.state, sync.threads) == (api.account.page, 5, "running", 0)
    [(channel, kind, payload)] = await jobs(api)
    assert (channel, kind, payload["limit"]) == (api.account.page, "conversations", 5)


async def test_one_sync_of_a_channel_runs_at_a_time_and_may_be_asked_for_more(api: Api) -> None:
    first = (await api.http.post("/api/sync-conversations")).json()["syncs"][0]
    again = (await api.http.post("/api/sync-full-history", json={"threads": 200})).json()["syncs"][0]
    assert again["id"] == first["id"]
    assert again["wanted"] == 200
    assert len(await jobs(api)) == 1
    everything = (await api.http.post("/api/sync-full-history", json={"threads": None})).json()["syncs"][0]
    assert everything["wanted"] == 2**31 - 1


async def test_a_sync_is_shown_and_cancelled(api: Api) -> None:
    sync_id = (await api.http.post("/api/sync-full-history")).json()["syncs"][0]["id"]
    shown = SyncShape.model_validate_json((await api.http.get(f"/api/sync/{sync_id}")).text)
    assert shown.wanted == 50
    cancelled = (await api.http.post(f"/api/sync/{sync_id}/cancel")).json()
    assert (cancelled["state"], cancelled["version"]) == ("cancelled", shown.version + 1)
    listed = (await api.http.get("/api/sync")).json()["syncs"]
    assert [(each["id"], each["state"]) for each in listed] == [(sync_id, "cancelled")]


async def test_whatsapp_has_no_history_and_unknown_ones_are_refused_with_nothing_started(api: Api) -> None:
    for wanted, code in ((api.account.number, "history_unavailable"), (99, "channel_not_found")):
        answer = await api.http.post("/api/sync-conversations", json={"channelIds": [api.account.page, wanted]})
        assert api.error(answer)["code"] == code
    assert await jobs(api) == []
    assert api.error(await api.http.get("/api/sync/99"))["code"] == "sync_not_found"


async def test_typing_and_seen_are_asked_for_the_contact_of_a_conversation(api: Api) -> None:
    workspace = api.account.workspace_id
    on_page = await add_conversation(api.database, workspace, api.account.page, "24012345678901", ("Hi",))
    on_number = await add_conversation(api.database, workspace, api.account.number, "+5511987654321", ("Hi",))
    for conversation_id in (on_page, on_number):
        for _ in range(2):
            answer = await api.http.post(f"/api/conversations/{conversation_id}/actions", json={"action": "typing_on"})
            assert answer.status_code == 202
    found = await jobs(api)
    assert [(channel, payload["action"], payload["recipient"]) for channel, _, payload in found] == [
        (api.account.page, "typing_on", "24012345678901"),
        (api.account.number, "typing_on", "+5511987654321"),
    ]
    assert found[1][2]["messageId"]
    refused = await api.http.post(f"/api/conversations/{on_number}/actions", json={"action": "typing_off"})
    assert api.error(refused)["code"] == "action_unavailable"
    unknown = await api.http.post("/api/conversations/999/actions", json={"action": "mark_seen"})
    assert api.error(unknown)["code"] == "conversation_not_found"
