"""Who gets in, and how the API answers whatever goes wrong."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import httpx
import pytest

from pombo.access.keys import ApiKeys
from pombo.api.health import Pulse
from pombo.api.webhooks import PATHS
from pombo.store.database import Database
from pombo.store.secrets import SecretBox
from tests.api_client import WORKER_SECRET, Api, running_api


@pytest.fixture
async def api(database: Database, box: SecretBox) -> AsyncIterator[Api]:
    async with running_api(database, box) as running:
        yield running


_EVERYTHING = [
    ("POST", "/api/campaigns"),
    ("GET", "/api/campaigns"),
    ("GET", "/api/campaigns/1"),
    ("POST", "/api/campaigns/send"),
    ("GET", "/api/runs/1"),
    ("GET", "/api/runs/1/rejects"),
    ("GET", "/api/runs/1/deliveries"),
    ("GET", "/api/doubts/sent-twice"),
    ("POST", "/api/runs/1/pause"),
    ("POST", "/api/runs/1/resume"),
    ("POST", "/api/runs/1/cancel"),
    ("GET", "/api/panic"),
    ("POST", "/api/panic"),
    ("POST", "/api/panic/release"),
    ("GET", "/api/doubts"),
    ("POST", "/api/doubts/resolve"),
    ("GET", "/api/webhooks"),
    ("GET", "/api/webhooks/1"),
    ("POST", "/api/webhooks/1/replay"),
    ("POST", "/api/webhooks/replay"),
    ("POST", "/api/send-message"),
    ("GET", "/api/suppressions"),
    ("POST", "/api/suppressions"),
    ("DELETE", "/api/suppressions/1/1"),
    ("GET", "/api/channels"),
    ("POST", "/api/channels/1/start"),
    ("GET", "/api/messages/1"),
    ("POST", "/api/messages/1/retry"),
    ("GET", "/api/conversations"),
    ("GET", "/api/conversations/count"),
    ("GET", "/api/conversations/1"),
    ("PATCH", "/api/conversations/1"),
    ("POST", "/api/conversations/1/actions"),
    ("POST", "/api/conversations/1/notes"),
    ("GET", "/api/labels"),
    ("POST", "/api/labels"),
    ("PATCH", "/api/labels/1"),
    ("DELETE", "/api/labels/1"),
    ("GET", "/api/canned-replies"),
    ("POST", "/api/canned-replies"),
    ("PATCH", "/api/canned-replies/1"),
    ("GET", "/api/canned-replies/1/text"),
    ("DELETE", "/api/canned-replies/1"),
    ("GET", "/api/agents"),
    ("POST", "/api/media"),
    ("GET", "/api/media/1"),
    ("POST", "/api/media/1/retry"),
    ("POST", "/api/sync-conversations"),
    ("POST", "/api/sync-full-history"),
    ("GET", "/api/sync"),
    ("GET", "/api/sync/1"),
    ("POST", "/api/sync/1/cancel"),
    ("GET", "/api/queue/status"),
    ("GET", "/api/queue/worker"),
    ("POST", "/api/queue/worker"),
    ("GET", "/stats/queue"),
    ("GET", "/stats/workers"),
    ("GET", "/stats/http-client"),
    ("GET", "/stats/circuit-breaker"),
    ("POST", "/stats/circuit-breaker/1/reset"),
    ("GET", "/stats/log-writer"),
    ("GET", "/stats/performance"),
    ("GET", "/metrics"),
    ("GET", "/nothing/here"),
]


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "key_missing"),
        ("", "key_missing"),
        ("Bearer", "key_missing"),
        ("Bearer ", "key_missing"),
        ("Basic cG9tYm86cG9tYm8=", "key_missing"),
        ("Bearer x", "key_invalid"),
        ("Bearer pombo_1_wrong", "key_invalid"),
        ("Bearer pombo_99999999999999999_wrong", "key_invalid"),
        ("Bearer pombo_999999999999999999999999_wrong", "key_invalid"),
        (b"Bearer pombo_1_\xff\x00", "key_invalid"),
    ],
)
async def test_without_a_valid_key_nothing_answers_whatever_is_asked(
    api: Api, header: str | bytes | None, code: str
) -> None:
    del api.http.headers["Authorization"]
    headers: dict[str, Any] = {} if header is None else {"Authorization": header}
    for method, path in _EVERYTHING:
        answer = await api.http.request(method, path, headers=headers, content=b"{")
        assert (answer.status_code, api.error(answer)["code"]) == (401, code), path
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_the_list_above_holds_every_route(api: Api) -> None:
    document = (await api.http.get("/openapi.json")).json()
    documented = {
        (method.upper(), re.sub(r"\{\w+\}", "1", path))
        for path, methods in document["paths"].items()
        for method in methods
    }
    assert documented == {*_EVERYTHING, ("GET", "/health"), ("GET", "/ws/schema.json")} - {("GET", "/nothing/here")}


async def test_the_worker_secret_opens_the_worker_address_alone(api: Api) -> None:
    api.http.headers["Authorization"] = f"Bearer {WORKER_SECRET}"
    for method, path in _EVERYTHING:
        answer = await api.http.request(method, path)
        assert answer.status_code == (503 if path == "/api/queue/worker" else 401), path


async def test_a_bare_health_says_ok_and_nothing_else(api: Api) -> None:
    answer = await api.http.get("/health")
    assert (answer.status_code, answer.json().keys()) == (200, {"status", "database", "workers", "version"})
    del api.http.headers["Authorization"]
    assert (await api.http.get("/health")).json() == {"status": "ok"}
    assert (await api.http.head("/health")).status_code == 200
    wrong = await api.http.get("/health", headers={"Authorization": "Bearer x"})
    assert wrong.status_code == 401


async def test_a_revoked_key_stops_working_within_seconds_and_a_new_one_works_at_once(
    api: Api, database: Database
) -> None:
    now = 100.0
    keys = ApiKeys(database, lambda: now)
    holder = await keys.holder_of(api.key)
    assert holder is not None
    assert holder.workspace_id == api.account.workspace_id
    async with database.borrow() as connection:
        await connection.execute("UPDATE api_keys SET revoked_at = now()")
    assert await keys.holder_of(api.key) == holder
    now += 3.0
    assert await keys.holder_of(api.key) is None
    async with database.borrow() as connection:
        await connection.execute("UPDATE api_keys SET revoked_at = NULL")
    assert await keys.holder_of(api.key) == holder


async def test_unknown_addresses_and_methods_have_the_usual_shape(api: Api) -> None:
    for method, path, status, code in (
        ("GET", "/nothing/here", 404, "not_found"),
        ("GET", "/api/campaigns/", 404, "not_found"),
        ("DELETE", "/api/campaigns", 405, "method_not_allowed"),
        ("GET", "/api/campaigns/send", 405, "method_not_allowed"),
        ("GET", "/api/campaigns/x", 422, "validation_failed"),
        ("GET", "/api/campaigns/99999999999999999999", 422, "validation_failed"),
        ("GET", "/webhook", 404, "not_found"),
    ):
        answer = await api.http.request(method, path)
        assert (answer.status_code, api.error(answer)["code"]) == (status, code), path


async def test_a_body_of_an_ordinary_request_is_small(api: Api) -> None:
    answer = await api.http.post("/api/campaigns", json={"name": "x" * 2_000_000})
    assert (answer.status_code, api.error(answer)["code"]) == (413, "body_too_large")


async def test_every_answer_carries_the_security_headers(api: Api) -> None:
    for path, key in (("/health", True), ("/health", False), ("/nothing", True), ("/api/campaigns", False)):
        answer = await api.http.get(path, headers={} if key else {"Authorization": "Bearer x"})
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in answer.headers["content-security-policy"]


async def test_a_bug_is_answered_without_a_word_of_it(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any) -> None:
        raise RuntimeError("the password is swordfish")

    monkeypatch.setattr("pombo.store.campaigns.list_campaigns", fail)
    answer = await api.http.get("/api/campaigns")
    assert (answer.status_code, api.error(answer)["code"]) == (500, "internal_error")
    assert "swordfish" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_two_in_each_others_way_are_told_to_try_again(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def collide(*_: object) -> None:
        raise asyncpg.DeadlockDetectedError("deadlock detected")

    monkeypatch.setattr("pombo.store.labels.list_labels", collide)
    answer = await api.http.get("/api/labels")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert answer.json()["error"]["code"] == "try_again"


async def test_with_the_database_away_requests_get_503_and_when_to_try_again(api: Api, url: str) -> None:
    assert (await api.http.get("/api/channels")).status_code == 200
    await api.database.app.close()
    await api.database.worker.close()
    body = {"campaignId": api.account.campaign_id, "recipients": ["+351910000001"]}
    answers = [
        await api.http.get("/api/channels"),
        await api.http.get("/metrics"),
        await api.http.post("/api/campaigns", json={"name": "x", "channelIds": [1]}),
        await api.http.post("/api/campaigns/send", json=body),
        await api.http.post("/api/campaigns/send", json=body, headers={"Idempotency-Key": "k"}),
        await api.http.get("/health"),
        await api.http.get("/api/channels", headers={"Authorization": "Bearer pombo_1_never_seen_before"}),
    ]
    for answer in answers:
        assert (answer.status_code, api.error(answer)["code"]) == (503, "database_unavailable")
        assert answer.headers["retry-after"] == "2"
    assert (await api.http.get("/health", headers={"Authorization": ""})).status_code == 401
    del api.http.headers["Authorization"]
    bare = await api.http.get("/health")
    assert (bare.status_code, bare.json()) == (503, {"status": "unavailable"})
    assert (await api.http.head("/health")).status_code == 503


async def test_a_database_that_hangs_does_not_hold_up_a_bare_health(api: Api, url: str) -> None:
    pulse = Pulse(api.database, patience_s=0.05)
    async with AsyncExitStack() as stack:
        # All connections of the pool are out, as they are when none of their statements ends.
        for _ in range(api.database.app.get_max_size()):
            await stack.enter_async_context(api.database.app.acquire())
        assert not await pulse.beats()
        assert not await pulse.beats()
    assert await Pulse(api.database).beats()
    assert await pulse.beats()


async def test_webhooks_go_to_their_own_receiver_without_a_key(database: Database, box: SecretBox) -> None:
    async def receiver(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["path"].encode()})

    async with running_api(database, box, webhooks=receiver) as api:
        del api.http.headers["Authorization"]
        for path in PATHS:
            answer: httpx.Response = await api.http.post(path, content=b"x" * 2_000_000)
            assert (answer.status_code, answer.text) == (200, path)
        assert (await api.http.get("/webhook/")).status_code == 401


async def test_the_openapi_document_describes_the_streamed_bodies_and_needs_no_key(api: Api) -> None:
    del api.http.headers["Authorization"]
    document = (await api.http.get("/openapi.json")).json()
    send = document["paths"]["/api/campaigns/send"]["post"]
    assert send["requestBody"]["content"].keys() == {"application/json", "text/csv"}
    assert {parameter["name"] for parameter in send["parameters"]} == {"Idempotency-Key", "campaignId"}
    assert "API key" in document["components"]["securitySchemes"]

    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            for name, member in value.items():
                if name == "$ref":
                    yield member
                else:
                    yield from references(member)
        elif isinstance(value, list):
            for item in value:
                yield from references(item)

    for reference in references(document):
        found: Any = document
        for part in reference.removeprefix("#/").split("/"):
            assert part in found, reference
            found = found[part]
