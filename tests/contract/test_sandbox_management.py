"""The management API: accounts in bulk, the handshake, time, reset, and clear words for what makes no sense."""

from pathlib import Path
from typing import Any, get_args

import pytest

from pombo.sandbox.accounts import ChannelSettings, Usage
from pombo.sandbox.acts import Act, ActType, MediaSpec
from pombo.sandbox.faults import Fault, SendFault, WebhookFault
from pombo.sandbox.habits import Habits
from pombo.sandbox.provisioning import ThreadsSpec
from pombo.sandbox.pump import PumpSettings
from tests.sandbox_server import AppHandle, ChannelHandle, SandboxHandle
from tests.webhook_receiver import WebhookReceiver, running_receiver

PSID = "7012345678901234"


async def test_everything_can_be_set_up_at_once(sandbox: SandboxHandle) -> None:
    async with running_receiver() as receiver:
        await sandbox.call(
            "POST",
            "setup",
            {
                "apps": [{"app_id": 1, "app_secret": "s", "verify_token": "v"}],
                "pages": [{"page_id": 10 + n, "app_id": 1, "access_token": f"page-{n}"} for n in range(3)],
                "phone_numbers": [
                    {"phone_number_id": 20 + n, "waba_id": 30, "app_id": 1, "access_token": "system"} for n in range(2)
                ],
                "templates": [{"waba_id": 30, "name": "order", "body_parameters": 1}],
                "webhooks": [{"app_id": 1, "callback_url": receiver.url}],
                "people": [{"channel": 10, "people": [{"id": PSID, "standing": "blocked"}]}],
            },
        )
        channels = (await sandbox.call("GET", "channels"))["channels"]
        assert [channel["id"] for channel in channels] == ["10", "11", "12", "20", "21"]
        outcomes = []
        for page in (10, 11):
            message = {"recipient": {"id": PSID}, "message": {"text": "Hello"}}
            token = {"access_token": f"page-{page - 10}"}
            outcomes.append((await sandbox.http.post(f"/{page}/messages", json=message, params=token)).status_code)
        assert outcomes == [400, 200]
        await sandbox.flush()
        assert receiver.events()


