"""POST /api/send-message."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from pombo.store.database import Database
from pombo.store.secrets import SecretBox
from tests.api_client import Api, running_api
from tests.conversations import add_conversation


@pytest.fixture
async def api(database: Database, box: SecretBox) -> AsyncIterator[Api]:
    async with running_api(database, box) as running:
        yield running


def message(api: Api, **changes: Any) -> dict[str, Any]:
    text = {"type": "text", "text": "On its way, {{ name }}"}
    return {"channelId": api.account.number, "recipient": "+351 912 345 678", "content": text} | changes


async def queued(api: Api) -> list[dict[str, Any]]:
    async with api.database.borrow() as connection:
        rows = await connection.fetch(
            """SELECT o.id, o.run_id, o.recipient, o.content->>'text' AS text, o.variables->>'name' AS name, s.class
               FROM outbox o JOIN streams s USING (workspace_id, channel_id, run_id) ORDER BY o.id"""
        )
    return [dict(row) for row in rows]


async def test_a_message_is_queued_as_a_reply_unless_it_says_otherwise(api: Api) -> None:
    reply = await api.http.post("/api/send-message", json=message(api, variables={"name": "Ana"}))
    other = await api.http.post("/api/send-message", json=message(api, **{"class": "transactional"}))

    assert (reply.status_code, other.status_code) == (202, 202)
    first, second = await queued(api)
    assert reply.json() == {
        "messageId": first["id"],
        "channelId": api.account.number,
        "recipient": "+351912345678",
        "status": "queued",
    }
    assert (first["class"], first["run_id"], first["recipient"]) == (0, 0, "+351912345678")
    assert (first["text"], first["name"]) == ("On its way, {{ name }}", "Ana")
    assert (second["class"], second["run_id"]) == (1, -1)


async def test_a_repeated_request_with_its_key_queues_nothing_again(api: Api) -> None:
    headers = {"Idempotency-Key": "reply-1"}
    first = await api.http.post("/api/send-message", json=message(api), headers=headers)
    again = await api.http.post("/api/send-message", json=message(api), headers=headers)
    other = await api.http.post("/api/send-message", json=message(api, recipient="+351912345679"), headers=headers)

    assert again.json() == first.json()
    assert other.json()["error"]["code"] == "idempotency_conflict"
    assert len(await queued(api)) == 1


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"recipient": "12"}, 422, "recipients_invalid"),
        ({"channelId": 999}, 404, "channel_not_found"),
        ({"content": None}, 422, "content_missing"),
        ({"content": {"type": "text", "text": "x" * 4097}}, 422, "text_too_long"),
        ({"class": "bulk"}, 422, "validation_failed"),
        ({"variables": {"name": "\u0000"}}, 422, "text_invalid"),
    ],
)
async def test_what_cannot_be_sent_is_refused_and_nothing_is_queued(
    api: Api, changes: dict[str, Any], status: int, code: str
) -> None:
    answer = await api.http.post("/api/send-message", json=message(api, **changes))
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert await queued(api) == []


async def test_figures_of_direct_messages_are_counted(api: Api) -> None:
    await api.http.post("/api/send-message", json=message(api))
    shown = (await api.http.get("/stats/queue")).json()
    assert (shown["totals"]["total"], shown["totals"]["pending"]) == (1, 1)


async def test_a_message_to_somebody_who_has_a_conversation_is_shown_in_it(api: Api) -> None:
    each = await add_conversation(
        api.database, api.account.workspace_id, api.account.number, "+351912345678", status="closed"
    )
    before = (await api.http.get(f"/api/conversations/{each}")).json()["conversation"]

    asked = message(api, variables={"name": "Ana"}, **{"class": "transactional"})
    sent = (await api.http.post("/api/send-message", json=asked)).json()

    assert sent["conversationId"] == each
    newest = (await api.http.get(f"/api/messages/{each}")).json()["messages"][0]
    assert (newest["id"], newest["messageId"]) == (sent["id"], sent["messageId"])
    assert (newest["author"], newest["text"], newest["state"]) == ("app", "On its way, Ana", "queued")
    after = (await api.http.get(f"/api/conversations/{each}")).json()["conversation"]
    assert after["preview"] == "On its way, Ana"
    for key in ("status", "unread", "assigneeId"):
        assert after[key] == before[key]


async def test_text_that_cannot_be_rendered_is_shown_as_it_was_written(api: Api) -> None:
    each = await add_conversation(api.database, api.account.workspace_id, api.account.number, "+351912345678")
    text = "A share is {{ 6 | divided_by: people }}"
    asked = message(api, content={"type": "text", "text": text}, variables={"people": 0})
    assert (await api.http.post("/api/send-message", json=asked)).status_code == 202
    newest = (await api.http.get(f"/api/messages/{each}")).json()["messages"][0]
    assert newest["text"] == text
