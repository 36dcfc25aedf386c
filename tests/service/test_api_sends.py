"""`POST /api/campaigns/send`: what gets in, what comes of it, and that nothing is ever stored by halves."""

import asyncio
import hashlib
import json
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest

from pombo.campaigns.expand import Expander
from pombo.campaigns.sweep import sweep_abandoned
from pombo.campaigns.upload import Upload
from pombo.domain.ids import ChannelId
from pombo.store import contacts, idempotency
from pombo.store.contacts import NewContact
from pombo.store.database import Database
from pombo.store.secrets import SecretBox
from tests.accounts import add_account
from tests.api_client import NOTHING, Api, running_api

_SEND = "/api/campaigns/send"


@pytest.fixture
async def api(database: Database, box: SecretBox) -> AsyncIterator[Api]:
    async with running_api(database, box, max_body_mb=8) as running:
        yield running


async def _send(api: Api, **body: Any) -> httpx.Response:
    return await api.http.post(_SEND, json={"campaignId": api.account.campaign_id, **body})


async def _outbox(api: Api) -> list[tuple[int, str, str | None]]:
    while await Expander(api.database).run_once():
        pass
    async with api.database.borrow() as connection:
        rows = await connection.fetch("SELECT channel_id, recipient, variables FROM outbox ORDER BY id")
    return [tuple(row) for row in rows]


async def test_the_old_contracts_request_is_accepted_at_once_and_queued(api: Api) -> None:
    answer = await api.http.post(
        _SEND,
        json={
            "campaignId": str(api.account.campaign_id),
            "recipients": ["+919876543210", "+91 98765 43211", "+91 98765 43210", "12", "call me"],
            "messageType": "text",
            "payload": {"text": {"body": "Hello"}},
        },
    )
    assert answer.status_code == 202
    body = answer.json()
    assert (body["campaignId"], body["status"]) == (api.account.campaign_id, "pending")
    assert (body["accepted"], body["rejected"]) == (3, 2)
    assert [(reject["line"], reject["recipient"], reject["code"]) for reject in body["rejects"]] == [
        (4, "12", "phone_too_short"),
        (5, "call me", "phone_invalid"),
    ]
    assert await _outbox(api) == [
        (api.account.number, "+919876543210", None),
        (api.account.number, "+919876543211", None),
    ]
    run = (await api.http.get(f"/api/runs/{body['runId']}")).json()
    assert (run["totals"]["total"], run["totals"]["duplicates"], run["totals"]["rejected"]) == (2, 1, 2)
    async with api.database.borrow() as connection:
        assert json.loads(await connection.fetchval("SELECT content FROM runs")) == {
            "type": "text",
            "text": "Hello",
            "preview_url": False,
        }


@pytest.mark.parametrize("chunk_first", [True, False])
async def test_the_order_of_the_keys_does_not_matter_however_long_the_list(
    api: Api, monkeypatch: pytest.MonkeyPatch, chunk_first: bool
) -> None:
    monkeypatch.setattr(Upload.__init__, "__kwdefaults__", {"chunk": 10})
    recipients: list[Any] = [{"recipient": f"+35191000{n:04}", "variables": {"n": n}} for n in range(35)]
    recipients[7] = "broken"
    fields = {"campaignId": api.account.campaign_id, "messageType": "text", "payload": {"text": "Hi"}}
    body = {"recipients": recipients, **fields} if chunk_first else {**fields, "recipients": recipients}

    answer = (await api.http.post(_SEND, json=body)).json()

    assert (answer["accepted"], answer["rejected"]) == (34, 1)
    assert [(reject["line"], reject["code"]) for reject in answer["rejects"]] == [(8, "phone_invalid")]
    queued = await _outbox(api)
    assert [recipient for _, recipient, _ in queued] == [f"+35191000{n:04}" for n in range(35) if n != 7]
    assert {channel for channel, _, _ in queued} == {api.account.number}
    rejects = (await api.http.get(f"/api/runs/{answer['runId']}/rejects")).json()["rejects"]
    assert rejects == answer["rejects"]


