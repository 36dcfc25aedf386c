"""The Send API: its shape, its limits on content, its window, its tokens."""

import json
from typing import Any

import pytest

from tests.sandbox_server import AppHandle, ChannelHandle, SandboxHandle, text_body

PSID = "7012345678901234"


def body(message: Any = None, **more: Any) -> dict[str, Any]:
    return {"recipient": {"id": PSID}, "message": {"text": "Hello"} if message is None else message, **more}


def template(payload: dict[str, Any]) -> dict[str, Any]:
    return {"attachment": {"type": "template", "payload": payload}}


def reply(title: str = "Yes") -> dict[str, Any]:
    return {"content_type": "text", "title": title, "payload": "YES"}


BUTTON = {"type": "postback", "title": "Start", "payload": "START"}


async def test_an_accepted_message_answers_with_the_recipient_and_a_new_id(
    sandbox: SandboxHandle, page: ChannelHandle
) -> None:
    first, second = [(await sandbox.post(page, body())).json() for _ in range(2)]
    assert first["recipient_id"] == PSID
    assert first["message_id"].startswith("m_")
    assert first["message_id"] != second["message_id"]


@pytest.mark.parametrize(
    "message",
    [
        pytest.param({"text": "x" * 2000}, id="2000 characters"),
        pytest.param({"text": "Choose", "quick_replies": [reply()] * 13}, id="13 quick replies"),
        pytest.param({"text": "Hi", "metadata": "m" * 1000}, id="1000 characters of metadata"),
        pytest.param({"attachment": {"type": "image", "payload": {"url": "https://example.com/a.png"}}}, id="image"),
        pytest.param({"attachment": {"type": "file", "payload": {"attachment_id": 185777}}}, id="uploaded file"),
        pytest.param(
            {"attachments": [{"type": "image", "payload": {"url": "https://example.com/a.png"}}] * 30}, id="30 images"
        ),
        pytest.param(template({"template_type": "button", "text": "t" * 640, "buttons": [BUTTON] * 3}), id="buttons"),
        pytest.param(
            template({"template_type": "generic", "elements": [{"title": "A", "subtitle": "b"}] * 10}), id="cards"
        ),
        pytest.param(
            template({"template_type": "media", "elements": [{"media_type": "image", "url": "https://example.com"}]}),
            id="media template",
        ),
        pytest.param({"sticker_id": 369239263222822}, id="sticker"),
    ],
)
async def test_content_within_meta_s_limits_is_accepted(
    sandbox: SandboxHandle, page: ChannelHandle, message: dict[str, Any]
) -> None:
    answer = await sandbox.post(page, body(message))
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("message", "words"),
    [
        pytest.param({"text": "x" * 2001}, "message[text]", id="2001 characters"),
        pytest.param({"text": ""}, "cannot be empty", id="empty text"),
        pytest.param({}, "cannot be empty", id="nothing"),
        pytest.param({"text": "a", "sticker_id": 1}, "Only one of", id="text and sticker"),
        pytest.param({"text": "a", "quick_replies": [reply()] * 14}, "too many elements", id="14 quick replies"),
        pytest.param({"text": "a", "quick_replies": []}, "non-empty array", id="no quick reply"),
        pytest.param({"text": "a", "quick_replies": [reply("t" * 21)]}, "title", id="long quick reply"),
        pytest.param({"text": "a", "quick_replies": [{"content_type": "location"}]}, "content_type", id="location"),
        pytest.param({"text": "a", "metadata": "m" * 1001}, "message[metadata]", id="long metadata"),
        pytest.param({"text": 5}, "message.text", id="text that is a number"),
        pytest.param({"attachment": {"type": "gif", "payload": {}}}, "[type]", id="unknown attachment"),
        pytest.param({"attachment": {"type": "image"}}, "payload", id="no payload"),
        pytest.param({"attachment": {"type": "image", "payload": {}}}, "url", id="no url"),
        pytest.param({"attachments": [{"type": "video", "payload": {"url": "u"}}]}, "only hold images", id="video"),
        pytest.param(template({"template_type": "poster"}), "template_type", id="unknown template"),
        pytest.param(
            template({"template_type": "generic", "elements": [{"title": "A", "subtitle": "b"}] * 11}),
            "too many elements",
            id="11 cards",
        ),
        pytest.param(template({"template_type": "generic", "elements": [{"title": "A"}]}), "property", id="bare card"),
        pytest.param(
            template({"template_type": "generic", "elements": [{"title": "A" * 81, "subtitle": "b"}]}),
            "elements[title]",
            id="long title",
        ),
        pytest.param(template({"template_type": "button", "text": "t" * 641, "buttons": [BUTTON]}), "[text]", id="641"),
        pytest.param(
            template({"template_type": "button", "text": "t", "buttons": [BUTTON] * 4}), "too many", id="4 buttons"
        ),
        pytest.param(
            template({"template_type": "button", "text": "t", "buttons": [{"type": "dial"}]}),
            "buttons[type]",
            id="dial",
        ),
        pytest.param(
            template({"template_type": "button", "text": "t", "buttons": [{"type": "web_url", "title": "Open"}]}),
            "buttons[url]",
            id="link without url",
        ),
        pytest.param(template({"template_type": "media", "elements": []}), "non-empty array", id="empty media"),
        pytest.param(template({"template_type": "receipt"}), "recipient_name", id="empty receipt"),
    ],
)
async def test_content_beyond_meta_s_limits_is_error_100(
    sandbox: SandboxHandle, page: ChannelHandle, message: dict[str, Any], words: str
) -> None:
    answer = await sandbox.post(page, body(message))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["type"]) == (400, 100, "OAuthException")
    assert words in error["message"]
    assert error["fbtrace_id"]
    assert (await sandbox.ledger())["accepted"] == 0


