"""The Conversations API and profiles of a Page, as Meta documents them."""

from typing import Any

from tests.sandbox_server import ChannelHandle, SandboxHandle

PSID = "24012345678901"
FIELDS = "id,updated_time,participants,messages.limit(30){id,message,from,created_time}"


async def threads(sandbox: SandboxHandle, page: ChannelHandle, **query: Any) -> Any:
    answer = await sandbox.get(page, f"{page.id}/conversations", **query)
    assert answer.is_success, answer.text
    return answer.json()


async def test_the_newest_threads_come_first_page_by_page(sandbox: SandboxHandle, page: ChannelHandle) -> None:
    await sandbox.configure(page, conversation_calls_per_second=None)
    await sandbox.add_threads(page, 7, first_person=20_000_000_001)
    seen: list[str] = []
    after = None
    while True:
        query = {"limit": 3, "fields": "participants"} | ({} if after is None else {"after": after})
        found = await threads(sandbox, page, **query)
        seen += [thread["participants"]["data"][0]["id"] for thread in found["data"]]
        if "next" not in found["paging"]:
            break
        after = found["paging"]["cursors"]["after"]
    assert seen == [str(20_000_000_001 + number) for number in range(7)]


async def test_only_the_twenty_newest_messages_can_be_read(sandbox: SandboxHandle, page: ChannelHandle) -> None:
    await sandbox.configure(page, conversation_calls_per_second=None)
    await sandbox.add_threads(page, 1, messages=25)
    [thread] = (await threads(sandbox, page, fields=FIELDS))["data"]
    messages = thread["messages"]["data"]
    assert len(messages) == 25
    assert ["message" in message for message in messages] == [True] * 20 + [False] * 5
    newest, oldest = messages[0]["id"], messages[-1]["id"]
    read = (await sandbox.get(page, newest, fields="message,from,to,created_time")).json()
    assert read["from"]["id"] == "20000000001"
    assert read["to"]["data"][0]["id"] == page.id
    assert read["created_time"].endswith("+0000")
    assert (await sandbox.get(page, oldest, fields="message")).json()["error"]["code"] == 9000001


async def test_a_thread_is_read_by_its_id_and_shows_both_sides(sandbox: SandboxHandle, page: ChannelHandle) -> None:
    await sandbox.configure(page, conversation_calls_per_second=None)
    await sandbox.script(page, PSID, {"type": "image"})
    await sandbox.flush()
    await sandbox.send_text(page, PSID, "Nice")
    [thread] = (await threads(sandbox, page, user_id=PSID))["data"]
    fields = "messages{message,from,attachments}"
    read = (await sandbox.get(page, thread["id"], fields=fields)).json()
    ours, theirs = read["messages"]["data"]
    assert (ours["message"], ours["from"]["id"]) == ("Nice", page.id)
    [attachment] = theirs["attachments"]["data"]
    picture = await sandbox.http.get(attachment["image_data"]["url"])
    assert picture.content.startswith(b"\x89PNG")
    assert picture.headers["content-type"] == attachment["mime_type"] == "image/png"
    edge = (await sandbox.get(page, f"{thread['id']}/messages", limit=1)).json()
    assert [message["id"] for message in edge["data"]] == [ours["id"]]
    assert "next" in edge["paging"]


async def test_more_than_two_calls_a_second_are_refused(sandbox: SandboxHandle, page: ChannelHandle) -> None:
    await sandbox.freeze_clock()
    answers = [(await sandbox.get(page, f"{page.id}/conversations")).status_code for _ in range(3)]
    refused = (await sandbox.get(page, f"{page.id}/conversations")).json()
    assert answers == [200, 200, 400]
    assert refused["error"]["code"] == 613
    await sandbox.advance_clock(1)
    assert (await sandbox.get(page, f"{page.id}/conversations")).is_success
    assert (await sandbox.peak(page, 1000))["conversation_calls"] == 4


async def test_a_cursor_that_was_kept_for_long_is_refused(sandbox: SandboxHandle, page: ChannelHandle) -> None:
    await sandbox.freeze_clock()
    await sandbox.add_threads(page, 2)
    after = (await threads(sandbox, page, limit=1))["paging"]["cursors"]["after"]
    await sandbox.advance_clock(3601)
    for cursor in (after, "nonsense"):
        refused = await sandbox.get(page, f"{page.id}/conversations", after=cursor)
        assert refused.json()["error"]["code"] == 100


async def test_another_page_s_thread_is_not_there(sandbox: SandboxHandle, page: ChannelHandle) -> None:
    other = await sandbox.add_page(page.app)
    await sandbox.add_threads(page, 1)
    [thread] = (await threads(sandbox, page))["data"]
    assert (await sandbox.get(other, thread["id"])).json()["error"]["code"] == 100


async def test_fields_that_make_no_sense_are_refused(sandbox: SandboxHandle, page: ChannelHandle) -> None:
    answer = await sandbox.get(page, f"{page.id}/conversations", fields="messages{id")
    assert answer.json()["error"]["code"] == 2500


async def test_a_profile_has_a_name_and_a_picture(sandbox: SandboxHandle, page: ChannelHandle) -> None:
    profile = (await sandbox.get(page, PSID, fields="name,first_name,profile_pic")).json()
    assert profile["name"].startswith(profile["first_name"])
    assert profile["id"] == PSID
    assert (await sandbox.http.get(profile["profile_pic"])).content.startswith(b"\x89PNG")
    await sandbox.set_person(page, PSID, standing="unknown")
    assert (await sandbox.get(page, PSID)).json()["error"]["error_subcode"] == 2018218