async def test_a_csv_is_sent_with_its_columns_as_variables(api: Api) -> None:
    rows = "recipient,first_name\n+351910000001,Ana\n+351910000002\n+351910000003,Zoë\n"
    answer = await api.http.post(
        f"{_SEND}?campaignId={api.account.campaign_id}", content=rows.encode(), headers={"Content-Type": "text/csv"}
    )
    body = answer.json()
    assert (answer.status_code, body["accepted"], body["rejected"]) == (202, 2, 1)
    assert [(reject["line"], reject["code"]) for reject in body["rejects"]] == [(3, "row_broken")]
    assert await _outbox(api) == [
        (api.account.number, "+351910000001", '{"first_name": "Ana"}'),
        (api.account.number, "+351910000003", '{"first_name": "Zoë"}'),
    ]


async def test_a_campaign_of_several_channels_wants_each_recipients_channel(api: Api) -> None:
    page, number = api.account.page, api.account.number
    made = await api.http.post("/api/campaigns", json={"name": "both", "channelIds": [page, number]})
    answer = await api.http.post(
        _SEND,
        json={
            "campaignId": made.json()["id"],
            "content": {"type": "text", "text": "Hello"},
            "recipients": [
                {"recipient": "2400000000000001", "channelId": page},
                {"recipient": "+351910000001", "channelId": str(number)},
                "+351910000002",
                {"recipient": "+351910000003", "channelId": 999},
            ],
        },
    )
    assert [reject["code"] for reject in answer.json()["rejects"]] == ["channel_required", "channel_not_found"]
    assert [row[:2] for row in await _outbox(api)] == [(page, "2400000000000001"), (number, "+351910000001")]
    # Brought by its first send, it is the campaign's own from now on.
    assert (await api.http.get(f"/api/campaigns/{made.json()['id']}")).json()["content"]["text"] == "Hello"


async def test_all_contacts_of_the_campaigns_channels_are_an_audience(api: Api) -> None:
    people = [NewContact(api.account.number, f"+35191000000{n}", {"first_name": "Ana"}) for n in range(3)]
    people.append(NewContact(api.account.page, "24"))
    async with api.database.tenant(api.account.workspace_id) as connection:
        await contacts.save_contacts(connection, api.account.workspace_id, people)

    answer = await _send(api, audience="contacts")

    assert (answer.status_code, answer.json()["accepted"]) == (202, 3)
    assert [row[1] for row in await _outbox(api)] == ["+351910000000", "+351910000001", "+351910000002"]


# --- bad input ------------------------------------------------------------------------------------------------------