@pytest.mark.parametrize(
    ("request_body", "words"),
    [
        pytest.param({}, "recipient is required", id="nothing"),
        pytest.param({"recipient": {}, "message": {"text": "a"}}, "specify one of", id="nobody"),
        pytest.param({"recipient": {"id": "ana"}, "message": {"text": "a"}}, "page-scoped id", id="a name"),
        pytest.param({"recipient": {"id": "١٢٣"}, "message": {"text": "a"}}, "page-scoped id", id="other digits"),
        pytest.param({"recipient": {"id": PSID}}, "message is required", id="no message"),
        pytest.param(body(messaging_type="PROMO"), "messaging_type", id="unknown messaging type"),
        pytest.param(body(messaging_type="MESSAGE_TAG"), "tag is required", id="tag missing"),
        pytest.param(body(notification_type="LOUD"), "notification_type", id="unknown notification type"),
        pytest.param(body(tag="CONFIRMED_EVENT_UPDATE", messaging_type="MESSAGE_TAG"), "no longer", id="dead tag 1"),
        pytest.param(body(tag="ACCOUNT_UPDATE", messaging_type="MESSAGE_TAG"), "no longer", id="dead tag 2"),
        pytest.param(body(tag="POST_PURCHASE_UPDATE", messaging_type="MESSAGE_TAG"), "no longer", id="dead tag 3"),
        pytest.param({"recipient": {"id": PSID}, "sender_action": "dance"}, "sender_action", id="unknown action"),
    ],
)
async def test_a_request_that_makes_no_sense_is_error_100(
    sandbox: SandboxHandle, page: ChannelHandle, request_body: dict[str, Any], words: str
) -> None:
    answer = await sandbox.post(page, request_body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, 100)
    assert words in answer.json()["error"]["message"]


async def test_a_body_that_is_not_json_is_error_100(sandbox: SandboxHandle, page: ChannelHandle) -> None:
    for content in (b'{"recipient"', b'{"recipient": {"id": "\xff"}}', b"[1]"):
        answer = await sandbox.http.post(
            f"/{page.id}/messages",
            content=content,
            headers={"authorization": f"Bearer {page.token}", "content-type": "application/json"},
        )
        assert answer.json()["error"]["code"] == 100, content


async def test_a_sender_action_answers_the_recipient_and_enters_no_ledger(
    sandbox: SandboxHandle, page: ChannelHandle
) -> None:
    answer = await sandbox.post(page, {"recipient": {"id": PSID}, "sender_action": "typing_on"})
    assert answer.json() == {"recipient_id": PSID}
    assert (await sandbox.ledger())["accepted"] == 0


async def test_a_sender_action_together_with_a_message_is_refused(sandbox: SandboxHandle, page: ChannelHandle) -> None:
    error = (await sandbox.post(page, body(sender_action="typing_on"))).json()["error"]
    assert (error["code"], error["error_subcode"]) == (100, 2018014)


async def test_recipients_other_than_a_person_are_answered_without_an_id(
    sandbox: SandboxHandle, page: ChannelHandle
) -> None:
    answer = await sandbox.post(page, {"recipient": {"comment_id": "1_2"}, "message": {"text": "Thank you"}})
    assert set(answer.json()) == {"message_id"}


async def test_a_form_with_json_inside_is_as_good_as_json(sandbox: SandboxHandle, page: ChannelHandle) -> None:
    form = {
        "recipient": json.dumps({"id": PSID}),
        "message": json.dumps({"text": "Olá & até", "metadata": "key-1"}),
        "messaging_type": "RESPONSE",
        "access_token": page.token,
    }
    answer = await sandbox.http.post("/v26.0/me/messages", data=form)
    assert answer.status_code == 200, answer.text
    assert [message["recipient"] for message in await sandbox.with_key("key-1")] == [PSID]


