import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pombo.store.database import Database
from pombo.store.secrets import SecretBox
from tests.accounts import add_account
from tests.api_client import Api, running_api


@pytest.fixture
async def api(database: Database, box: SecretBox) -> AsyncIterator[Api]:
    async with running_api(database, box) as running:
        yield running


async def _count(api: Api) -> int:
    async with api.database.borrow() as connection:
        count: int = await connection.fetchval("SELECT count(*) FROM campaigns")
    return count


_TEMPLATE = {
    "type": "template",
    "name": "order_ready",
    "language": "pt_BR",
    "components": [{"type": "body", "parameters": [{"type": "text", "text": "{{ first_name }}"}]}],
}


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({}, None),
        ({"content": {"type": "text", "text": "Olá 🐦"}}, {"type": "text", "text": "Olá 🐦", "previewUrl": False}),
        ({"content": _TEMPLATE}, _TEMPLATE),
        (
            {"messageType": "text", "payload": {"text": {"body": "Hi", "preview_url": True}}},
            {"type": "text", "text": "Hi", "previewUrl": True},
        ),
        (
            {"messageType": "image", "payload": {"image": {"link": "https://example.com/a.png"}}},
            {"type": "raw", "payload": {"type": "image", "image": {"link": "https://example.com/a.png"}}},
        ),
    ],
)
async def test_a_campaign_is_made_and_shown_with_what_it_says(
    api: Api, given: dict[str, Any], shown: dict[str, Any] | None
) -> None:
    answer = await api.http.post(
        "/api/campaigns", json={"name": " Spring sale ", "channelIds": [str(api.account.number)], **given}
    )
    assert answer.status_code == 201
    made = answer.json()
    assert (made["name"], made["channelIds"], made["content"]) == ("Spring sale", [api.account.number], shown)
    assert (await api.http.get(f"/api/campaigns/{made['id']}")).json() == {**made, "runs": []}