_LONG = {"messageType": "text", "payload": {"text": {"body": "x" * 4097}}}
_TEMPLATE = {"name": "order", "language": {"code": "en_US"}, "components": [{"type": "body", "parameters": [{}]}]}
_ONE = {"recipients": ["+351910000001"]}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"campaignId": 999, **_ONE}, 404, "campaign_not_found"),
        ({"campaignId": "abc", **_ONE}, 422, "validation_failed"),
        ({"campaignId": 10**30, **_ONE}, 400, "json_invalid"),
        ({"campaignId": "9" * 30, **_ONE}, 422, "validation_failed"),
        ({"campaignId": 0, **_ONE}, 422, "validation_failed"),
        ({"campaignId": None, **_ONE}, 422, "validation_failed"),
        ({"campaignId": {}, **_ONE}, 422, "validation_failed"),
        ({"campaignId": ..., **_ONE}, 422, "validation_failed"),
        ({}, 422, "recipients_missing"),
        ({"recipients": []}, 422, "recipients_missing"),
        ({"recipients": {}}, 422, "validation_failed"),
        ({"recipients": "contacts"}, 422, "validation_failed"),
        ({"recipients": ["12", "", None, {"recipient": "+351910000001", "name": "Ana"}]}, 422, "recipients_invalid"),
        ({"recipients": ["\x00"]}, 422, "recipients_invalid"),
        ({"audience": "contacts"}, 422, "audience_empty"),
        ({"audience": "everybody"}, 422, "validation_failed"),
        ({"audience": "contacts", **_ONE}, 422, "validation_failed"),
        ({"messageType": "letter", "payload": {"letter": {}}, **_ONE}, 422, "unsupported_type"),
        ({"messageType": "text", "payload": {}, **_ONE}, 422, "payload_invalid"),
        ({"messageType": "text", **_ONE}, 422, "validation_failed"),
        ({"payload": {"text": "x"}, **_ONE}, 422, "validation_failed"),
        ({**_LONG, **_ONE}, 422, "text_too_long"),
        ({"messageType": "text", "payload": {"text": " "}, **_ONE}, 422, "text_empty"),
        ({"messageType": "text", "payload": {"text": "a\x00"}, **_ONE}, 422, "text_invalid"),
        ({"messageType": "text", "payload": {"text": "{{ name"}, **_ONE}, 422, "template_syntax"),
        ({"messageType": "template", "payload": {"template": _TEMPLATE}, **_ONE}, 422, "template_parameter_missing"),
        ({"messageType": "text", "payload": "text", **_ONE}, 422, "validation_failed"),
        ({"messageType": 5, "payload": {}, **_ONE}, 422, "validation_failed"),
        ({"content": {"type": "letter"}, **_ONE}, 422, "validation_failed"),
        ({"recipient": ["+351910000001"]}, 422, "validation_failed"),
        ({"campaignId": ..., "campaign_id": 1, **_ONE}, 422, "validation_failed"),
        ({"campaignId": True, **_ONE}, 422, "validation_failed"),
        ({"campaignId": 1.0, **_ONE}, 422, "validation_failed"),
        ({"message_type": "text", "payload": {"text": "Hi"}, **_ONE}, 422, "validation_failed"),
    ],
)
@pytest.mark.parametrize("key", [None, "a-key"])
async def test_bad_input_is_refused_with_a_stable_code_and_nothing_is_stored(
    api: Api, body: dict[str, Any], status: int, code: str, key: str | None
) -> None:
    wanted = {"campaignId": api.account.campaign_id, **body}
    wanted = {name: value for name, value in wanted.items() if value is not ...}
    answer = await api.http.post(_SEND, json=wanted, headers={"Idempotency-Key": key} if key else {})

    error = api.error(answer)
    assert (answer.status_code, error["code"]) == (status, code)
    assert await api.stored() == NOTHING
    # Refused, it has used up no key.
    if key is not None:
        again = await api.http.post(
            _SEND, json={"campaignId": api.account.campaign_id, **_ONE}, headers={"Idempotency-Key": key}
        )
        assert again.status_code == 202


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (b"", {}, 400, "json_invalid"),
        (b"{", {}, 400, "json_invalid"),
        (b"[1]", {}, 400, "json_invalid"),
        (b'{"campaignId": 1, "recipients": ["+351910000001"', {}, 400, "json_invalid"),
        (b'{"campaignId": 1, "recipients": ["+351910000001"]}}', {}, 400, "json_invalid"),
        (b'{"campaignId": 1, "recipients": ["\xff"]}', {}, 400, "json_invalid"),
        (b'{"campaignId": 1, "recipients": ["\\ud800"]}', {}, 400, "json_invalid"),
        (b'{"campaignId": 1, "x": "' + b"x" * 2_000_000 + b'"}', {}, 413, "value_too_large"),
        (b'{"campaignId": 1, "recipients": [' + b" " * 9_000_000 + b"]}", {}, 413, "body_too_large"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "media_type_unsupported"),
        (b"{}", {"Content-Encoding": "gzip"}, 415, "media_type_unsupported"),
        (b"{}", {"Idempotency-Key": "x" * 256}, 400, "idempotency_key_invalid"),
        (b"{}", {"Idempotency-Key": ""}, 400, "idempotency_key_invalid"),
        (b"{}", {"Idempotency-Key": b"caf\xe9"}, 400, "idempotency_key_invalid"),
        (b"phone\n+351910000001\n", {"Content-Type": "text/csv"}, 400, "csv_invalid"),
        (b"", {"Content-Type": "text/csv; charset=utf-8"}, 400, "csv_invalid"),
        (b"recipient\n+351910000001\n", {"Content-Type": "text/csv"}, 422, "validation_failed"),
    ],
)
async def test_a_body_that_cannot_be_read_is_refused_and_nothing_is_stored(
    api: Api, content: bytes, headers: dict[str, Any], status: int, code: str
) -> None:
    answer = await api.http.post(_SEND, content=content, headers={"Content-Type": "application/json", **headers})
    error = api.error(answer)
    assert (answer.status_code, error["code"]) == (status, code)
    assert await api.stored() == NOTHING


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("", 422, "validation_failed"),
        ("?campaignId=x", 422, "validation_failed"),
        ("?campaignId=999", 404, "campaign_not_found"),
        ("?campaignId=1&colour=red", 422, "validation_failed"),
    ],
)
async def test_a_csv_names_its_campaign_in_the_address(api: Api, query: str, status: int, code: str) -> None:
    answer = await api.http.post(
        _SEND + query, content=b"recipient\n+351910000001\n", headers={"Content-Type": "text/csv"}
    )
    assert (answer.status_code, api.error(answer)["code"]) == (status, code)
    assert await api.stored() == NOTHING


