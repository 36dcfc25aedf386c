"""Files up and down, on both channels."""

import hashlib
import json

from tests.sandbox_server import ChannelHandle, SandboxHandle
from tests.webhook_receiver import WebhookReceiver

PSID, PERSON = "24012345678901", "5511987654321"


def bearer(channel: ChannelHandle) -> dict[str, str]:
    return {"authorization": f"Bearer {channel.token}"}


async def test_what_was_uploaded_to_a_number_can_be_downloaded_with_its_token(
    sandbox: SandboxHandle, phone: ChannelHandle
) -> None:
    content = b"\x00--\r\nanything"
    made = await sandbox.http.post(
        f"/v26.0/{phone.id}/media",
        data={"messaging_product": "whatsapp", "type": "image/png"},
        files={"file": ("a.png", content, "image/png")},
        headers=bearer(phone),
    )
    media_id = made.json()["id"]
    told = (await sandbox.get(phone, media_id)).json()
    assert told["sha256"] == hashlib.sha256(content).hexdigest()
    assert (told["mime_type"], told["file_size"]) == ("image/png", len(content))
    fetched = await sandbox.http.get(told["url"], headers=bearer(phone))
    assert (fetched.content, fetched.headers["content-type"]) == (content, "image/png")
    assert (await sandbox.http.get(told["url"])).status_code == 404
    await sandbox.http.delete(f"/{media_id}", headers=bearer(phone))
    assert (await sandbox.get(phone, media_id)).json()["error"]["code"] == 100


async def test_a_download_address_lasts_five_minutes(
    sandbox: SandboxHandle, phone: ChannelHandle, receiver: WebhookReceiver
) -> None:
    await sandbox.script(
        phone, PERSON, {"type": "file", "text": "here", "media": {"filename": "bill.pdf", "size": 900}}
    )
    await sandbox.flush()
    [message] = receiver.inbound()
    document = message["document"]
    assert (document["caption"], document["filename"], document["mime_type"]) == ("here", "bill.pdf", "application/pdf")
    assert len((await sandbox.http.get(document["url"], headers=bearer(phone))).content) == 900
    await sandbox.advance_clock(301)
    assert (await sandbox.http.get(document["url"], headers=bearer(phone))).status_code == 404
    again = (await sandbox.get(phone, document["id"])).json()["url"]
    assert (await sandbox.http.get(again, headers=bearer(phone))).is_success
    await sandbox.advance_clock(7 * 86400)
    assert (await sandbox.get(phone, document["id"])).json()["error"]["code"] == 100


async def test_a_messenger_attachment_needs_no_token(
    sandbox: SandboxHandle, page: ChannelHandle, receiver: WebhookReceiver
) -> None:
    await sandbox.script(page, PSID, {"type": "audio", "media": {"content_base64": "QUJD"}})
    await sandbox.flush()
    [event] = receiver.events()
    [attachment] = event["message"]["attachments"]
    assert attachment["type"] == "audio"
    assert (await sandbox.http.get(attachment["payload"]["url"])).content == b"ABC"


async def test_attachments_of_a_page_are_uploaded_or_named_by_their_address(
    sandbox: SandboxHandle, page: ChannelHandle
) -> None:
    attachment = {"type": "image", "payload": {"is_reusable": True}}
    uploaded = await sandbox.http.post(
        f"/{page.id}/message_attachments",
        data={"message": json.dumps({"attachment": attachment})},
        files={"filedata": ("a.png", b"abc", "image/png")},
        headers=bearer(page),
    )
    assert uploaded.json()["attachment_id"].isdecimal()
    attachment["payload"] = {"url": "https://example.com/a.png"}
    named = await sandbox.http.post(
        "/me/message_attachments", json={"message": {"attachment": attachment}}, headers=bearer(page)
    )
    assert named.json()["attachment_id"] != uploaded.json()["attachment_id"]


async def test_what_is_too_large_or_no_file_is_refused(sandbox: SandboxHandle, phone: ChannelHandle) -> None:
    url, fields = f"/{phone.id}/media", {"messaging_product": "whatsapp"}
    large = {"file": ("a.png", bytes(5 * 1024 * 1024 + 1), "image/png")}
    refused = await sandbox.http.post(url, data=fields, files=large, headers=bearer(phone))
    assert refused.json()["error"]["code"] == 131053
    headers = {**bearer(phone), "content-type": "multipart/form-data; boundary=x"}
    for body in (b"", b'--x\r\ncontent-disposition: form-data; name="a"\r\n\r\n1', b"--x\r\n\r\n--x--"):
        answer = await sandbox.http.post(url, content=body, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, 100)
