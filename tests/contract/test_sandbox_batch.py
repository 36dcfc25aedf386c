"""Graph batch requests."""

import json
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from tests.sandbox_server import AppHandle, ChannelHandle, SandboxHandle

PSID = "7012345678901234"


def item(node: str = "me", key: str = "key", text: str = "Olá & até", **more: Any) -> dict[str, Any]:
    message = json.dumps({"text": text, "metadata": key})
    form = urlencode({"recipient": json.dumps({"id": PSID}), "message": message, **more})
    return {"method": "POST", "relative_url": f"{node}/messages", "body": form}


async def post(sandbox: SandboxHandle, page: ChannelHandle, items: Any, **more: Any) -> httpx.Response:
    return await sandbox.http.post("/v26.0/", json={"access_token": page.token, "batch": items, **more})


async def test_items_are_answered_in_their_order_and_fail_one_by_one(
    sandbox: SandboxHandle, page: ChannelHandle
) -> None:
    items = [item(key="key-1"), item(text="x" * 2001), item(node=f"v26.0/{page.id}", key="key-3")]
    answer = await post(sandbox, page, items)
    assert answer.status_code == 200
    codes = [part["code"] for part in answer.json()]
    assert codes == [200, 400, 200]
    bodies = [json.loads(part["body"]) for part in answer.json()]
    assert bodies[0]["recipient_id"] == PSID
    assert bodies[1]["error"]["code"] == 100
    assert [message["key"] for message in await sandbox.messages()] == ["key-1", "key-3"]


async def test_headers_are_included_unless_declined(sandbox: SandboxHandle, page: ChannelHandle) -> None:
    await sandbox.configure(page, app_usage={"call_count": 5})
    headers = {header["name"]: header["value"] for header in (await post(sandbox, page, [item()])).json()[0]["headers"]}
    assert json.loads(headers["X-App-Usage"])["call_count"] == 5
    assert headers["Content-Type"].startswith("application/json")
    assert set((await post(sandbox, page, [item()], include_headers=False)).json()[0]) == {"code", "body"}


async def test_a_form_with_the_batch_as_json_text_is_as_good(sandbox: SandboxHandle, page: ChannelHandle) -> None:
    form = {"access_token": page.token, "batch": json.dumps([item()]), "include_headers": "false"}
    answer = await sandbox.http.post("/me", data=form)
    assert [part["code"] for part in answer.json()] == [200]


async def test_fifty_items_pass_and_fifty_one_do_not(sandbox: SandboxHandle, page: ChannelHandle) -> None:
    await sandbox.configure(page, calls_per_second=None, brake_per_second=None)
    assert len((await post(sandbox, page, [item()] * 50)).json()) == 50
    error = (await post(sandbox, page, [item()] * 51)).json()["error"]
    assert error["type"] == "GraphBatchException"
    assert "Maximum batch size is 50" in error["message"]
    assert (await sandbox.ledger())["accepted"] == 50


async def test_each_item_counts_against_the_limit_on_calls(sandbox: SandboxHandle, page: ChannelHandle) -> None:
    await sandbox.freeze_clock()
    await sandbox.configure(page, calls_per_second=3)
    assert [part["code"] for part in (await post(sandbox, page, [item()] * 5)).json()] == [200, 200, 200, 400, 400]


async def test_an_item_may_bring_a_token_of_its_own(
    sandbox: SandboxHandle, app: AppHandle, page: ChannelHandle
) -> None:
    other = await sandbox.add_page(app)
    answer = await post(sandbox, page, [item(access_token=other.token), item(access_token="nope"), item()])
    assert [part["code"] for part in answer.json()] == [200, 400, 200]
    assert [message["channel"] for message in await sandbox.messages()] == [other.id, page.id]


async def test_a_batch_needs_a_token_and_items(sandbox: SandboxHandle, page: ChannelHandle) -> None:
    answer = await sandbox.http.post("/", json={"batch": [item()]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, 104)
    for items in ([], "nonsense", {"method": "POST"}, None):
        assert (await post(sandbox, page, items)).json()["error"]["code"] == 100


async def test_an_item_without_shape_and_a_batch_in_a_batch_fail_alone(
    sandbox: SandboxHandle, page: ChannelHandle
) -> None:
    nested = {"method": "POST", "relative_url": "", "body": urlencode({"batch": json.dumps([item()])})}
    answer = await post(sandbox, page, ["nonsense", {"method": "POST"}, nested, item()])
    assert [part["code"] for part in answer.json()] == [400, 400, 400, 200]
    assert (await sandbox.ledger())["accepted"] == 1


@pytest.mark.parametrize(("when", "accepted"), [("before", 0), ("after", 1)])
async def test_an_item_that_timed_out_is_null_and_may_have_been_accepted(
    sandbox: SandboxHandle, page: ChannelHandle, when: str, accepted: int
) -> None:
    await sandbox.add_faults({"kind": "batch_null", "when": when, "max_count": 1})
    assert (await sandbox.send_text(page, "7000000000000009")).status_code == 200
    first, second = (await post(sandbox, page, [item(key="key-1"), item(key="key-2")])).json()
    assert first is None
    assert second["code"] == 200
    assert len(await sandbox.with_key("key-1")) == accepted
    assert len(await sandbox.with_key("key-2")) == 1


async def test_a_lost_answer_of_one_item_loses_the_whole_batch_s(sandbox: SandboxHandle, page: ChannelHandle) -> None:
    await sandbox.add_faults({"kind": "lost_answer", "max_count": 1})
    with pytest.raises(httpx.RemoteProtocolError):
        await post(sandbox, page, [item(key="key-1"), item(key="key-2")])
    assert (await sandbox.ledger())["accepted"] == 2