async def test_a_campaign_without_content_is_not_sent(api: Api) -> None:
    made = await api.http.post("/api/campaigns", json={"name": "bare", "channelIds": [api.account.number]})
    answer = await api.http.post(_SEND, json={"campaignId": made.json()["id"], **_ONE})
    assert (answer.status_code, api.error(answer)["code"]) == (422, "content_missing")
    assert await api.stored() == NOTHING


async def test_all_rejects_of_a_request_that_is_refused_come_in_its_details(api: Api) -> None:
    error = api.error(await _send(api, recipients=["12", "0"]))
    assert [(reject["line"], reject["recipient"]) for reject in error["details"]] == [(1, "12"), (2, "0")]
    accepted = (await _send(api, recipients=["12", "+351910000001"])).json()
    assert error["details"][0] == accepted["rejects"][0]


async def test_another_workspaces_campaign_does_not_exist(api: Api, box: SecretBox) -> None:
    theirs = await add_account(api.database, box, "other")
    answer = await api.http.post(_SEND, json={"campaignId": theirs.campaign_id, **_ONE})
    assert (answer.status_code, api.error(answer)["code"]) == (404, "campaign_not_found")
    assert await api.stored() == NOTHING


async def test_an_announced_length_above_the_limit_is_refused_before_the_body_is_read(api: Api) -> None:
    async def never() -> AsyncIterator[bytes]:
        yield b"x"
        raise AssertionError("the body was read")

    answer = await api.http.post(
        _SEND,
        content=never(),
        headers={"Content-Type": "application/json", "Content-Length": str(9 * 1024**2)},
    )
    assert (answer.status_code, api.error(answer)["code"]) == (413, "body_too_large")
    assert answer.headers["connection"] == "close"


# --- idempotency ----------------------------------------------------------------------------------------------------


async def test_the_same_body_again_sends_nothing_and_says_how_to_mean_it(api: Api) -> None:
    first = await _send(api, **_ONE)
    again = await _send(api, **_ONE)

    assert again.status_code == first.status_code == 202
    assert again.headers["idempotent-replay"] == "true"
    assert "idempotent-replay" not in first.headers
    assert "Idempotency-Key" in again.json()["notice"]
    assert {name: value for name, value in again.json().items() if name != "notice"} == first.json()
    assert (await api.stored())["runs"] == 1

    meant = await api.http.post(
        _SEND, json={"campaignId": api.account.campaign_id, **_ONE}, headers={"Idempotency-Key": "once more"}
    )
    assert meant.json()["runId"] != first.json()["runId"]
    assert (await api.stored())["runs"] == 2


async def test_another_list_for_the_same_campaign_is_another_request(api: Api) -> None:
    runs = {(await _send(api, recipients=[f"+35191000000{n}"])).json()["runId"] for n in range(3)}
    assert len(runs) == 3


async def test_a_key_gives_the_first_answer_again_to_the_byte_and_refuses_another_body(api: Api) -> None:
    key = {"Idempotency-Key": "k"}
    body = {"campaignId": api.account.campaign_id, "recipients": ["+351910000001", "bad"]}
    first = await api.http.post(_SEND, json=body, headers=key)
    again = await api.http.post(_SEND, json=body, headers=key)
    other = await api.http.post(_SEND, json={**body, "recipients": ["+351910000002"]}, headers=key)

    assert (again.status_code, again.content, again.headers["idempotent-replay"]) == (202, first.content, "true")
    assert (other.status_code, api.error(other)["code"]) == (422, "idempotency_conflict")
    assert (await api.stored())["runs"] == 1