@pytest.mark.parametrize("way", ["query", "bearer", "body"])
@pytest.mark.parametrize("node", ["me", "the page"])
@pytest.mark.parametrize("version", ["", "/v26.0", "/v19.0"])
async def test_a_token_is_taken_from_wherever_meta_takes_it(
    sandbox: SandboxHandle, page: ChannelHandle, way: str, node: str, version: str
) -> None:
    path = f"{version}/{page.id if node == 'the page' else node}/messages"
    request_body = text_body(page, PSID) | ({"access_token": page.token} if way == "body" else {})
    answer = await sandbox.http.post(
        path,
        json=request_body,
        params={"access_token": page.token} if way == "query" else None,
        headers={"authorization": f"Bearer {page.token}"} if way == "bearer" else None,
    )
    assert answer.status_code == 200, answer.text


async def test_no_token_an_unknown_token_and_another_page_s_token_are_refused_like_meta_does(
    sandbox: SandboxHandle, app: AppHandle, page: ChannelHandle
) -> None:
    other = await sandbox.add_page(app)
    seen = []
    for token in (None, "EAAunknown", other.token):
        headers = None if token is None else {"authorization": f"Bearer {token}"}
        answer = await sandbox.http.post(f"/v26.0/{page.id}/messages", json=text_body(page, PSID), headers=headers)
        error = answer.json()["error"]
        seen.append((answer.status_code, error["code"], error.get("error_subcode"), error["type"]))
    assert seen == [
        (401, 104, None, "OAuthException"),
        (400, 190, None, "OAuthException"),
        (400, 100, 33, "GraphMethodException"),
    ]
    assert (await sandbox.ledger())["accepted"] == 0


async def test_a_replaced_token_stops_working(sandbox: SandboxHandle, page: ChannelHandle) -> None:
    await sandbox.call("POST", "pages", {"page_id": page.id, "app_id": page.app.id, "access_token": "new"})
    assert (await sandbox.send_text(page, PSID)).json()["error"]["code"] == 190


async def test_an_unknown_path_is_meta_s_unsupported_request(sandbox: SandboxHandle, page: ChannelHandle) -> None:
    headers = {"authorization": f"Bearer {page.token}"}
    for method, path in (("POST", f"/{page.id}/photos"), ("PUT", f"/{page.id}/messages"), ("GET", "/me/friends/all")):
        error = (await sandbox.http.request(method, path, headers=headers)).json()["error"]
        assert (error["code"], error["error_subcode"]) == (100, 33), path


HOUR = 3600.0


@pytest.mark.parametrize(
    ("hours", "more", "expected"),
    [
        (23.9, {"messaging_type": "RESPONSE"}, 200),
        (24.1, {"messaging_type": "RESPONSE"}, 2018278),
        (24.1, {"messaging_type": "UPDATE"}, 2018278),
        (24.1, {}, 2018278),
        (24.1, {"messaging_type": "MESSAGE_TAG", "tag": "HUMAN_AGENT"}, 200),
        (7 * 24 + 0.1, {"messaging_type": "MESSAGE_TAG", "tag": "HUMAN_AGENT"}, 2018278),
        (24.1, {"messaging_type": "MESSAGE_TAG", "tag": "NON_PROMOTIONAL_SUBSCRIPTION"}, 2018065),
        (9999, {"messaging_type": "UTILITY", "message": {"template": {"name": "order"}}}, 200),
    ],
)
async def test_the_window_closes_24_hours_after_the_person_last_wrote(
    sandbox: SandboxHandle, page: ChannelHandle, hours: float, more: dict[str, Any], expected: int
) -> None:
    await sandbox.set_person(page, PSID, last_inbound_ago_s=hours * HOUR)
    answer = await sandbox.post(page, body() | more)
    outcome = answer.json()["error"]["error_subcode"] if answer.is_error else answer.status_code
    assert outcome == expected


async def test_with_a_closed_window_policy_only_those_who_wrote_can_be_reached(
    sandbox: SandboxHandle, page: ChannelHandle
) -> None:
    await sandbox.configure(page, window="closed")
    await sandbox.set_person(page, PSID, last_inbound_ago_s=60)
    assert (await sandbox.send_text(page, PSID)).status_code == 200
    error = (await sandbox.send_text(page, "7000000000000001")).json()["error"]
    assert (error["code"], error["error_subcode"]) == (10, 2018278)


@pytest.mark.parametrize(
    ("standing", "code", "subcode"),
    [("unknown", 100, 2018001), ("blocked", 551, 1545041), ("opted_out", 10, 1893015)],
)
async def test_a_person_who_cannot_be_reached_is_refused_with_meta_s_code(
    sandbox: SandboxHandle, page: ChannelHandle, standing: Any, code: int, subcode: int
) -> None:
    await sandbox.set_person(page, PSID, standing=standing)
    error = (await sandbox.send_text(page, PSID)).json()["error"]
    assert (error["code"], error["error_subcode"]) == (code, subcode)
