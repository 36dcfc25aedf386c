"""The webhook log through the API: found by what is in it, and applied once more."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pombo.ingest.ingester import Ingester
from pombo.store import webhooks
from pombo.store.database import Database
from pombo.store.secrets import SecretBox
from pombo.store.webhooks import SignedWebhook
from tests.api_client import Api, running_api
from tests.locks import blocked_by

PAGE = b'{"object":"page","entry":[{"id":"4001","messaging":[{"sender":{"id":"7"},"recipient":{"id":"4001"},'
PAGE += b'"timestamp":1458692752478,"message":{"mid":"m_1","text":"gr\\u00fc\\u00df Gott"}}]}]}'
NUMBER = b'{"entry": [{"id": "9", "changes": [{"field": "account_alerts", "value": {}}], "time": 1750030073}],'
NUMBER += b' "object": "whatsapp_business_account"}'
BROKEN = b"{broken \xff"


@pytest.fixture
async def api(database: Database, box: SecretBox) -> AsyncIterator[Api]:
    async with running_api(database, box) as running:
        async with database.borrow() as connection:
            app_id = await connection.fetchval("SELECT id FROM meta_apps")
            for body in (PAGE, NUMBER, BROKEN):
                await webhooks.append(connection, [SignedWebhook(running.account.workspace_id, app_id, body)])
        yield running


async def get(api: Api, path: str = "", **query: Any) -> dict[str, Any]:
    answer = await api.http.get(f"/api/webhooks{path}", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def bodies(api: Api, **query: Any) -> list[Any]:
    """Of all pages, oldest first."""
    found: list[int] = []
    page = await get(api, limit=1, **query)
    while True:
        found += [one["id"] for one in page["webhooks"]]
        if page["nextBefore"] is None:
            break
        page = await get(api, limit=1, before=page["nextBefore"], **query)
    details = [await get(api, f"/{one}") for one in sorted(found)]
    return [
        "page" if d["body"] == {} else (d["body"]["object"] if isinstance(d["body"], dict) else d["body"])
        for d in details
    ]


ACCOUNT, TEXT = "whatsapp_business_account", "{broken \ufffd"


async def test_it_is_filtered_by_time_kind_channel_status_and_text(api: Api) -> None:
    await Ingester(api.database).run_once()
    now = datetime.now(UTC)
    assert await bodies(api) == ["page", ACCOUNT, TEXT]
    assert await bodies(api, kind="messenger") == ["page"]
    assert await bodies(api, kind="whatsapp") == [ACCOUNT]
    assert await bodies(api, channel="4001") == ["page"]
    assert await bodies(api, q="grüß Gott") == ["page"]
    assert await bodies(api, q="nowhere") == []
    assert await bodies(api, status="applied") == ["page", ACCOUNT]
    assert await bodies(api, status="failed") == [TEXT]
    assert await bodies(api, status="queued") == []
    assert await bodies(api, since=(now + timedelta(hours=1)).isoformat()) == []
    assert await bodies(
        api,
        until=(now + timedelta(hours=1)).isoformat(),
        since=(now - timedelta(hours=1)).isoformat(),
        kind="messenger",
    ) == ["page"]


async def test_one_shows_its_body_and_what_is_read_in_it(api: Api) -> None:
    oldest = (await get(api))["webhooks"][-1]
    assert (oldest["status"], oldest["size"], oldest["attempts"], oldest["error"]) == ("queued", len(PAGE), 0, None)
    detail = await get(api, f"/{oldest['id']}")
    assert detail["body"]["entry"][0]["messaging"][0]["message"]["text"] == "grüß Gott"
    assert detail["events"] == [{"type": "ThreadMessage", "channel": "4001", "name": None}]


async def test_a_failed_one_is_applied_once_more_alone_or_with_all_others(api: Api) -> None:
    await Ingester(api.database).run_once()
    [failed] = (await get(api, status="failed"))["webhooks"]
    assert failed["attempts"] == 1
    assert "WebhookFormatError" in failed["error"]

    for path, body in (
        (f"/{failed['id']}/replay", None),
        ("/replay", {"status": "failed"}),
        ("/replay", {"ids": [failed["id"], 99]}),
    ):
        answer = await api.http.post(f"/api/webhooks{path}", json=body)
        assert answer.status_code == 202, answer.text
        assert answer.json() == {"replayed": 1, "skipped": 1 if body and "ids" in body else 0}
        assert (await get(api, f"/{failed['id']}"))["status"] == "queued"
        await Ingester(api.database).run_once()
        assert (await get(api, f"/{failed['id']}"))["status"] == "failed"


async def test_a_replay_waits_for_the_ingester_that_has_the_webhook_in_hand(api: Api, database: Database) -> None:
    async with database.transaction() as queue:
        taken = (await webhooks.take(queue, 10, 10_000)).webhooks
        asking = asyncio.create_task(api.http.post(f"/api/webhooks/{taken[0].id}/replay"))
        async with database.borrow() as watching:
            await blocked_by(watching, queue)
        await webhooks.finish(queue, taken)
    assert (await asking).status_code == 202
    assert (await get(api, f"/{taken[0].id}"))["status"] == "queued"


@pytest.mark.parametrize(
    "body", [{}, {"ids": []}, {"status": "applied"}, {"ids": [1], "status": "failed"}, {"ids": ["x"]}]
)
async def test_what_is_to_be_replayed_must_be_said(api: Api, body: dict[str, Any]) -> None:
    answer = await api.http.post("/api/webhooks/replay", json=body)
    assert answer.status_code == 422
    assert api.error(answer)["code"] == "validation_failed"


async def test_what_the_log_does_not_hold_is_not_found(api: Api) -> None:
    for answer in (await api.http.get("/api/webhooks/999"), await api.http.post("/api/webhooks/999/replay")):
        assert answer.status_code == 404
        assert api.error(answer)["code"] == "webhook_not_found"