class _Slow:
    """A body in two halves; the second comes when told."""

    def __init__(self, body: dict[str, Any]) -> None:
        self._data = json.dumps(body).encode()
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._data[:20]
        self.begun.set()
        await self.go_on.wait()
        yield self._data[20:]


async def test_a_second_request_with_the_key_of_one_under_way_is_told_to_wait(api: Api) -> None:
    key = {"Idempotency-Key": "k", "Content-Type": "application/json"}
    body = {"campaignId": api.account.campaign_id, **_ONE}
    slow = _Slow(body)
    first = asyncio.create_task(api.http.post(_SEND, content=slow, headers=key))
    await slow.begun.wait()

    second = await api.http.post(_SEND, json=body, headers=key)
    assert (second.status_code, api.error(second)["code"]) == (409, "request_in_progress")
    assert int(second.headers["retry-after"]) > 0
    slow.go_on.set()

    done = await first
    third = await api.http.post(_SEND, content=json.dumps(body), headers=key)
    assert (third.json()["runId"], third.headers["idempotent-replay"]) == (done.json()["runId"], "true")
    assert (await api.stored())["runs"] == 1


@pytest.mark.parametrize("key", [None, "k"])
async def test_of_many_equal_requests_at_once_one_sends(api: Api, key: str | None) -> None:
    headers = {"Idempotency-Key": key} if key else {}
    body = {"campaignId": api.account.campaign_id, "recipients": [f"+3519100{n:05}" for n in range(200)]}
    answers = await asyncio.gather(*(api.http.post(_SEND, json=body, headers=headers) for _ in range(8)))

    accepted = [answer for answer in answers if answer.status_code == 202]
    assert len({answer.json()["runId"] for answer in accepted}) == 1
    assert all(api.error(a)["code"] == "request_in_progress" for a in answers if a not in accepted)
    stored = await api.stored()
    assert (stored["runs"], stored["uploads"], stored["audience"], stored["idempotency_keys"]) == (1, 0, 200, 1)


async def test_the_key_of_a_process_that_died_is_free_when_its_lease_has_ended(api: Api) -> None:
    async with api.database.borrow() as connection:
        await connection.execute(
            """INSERT INTO idempotency_keys (workspace_id, key, leased_until)
               VALUES ($1, 'given:k', now() - interval '1 second')""",
            api.account.workspace_id,
        )
    answer = await api.http.post(
        _SEND, json={"campaignId": api.account.campaign_id, **_ONE}, headers={"Idempotency-Key": "k"}
    )
    assert answer.status_code == 202


# --- streaming ------------------------------------------------------------------------------------------------------