async def test_things_are_made_one_or_many_at_a_time(sandbox: SandboxHandle, app: AppHandle) -> None:
    pages = [{"page_id": n, "app_id": app.id, "access_token": f"t{n}"} for n in (1, 2)]
    assert (await sandbox.call("POST", "pages", pages))["count"] == 2
    assert (await sandbox.call("POST", "pages", pages[0] | {"page_id": "3"}))["count"] == 1


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "pages", {"page_id": 1, "app_id": 999, "access_token": "t"}),
        ("POST", "pages", {"page_id": 1, "access_token": "t"}),
        ("POST", "pages", {"page_id": 1, "app_id": 999, "access_token": "t", "colour": "blue"}),
        ("POST", "templates", {"waba_id": 999, "name": "order"}),
        ("POST", "apps", "nonsense"),
        ("PUT", "people", {"channel": 999, "people": []}),
        ("PUT", "webhooks", {"app_id": 999, "callback_url": "http://127.0.0.1:1"}),
        ("PUT", "webhooks", {"app_id": 999, "callback_url": "http://127.0.0.1:1", "verify": True}),
        ("PUT", "clock", {"advance_s": -1}),
        ("PUT", "pump", {"tick": 1}),
        ("PUT", "pump", {"tick_ms": 0}),
        ("PUT", "seed", {"seed": "x"}),
        ("PUT", "seed", {"seed": 2**200}),
        ("PATCH", "channels/999", {}),
        ("GET", "ledger/peak?channel=999", None),
        ("GET", "ledger/messages?limit=x", None),
    ],
)
async def test_what_makes_no_sense_is_a_400_that_says_why(
    sandbox: SandboxHandle, method: str, path: str, body: Any
) -> None:
    answer = await sandbox.http.request(method, f"/sandbox/{path}", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


async def test_an_unknown_management_path_is_404(sandbox: SandboxHandle) -> None:
    assert (await sandbox.http.get("/sandbox/nonsense")).status_code == 404
    assert "GET /sandbox/ledger" in (await sandbox.call("GET", ""))["endpoints"]


async def test_a_page_s_id_may_not_be_a_whatsapp_account_s(
    sandbox: SandboxHandle, page: ChannelHandle, phone: ChannelHandle
) -> None:
    token = {"app_id": page.app.id, "access_token": "t"}
    taken = await sandbox.http.post("/sandbox/pages", json=token | {"page_id": phone.waba_id})
    assert taken.status_code == 400
    number = token | {"phone_number_id": 5, "waba_id": page.id}
    assert (await sandbox.http.post("/sandbox/phone-numbers", json=number)).status_code == 400


async def test_a_callback_is_verified_by_meta_s_handshake(sandbox: SandboxHandle, app: AppHandle) -> None:
    async with running_receiver() as receiver:
        answer = await sandbox.http.put(
            "/sandbox/webhooks", json={"app_id": app.id, "callback_url": f"{receiver.url}?a=b", "verify": True}
        )
        assert answer.status_code == 400
        assert "failed verification" in answer.json()["error"]["message"]
        [handshake] = receiver.deliveries
        assert handshake.method == "GET"
        start, _, challenge = handshake.target.partition("&hub.challenge=")
        assert start == "/webhook?a=b&hub.mode=subscribe"
        assert challenge.endswith(f"&hub.verify_token={app.verify_token}")
    answer = await sandbox.http.put(
        "/sandbox/webhooks", json={"app_id": app.id, "callback_url": receiver.url, "verify": True}
    )
    assert "did not answer" in answer.json()["error"]["message"]


async def test_a_reset_forgets_everything_but_what_is_to_be_kept(
    sandbox: SandboxHandle, page: ChannelHandle, receiver: WebhookReceiver
) -> None:
    first = (await sandbox.send_text(page, PSID, key="key-1")).json()["message_id"]
    await sandbox.add_faults({"kind": "error", "code": 2})
    await sandbox.reset(keep_accounts=True)
    assert await sandbox.faults() == []
    assert (await sandbox.ledger())["accepted"] == 0
    assert (await sandbox.stats())["requests"] == 0
    assert (await sandbox.stats())["webhooks"]["updates_pending"] == 0
    second = (await sandbox.send_text(page, PSID, key="key-1")).json()["message_id"]
    assert second != first
    await sandbox.flush()
    assert {event["message"]["mid"] for event in receiver.events() if "message" in event} == {second}
    assert (await sandbox.ledger())["duplicates"] == 0
    await sandbox.reset()
    assert (await sandbox.call("GET", "channels"))["channels"] == []


async def test_a_replaced_page_keeps_its_ledger(sandbox: SandboxHandle, page: ChannelHandle) -> None:
    await sandbox.send_text(page, PSID)
    again = {"page_id": page.id, "app_id": page.app.id, "access_token": page.token}
    await sandbox.call("POST", "pages", again)
    await sandbox.send_text(page, PSID)
    assert (await sandbox.ledger())["channels"][page.id]["accepted"] == 2


async def test_the_clock_stops_moves_and_runs_again(sandbox: SandboxHandle) -> None:
    stopped = (await sandbox.call("PUT", "clock", {"frozen": True}))["now"]
    assert (await sandbox.stats())["now"] == stopped
    assert (await sandbox.call("PUT", "clock", {"advance_s": 86400}))["now"] == stopped + 86400
    released = await sandbox.call("PUT", "clock", {"frozen": False})
    assert released["frozen"] is False
    assert released["now"] < stopped + 86400
    assert (await sandbox.call("PUT", "clock", {"advance_s": 3600}))["now"] >= stopped + 3600


async def test_a_flush_gives_up_after_its_time_out(
    sandbox: SandboxHandle, page: ChannelHandle, receiver: WebhookReceiver
) -> None:
    await sandbox.freeze_clock()
    await sandbox.send_text(page, PSID)
    answer = await sandbox.call("POST", "webhooks/flush", {"timeout_ms": 1})
    assert answer["done"] is False
    assert answer["webhooks"]["updates_pending"] > 0
    assert (await sandbox.call("POST", "webhooks/flush", {"hurry": True}))["done"] is True


async def test_every_endpoint_setting_and_fault_has_its_line_in_the_docs(sandbox: SandboxHandle) -> None:
    text = (Path(__file__).parents[2] / "docs" / "subsystems" / "sandbox.md").read_text()
    endpoints = (await sandbox.call("GET", ""))["endpoints"]
    named = {endpoint.split(" ")[1] for endpoint in endpoints} - {"/sandbox"}
    for shape in (ChannelSettings, Usage, PumpSettings, Fault, Habits, Act, MediaSpec, ThreadsSpec):
        named |= set(shape.__struct_fields__)
    named |= {*get_args(SendFault), *get_args(WebhookFault), *get_args(ActType)}
    assert sorted(name for name in named if name not in text) == []