async def test_the_only_channel_need_not_be_named(api: Api) -> None:
    async with api.database.borrow() as connection:
        await connection.execute("DELETE FROM channel_leases WHERE channel_id = $1", api.account.page)
        await connection.execute("DELETE FROM channels WHERE id = $1", api.account.page)
    answer = await api.http.post("/api/campaigns", json={"name": "x"})
    assert answer.json()["channelIds"] == [api.account.number]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "validation_failed"),
        ({"name": ""}, 422, "validation_failed"),
        ({"name": "   "}, 422, "validation_failed"),
        ({"name": "x" * 201}, 422, "validation_failed"),
        ({"name": "a\x00b"}, 422, "validation_failed"),
        ({"name": "a\ud800"}, 422, "validation_failed"),
        ({"name": "x"}, 422, "channel_required"),
        ({"name": "x", "channelIds": []}, 422, "validation_failed"),
        ({"name": "x", "channelIds": [10**20]}, 422, "validation_failed"),
        ({"name": "x", "channelIds": [999]}, 404, "channel_not_found"),
        ({"name": "x", "channelIds": [True]}, 422, "validation_failed"),
        ({"name": "x", "channelIds": [1.0]}, 422, "validation_failed"),
        ({"name": "x", "channelIds": ["1.0"]}, 422, "validation_failed"),
        ({"name": "x", "channel_id": 1}, 422, "validation_failed"),
        ({"name": "x", "channel_ids": ["number"]}, 422, "validation_failed"),
        (
            {"name": "x", "channelIds": ["number"], "message_type": "text", "payload": {"text": "Hi"}},
            422,
            "validation_failed",
        ),
        (
            {"name": "x", "channelIds": ["number"], "content": {"type": "text", "text": "Hi", "preview_url": True}},
            422,
            "validation_failed",
        ),
        ({"name": "x", "channelIds": ["page"], "content": {"type": "text", "text": "x" * 2001}}, 422, "text_too_long"),
        ({"name": "x", "channelIds": ["page"], "content": _TEMPLATE}, 422, "unsupported_type"),
        (
            {"name": "x", "channelIds": ["page", "number"], "content": {"type": "text", "text": "x" * 2001}},
            422,
            "text_too_long",
        ),
        ({"name": "x", "channelIds": ["number"], "messageType": "letter", "payload": {}}, 422, "unsupported_type"),
        ({"name": "x", "channelIds": ["number"], "content": {"type": "text", "text": "\x00"}}, 422, "text_invalid"),
        (
            {"name": "x", "channelIds": ["number"], "content": {"type": "text", "text": "{% if %}"}},
            422,
            "template_syntax",
        ),
        ({"name": "x", "channelIds": ["number"], "content": {"type": "raw", "payload": {"to": "1"}}}, 422, None),
    ],
)
async def test_a_campaign_that_could_not_be_sent_is_not_made(
    api: Api, body: dict[str, Any], status: int, code: str | None
) -> None:
    known = {"page": api.account.page, "number": api.account.number}
    if "channelIds" in body:
        body = {**body, "channelIds": [known.get(channel, channel) for channel in body["channelIds"]]}
    before = await _count(api)
    answer = await api.http.post(
        "/api/campaigns", content=json.dumps(body), headers={"Content-Type": "application/json"}
    )
    error = api.error(answer)
    assert answer.status_code == status
    assert code is None or error["code"] == code
    assert await _count(api) == before


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[]", b"[" * 100_000])
async def test_a_body_that_is_no_json_object_is_refused(api: Api, body: bytes) -> None:
    answer = await api.http.post("/api/campaigns", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert api.error(answer)["code"] in ("json_invalid", "validation_failed")


@pytest.mark.parametrize(
    ("body", "path", "sentence"),
    [
        ([], "", "The body: must be a JSON object."),
        ({"name": "a\x00"}, "name", "'name': holds a NUL character; remove it."),
        ({"name": "x", "payload": "Hi"}, "payload", "'payload': must be a JSON object."),
        ({"name": "x", "content": "Hi"}, "content", "'content': must be a JSON object."),
        (
            {"name": "x", "channelIds": [1, True]},
            "channelIds[1]",
            "'channelIds[1]': must be a whole number, or a string of digits.",
        ),
    ],
)
async def test_what_is_wrong_with_a_field_is_said_in_the_words_of_json(
    api: Api, body: Any, path: str, sentence: str
) -> None:
    error = api.error(await api.http.post("/api/campaigns", json=body))
    assert error["message"] == sentence
    assert [each["path"] for each in error["details"]] == [path]


async def test_an_id_in_the_address_is_told_by_its_documented_name(api: Api) -> None:
    error = api.error(await api.http.get("/api/campaigns/x"))
    assert error["details"] == [{"path": "campaignId", "message": "must be a whole number, or a string of digits"}]


async def test_two_thousand_characters_are_fine_on_messenger(api: Api) -> None:
    content = {"type": "text", "text": "x" * 2000}
    answer = await api.http.post(
        "/api/campaigns", json={"name": "x", "channelIds": [api.account.page], "content": content}
    )
    assert answer.status_code == 201


async def test_campaigns_are_listed_page_by_page_and_only_ones_own(api: Api, box: SecretBox) -> None:
    theirs = await add_account(api.database, box, "other")
    for n in range(3):
        await api.http.post("/api/campaigns", json={"name": f"c{n}", "channelIds": [api.account.page]})

    first = (await api.http.get("/api/campaigns?limit=3")).json()
    rest = (await api.http.get(f"/api/campaigns?limit=3&before={first['nextBefore']}")).json()

    assert [campaign["name"] for campaign in first["campaigns"]] == ["c2", "c1", "c0"]
    assert [campaign["name"] for campaign in rest["campaigns"]] == ["Spring"]
    assert rest["nextBefore"] is None
    answer = await api.http.get(f"/api/campaigns/{theirs.campaign_id}")
    assert (answer.status_code, api.error(answer)["code"]) == (404, "campaign_not_found")


async def test_a_campaign_shows_its_latest_runs(api: Api) -> None:
    runs = [
        (
            await api.http.post(
                "/api/campaigns/send", json={"campaignId": api.account.campaign_id, "recipients": [f"+35191000000{n}"]}
            )
        ).json()["runId"]
        for n in range(2)
    ]
    shown = (await api.http.get(f"/api/campaigns/{api.account.campaign_id}")).json()["runs"]
    assert [(run["id"], run["status"], run["source"]) for run in shown] == [
        (runs[1], "pending", "staged"),
        (runs[0], "pending", "staged"),
    ]


async def test_channels_are_listed_without_their_secrets(api: Api) -> None:
    answer = await api.http.get("/api/channels")
    assert [(channel["kind"], channel["externalId"], channel["state"]) for channel in answer.json()["channels"]] == [
        ("messenger", "1001", "active"),
        ("whatsapp", "2001", "active"),
    ]
    assert "token" not in answer.text