async def _call(api: Api, receive: Any) -> list[Any]:
    """The bare ASGI call, for what no HTTP client does on purpose."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [
        (b"authorization", f"Bearer {api.key}".encode()),
        (b"content-type", b"application/json"),
        (b"idempotency-key", b"k"),
    ]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": _SEND,
        "raw_path": _SEND.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 3100),
    }
    await api.app(scope, receive, send)
    return sent


def _pieces(api: Api, count: int) -> list[bytes]:
    """A request of so many recipients, a few KB at a time, with the campaign first."""
    rows = [f'"+3519{n:08}",' for n in range(count)]
    lists = ["".join(rows[start : start + 500]).encode() for start in range(0, count, 500)]
    lists[-1] = lists[-1].rstrip(b",")
    return [f'{{"campaignId": {api.account.campaign_id}, "recipients": ['.encode(), *lists, b"]}"]


async def test_a_connection_that_breaks_in_the_middle_leaves_nothing(api: Api) -> None:
    pieces = iter(_pieces(api, 20_000)[:30])
    staged_before_the_end = 0

    async def receive() -> Any:
        nonlocal staged_before_the_end
        if (piece := next(pieces, None)) is not None:
            return {"type": "http.request", "body": piece, "more_body": True}
        staged_before_the_end = (await api.stored())["audience"]
        return {"type": "http.disconnect"}

    await _call(api, receive)
    assert staged_before_the_end >= 10_000
    assert await api.stored() == NOTHING


async def test_a_request_that_is_cancelled_in_the_middle_leaves_nothing(api: Api) -> None:
    pieces = iter(_pieces(api, 20_000)[:30])
    stuck = asyncio.Event()

    async def receive() -> Any:
        if (piece := next(pieces, None)) is None:
            stuck.set()
            await asyncio.Event().wait()
        return {"type": "http.request", "body": piece, "more_body": True}

    request = asyncio.create_task(_call(api, receive))
    await stuck.wait()
    assert (await api.stored())["audience"] >= 10_000
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert await api.stored() == NOTHING


async def test_what_a_lost_database_leaves_of_a_request_is_swept_later_and_its_key_is_free(api: Api, url: str) -> None:
    pieces = iter(_pieces(api, 15_000)[:-1])

    async def receive() -> Any:
        if (piece := next(pieces, None)) is None:
            await api.database.worker.close()
            await api.database.app.close()
            return {"type": "http.request", "body": b"]}", "more_body": False}
        return {"type": "http.request", "body": piece, "more_body": True}

    sent = await _call(api, receive)
    assert (sent[0]["status"], json.loads(sent[1]["body"])["error"]["code"]) == (503, "database_unavailable")

    async with Database.open(url) as database:
        left = replace(api, database=database)
        assert (await left.stored())["audience"] >= 10_000
        assert await sweep_abandoned(database) == 0
        async with database.borrow() as connection:
            await connection.execute("UPDATE uploads SET touched_at = touched_at - interval '2 hours'")
            await connection.execute("UPDATE idempotency_keys SET leased_until = now() - interval '1 second'")
        assert await sweep_abandoned(database) == 1
        assert await left.stored() == {**NOTHING, "idempotency_keys": 1}
        async with database.tenant(api.account.workspace_id) as connection:
            claimed = await idempotency.claim(connection, api.account.workspace_id, "given:k", timedelta(minutes=1))
        assert claimed is None


async def test_a_hundred_thousand_recipients_stream_through_bounded_memory(api: Api) -> None:
    pieces = _pieces(api, 100_000)
    body = b"".join(pieces)
    left = iter(pieces)
    peaks = []

    async def receive() -> Any:
        peaks.append(tracemalloc.get_traced_memory()[1])
        piece = next(left)
        return {"type": "http.request", "body": piece, "more_body": piece != pieces[-1]}

    tracemalloc.start()
    try:
        sent = await _call(api, receive)
    finally:
        tracemalloc.stop()

    assert sent[0]["status"] == 202
    answer = json.loads(sent[1]["body"])
    assert (answer["accepted"], answer["rejected"]) == (100_000, 0)
    # The first fifth has filled every buffer there is; the rest must not need more than a little on top.
    first_fifth, last = peaks[len(peaks) // 5], peaks[-1]
    assert last < 1.25 * first_fifth
    assert last < 16 * 1024**2
    async with api.database.borrow() as connection:
        assert await connection.fetchval("SELECT count(*) FROM audience") == 100_000
        assert await connection.fetchval("SELECT request_hash FROM idempotency_keys") == (
            hashlib.sha256(b"\n" + body).digest()
        )


async def test_other_requests_are_answered_while_a_long_list_streams(api: Api) -> None:
    pieces = _pieces(api, 60_000)
    left, answered = iter(pieces), []

    async def receive() -> Any:
        piece = next(left)
        return {"type": "http.request", "body": piece, "more_body": piece != pieces[-1]}

    async def ask() -> None:
        while True:
            answered.append((await api.http.get("/health", headers={"Authorization": f"Bearer {api.key}"})).status_code)

    asking = asyncio.create_task(ask())
    sent = await _call(api, receive)
    asking.cancel()
    assert sent[0]["status"] == 202
    assert len(answered) > 20
    assert set(answered) == {200}


async def test_recipients_of_a_channel_are_kept_apart_by_their_ids_type(api: Api) -> None:
    answer = await _send(api, recipients=[{"recipient": 351910000001, "channelId": ChannelId(api.account.number)}])
    assert answer.json()["accepted"] == 1
    assert await _outbox(api) == [(api.account.number, "+351910000001", None)]
