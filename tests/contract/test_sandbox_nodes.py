"""What can be read and subscribed: Pages, numbers, WhatsApp accounts, templates."""

from typing import Any

import httpx
import pytest

from tests.sandbox_server import ChannelHandle, SandboxHandle


async def get(sandbox: SandboxHandle, channel: ChannelHandle, path: str, **query: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {channel.token}"}
    return await sandbox.http.get(f"/v26.0/{path}", params=query, headers=headers)


async def test_a_page_is_read_by_id_and_as_me(sandbox: SandboxHandle, page: ChannelHandle) -> None:
    for path in (page.id, "me"):
        assert (await get(sandbox, page, path)).json() == {"name": "Sandbox Page", "id": page.id}
    assert (await get(sandbox, page, "me", fields="category,nonsense")).json() == {"category": "Sandbox", "id": page.id}


async def test_a_number_is_read_with_its_quality_and_limits(sandbox: SandboxHandle, phone: ChannelHandle) -> None:
    node = (await get(sandbox, phone, phone.id)).json()
    assert (node["id"], node["quality_rating"], node["throughput"]) == (phone.id, "GREEN", {"level": "STANDARD"})
    assert node["display_phone_number"].isdecimal()
    fields = "verified_name,whatsapp_business_manager_messaging_limit"
    assert (await get(sandbox, phone, phone.id, fields=fields)).json() == {
        "verified_name": "Sandbox number",
        "whatsapp_business_manager_messaging_limit": "TIER_UNLIMITED",
        "id": phone.id,
    }


async def test_an_account_lists_its_numbers_and_itself(sandbox: SandboxHandle, phone: ChannelHandle) -> None:
    second = await sandbox.add_phone(phone.app, waba_id=phone.waba_id)
    await sandbox.add_phone(phone.app)
    assert (await get(sandbox, phone, phone.waba_id)).json()["id"] == phone.waba_id
    listed = (await get(sandbox, phone, f"{phone.waba_id}/phone_numbers")).json()["data"]
    assert [node["id"] for node in listed] == [phone.id, second.id]


async def test_templates_are_listed_page_by_page_until_next_is_missing(
    sandbox: SandboxHandle, phone: ChannelHandle
) -> None:
    for number in range(5):
        await sandbox.add_template(phone, f"order_{number}", components=[{"type": "BODY", "text": "Hi {{1}}"}])
    path = f"{phone.waba_id}/message_templates"
    names: list[str] = []
    query: dict[str, Any] = {"limit": 2, "fields": "name"}
    while True:
        listing = (await get(sandbox, phone, path, **query)).json()
        names += [node["name"] for node in listing["data"]]
        if "next" not in listing["paging"]:
            break
        query["after"] = listing["paging"]["cursors"]["after"]
    assert names == [f"order_{number}" for number in range(5)]
    [found] = (await get(sandbox, phone, path, name="order_3")).json()["data"]
    assert found["status"] == "APPROVED"
    assert found["parameter_format"] == "POSITIONAL"
    assert found["components"] == [{"type": "BODY", "text": "Hi {{1}}"}]
    assert (await get(sandbox, phone, path, status="PAUSED")).json() == {"data": []}
    assert (await get(sandbox, phone, path, after="nonsense")).json()["error"]["code"] == 100


async def test_a_page_s_subscription_is_read_changed_and_ended(sandbox: SandboxHandle, page: ChannelHandle) -> None:
    path, token = f"/v26.0/{page.id}/subscribed_apps", {"access_token": page.token}
    [listed] = (await sandbox.http.get(path, params=token)).json()["data"]
    assert listed["id"] == page.app.id
    assert listed["subscribed_fields"][:2] == ["messages", "message_echoes"]
    body = {**token, "subscribed_fields": ["message_reads", "messages"]}
    assert (await sandbox.http.post(path, json=body)).json() == {"success": True}
    [listed] = (await sandbox.http.get(path, params=token)).json()["data"]
    assert listed["subscribed_fields"] == ["messages", "message_reads"]
    assert (await sandbox.http.post(path, json=token)).json()["error"]["code"] == 100
    assert (await sandbox.http.delete(path, params=token)).json() == {"success": True}
    assert (await sandbox.http.get(path, params=token)).json() == {"data": []}


@pytest.mark.parametrize("node", ["account", "number"])
async def test_an_account_s_subscription_is_read_changed_and_ended(
    sandbox: SandboxHandle, phone: ChannelHandle, node: str
) -> None:
    path = f"{phone.waba_id if node == 'account' else phone.id}/subscribed_apps"
    headers = {"authorization": f"Bearer {phone.token}"}
    [listed] = (await get(sandbox, phone, path)).json()["data"]
    assert listed["whatsapp_business_api_data"]["id"] == phone.app.id
    assert (await sandbox.http.delete(f"/{path}", headers=headers)).json() == {"success": True}
    assert (await get(sandbox, phone, path)).json() == {"data": []}
    assert (await sandbox.http.post(f"/{path}", headers=headers)).json() == {"success": True}
    assert len((await get(sandbox, phone, path)).json()["data"]) == 1


async def test_an_account_of_somebody_else_is_not_seen(
    sandbox: SandboxHandle, page: ChannelHandle, phone: ChannelHandle
) -> None:
    error = (await get(sandbox, page, phone.waba_id)).json()["error"]
    assert (error["code"], error["error_subcode"]) == (100, 33)
    assert (await sandbox.http.get(f"/{phone.waba_id}")).json()["error"]["code"] == 104
    answer = await sandbox.http.get(f"/{phone.waba_id}", params={"access_token": "nope"})
    assert answer.json()["error"]["code"] == 190
