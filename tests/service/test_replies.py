"""Agents' replies, from the request to what Meta got, and what the thread shows of it."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from pombo.domain.channels import ChannelKind
from pombo.domain.ids import ChannelId
from pombo.domain.outcomes import DeliveryState
from pombo.inbox.following import ReplyFollower
from pombo.sending.direct import direct_payload
from pombo.sending.worker import Worker
from pombo.store import channel_jobs, events, inbox_merging, media, message_changes, receipts, replies, settlement
from pombo.store.audience import DUE_BELL
from pombo.store.media_files import DirectoryFiles, MediaFiles
from pombo.store.message_changes import Change
from pombo.store.receipts import Receipt
from pombo.store.settlement import ACCEPTED, CANCELLED, Settled
from tests.api_client import Api, running_api
from tests.conversations import Person, add_conversation, add_person, ago
from tests.locks import blocked
from tests.seeding import add_channel
from tests.service.test_worker import Setting, options, setting

__all__ = ["options", "setting"]  # fixtures


@dataclass(frozen=True, slots=True)
class Desk:
    setting: Setting
    api: Api
    ana: Person
    rui: Person
    number: ChannelId

    async def conversation(self, address: str = "10001", *, channel: ChannelId | None = None, **more: Any) -> int:
        channel = channel or self.setting.channel
        return await add_conversation(self.setting.database, self.setting.workspace, channel, address, **more)

    async def thread(self, conversation_id: int) -> list[dict[str, Any]]:
        """Newest first."""
        messages: list[dict[str, Any]] = (await self.api.http.get(f"/api/messages/{conversation_id}")).json()[
            "messages"
        ]
        return messages

    async def shown(self, conversation_id: int, state: str) -> dict[str, Any]:
        """The newest message, once it is in that state."""
        async with asyncio.timeout(20):
            while (newest := (await self.thread(conversation_id))[0])["state"] != state:
                await asyncio.sleep(0.01)
        return newest


@pytest.fixture
async def desk(setting: Setting) -> AsyncIterator[Desk]:
    phone = await setting.sandbox.add_phone(await setting.sandbox.add_app(), messages_per_second=None)
    number = await add_channel(setting.database, setting.box, setting.workspace, phone)
    async with running_api(setting.database, setting.box) as api:
        assert api.account.workspace_id == setting.workspace
        ana, rui = await add_person(api, "Ana"), await add_person(api, "Rui")
        async with ana.http, rui.http:
            yield Desk(setting, api, ana, rui, number)


@asynccontextmanager
async def sending(desk: Desk, files: MediaFiles | None = None) -> AsyncIterator[None]:
    """A worker, and who follows what it does."""
    database, stop = desk.setting.database, asyncio.Event()
    worker, follower = Worker(database, desk.setting.box, desk.setting.options, files=files), ReplyFollower(database)
    bells = {
        replies.BELL: lambda _: follower.bell.set(),
        channel_jobs.BELL: lambda _: worker.jobs.bell.set(),
        DUE_BELL: lambda payload: worker.ring(),
    }
    async with database.listen(bells):
        tasks = [asyncio.create_task(worker.run(stop)), asyncio.create_task(follower.run(stop))]
        try:
            yield
        finally:
            stop.set()
            follower.bell.set()
            await asyncio.gather(*tasks)


async def say(person: Person, conversation_id: int, text: str | None = "Hello", **more: Any) -> httpx.Response:
    content = {} if text is None else {"content": {"type": "text", "text": text}}
    return await person.http.post("/api/send-message", json={"conversationId": conversation_id, **content, **more})


async def bodies(desk: Desk) -> list[dict[str, Any]]:
    async with desk.setting.database.borrow() as connection:
        rows = await connection.fetch("SELECT content, variables, recipient FROM outbox ORDER BY id")
    return [{**json.loads(row["content"]), "variables": json.loads(row["variables"] or "{}")} for row in rows]


async def rendered(desk: Desk) -> list[dict[str, Any]]:
    """Of the Page: what Meta gets."""
    return [
        json.loads(
            direct_payload(
                ChannelKind.MESSENGER, json.dumps({k: v for k, v in body.items() if k != "variables"})
            ).render("10001", "key", body["variables"])
        )
        for body in await bodies(desk)
    ]


async def test_a_reply_is_sent_as_it_was_typed_and_its_state_is_shown(desk: Desk) -> None:
    each = await desk.conversation(status="closed")
    answer = await say(desk.ana, each, "Braces {{ stay }} {% too %}")
    assert answer.status_code == 202, answer.text
    (body,) = await rendered(desk)
    assert (body["message"]["text"], body["messaging_type"]) == ("Braces {{ stay }} {% too %}", "RESPONSE")
    async with sending(desk):
        shown = await desk.shown(each, "accepted")
    (sent,) = await desk.setting.sandbox.messages()
    assert shown["providerId"] == sent["provider_id"]
    assert (shown["id"], shown["messageId"]) == (answer.json()["id"], answer.json()["messageId"])
    assert (shown["author"], shown["agentId"], shown["text"]) == ("agent", desk.ana.id, "Braces {{ stay }} {% too %}")

    row = (await desk.api.http.get(f"/api/conversations/{each}")).json()["conversation"]
    assert (row["status"], row["assigneeId"], row["unread"]) == ("open", desk.ana.id, 0)
    assert row["preview"] == "Braces {{ stay }} {% too %}"
    assert row["reads"] == {str(desk.ana.id): row["lastInboundId"]}
    async with desk.setting.database.borrow() as connection:
        assert await connection.fetchval("SELECT count(*) FROM reply_changes") == 0


async def test_who_answers_a_colleagues_conversation_does_not_take_it(desk: Desk) -> None:
    each = await desk.conversation()
    await desk.rui.http.patch(f"/api/conversations/{each}", json={"assigneeId": desk.rui.id})
    await say(desk.ana, each)
    row = (await desk.api.http.get(f"/api/conversations/{each}")).json()["conversation"]
    assert row["assigneeId"] == desk.rui.id


async def test_a_failed_reply_says_why_and_can_be_sent_again_once(desk: Desk) -> None:
    each = await desk.conversation()
    await desk.setting.fault(kind="error", code=551, http_status=400, recipient="10001", max_count=1)
    async with sending(desk):
        sent = (await say(desk.ana, each)).json()
        failed = await desk.shown(each, "failed")
        assert failed["error"]["code"] == 551
        retried = await desk.ana.http.post(f"/api/messages/{sent['id']}/retry")
        assert retried.status_code == 202, retried.text
        assert retried.json()["error"] is None
        shown = await desk.shown(each, "accepted")
    assert shown["id"] == sent["id"]
    assert shown["messageId"] != sent["messageId"]
    again = await desk.ana.http.post(f"/api/messages/{sent['id']}/retry")
    assert (again.status_code, desk.api.error(again)["code"]) == (409, "message_not_retryable")
    assert (await desk.ana.http.post("/api/messages/99999/retry")).status_code == 404
    assert len(await desk.setting.sandbox.messages()) == 1


async def test_a_retry_while_its_conversation_is_merged_into_another_goes_on_there(desk: Desk) -> None:
    kept, other = await desk.conversation(), await desk.conversation("10002")
    sent = (await say(desk.ana, other)).json()
    await desk.setting.database.worker.execute(
        "UPDATE conversation_messages SET state = 'failed' WHERE id = $1", sent["id"]
    )
    async with desk.setting.database.transaction() as merging:
        contacts = dict(await merging.fetch("SELECT id, contact_id FROM conversations ORDER BY id FOR UPDATE"))
        retrying = asyncio.create_task(desk.ana.http.post(f"/api/messages/{sent['id']}/retry"))
        async with desk.setting.database.borrow() as watching:
            await blocked(watching)
        await inbox_merging.merge(merging, desk.setting.workspace, contacts[kept], contacts[other])
    retried = await retrying
    assert retried.status_code == 202, retried.text
    assert (await desk.thread(kept))[0]["id"] == sent["id"]


@pytest.mark.parametrize("attached", [False, True])
async def test_a_reply_quotes_a_message_of_its_thread(desk: Desk, attached: bool) -> None:
    picture = {"type": "image", "url": "https://a.b/c.png"}
    asked: dict[str, Any] = {"text": None, "attachment": picture} if attached else {}
    for channel in (desk.setting.channel, desk.number):
        address = "10001" if channel == desk.setting.channel else "+351912345678"
        each = await desk.conversation(address, channel=channel)
        [first] = await desk.thread(each)
        answer = await say(desk.ana, each, **asked, replyTo=first["id"])
        assert answer.status_code == 202, answer.text
        assert (await desk.thread(each))[0]["replyTo"] == first["providerId"]
    messenger, whatsapp = await bodies(desk)
    assert messenger["payload"]["reply_to"]["mid"].startswith("in.")
    assert whatsapp["payload"]["context"]["message_id"].startswith("in.")
    async with sending(desk):
        await desk.shown(each, "accepted")
    assert len(await desk.setting.sandbox.messages()) == 2


async def test_a_retried_reply_quotes_what_it_quoted(desk: Desk) -> None:
    each = await desk.conversation()
    [first] = await desk.thread(each)
    await desk.setting.fault(kind="error", code=551, http_status=400, recipient="10001", max_count=1)
    async with sending(desk):
        sent = (await say(desk.ana, each, replyTo=first["id"])).json()
        await desk.shown(each, "failed")
    assert (await desk.ana.http.post(f"/api/messages/{sent['id']}/retry")).status_code == 202
    [body] = await bodies(desk)
    assert body["payload"]["reply_to"] == {"mid": first["providerId"]}


async def test_what_cannot_be_quoted_is_refused(desk: Desk) -> None:
    each, other = await desk.conversation(), await desk.conversation("10002")
    [theirs] = await desk.thread(other)
    note = (await desk.ana.http.post(f"/api/conversations/{each}/notes", json={"text": "VIP"})).json()
    queued = (await say(desk.ana, each)).json()
    for quoted, code in (
        (theirs, "message_not_found"),
        (note, "message_not_quotable"),
        (queued, "message_not_quotable"),
    ):
        answer = await say(desk.ana, each, replyTo=quoted["id"])
        assert desk.api.error(answer)["code"] == code
    phone = await desk.conversation("+351912345678", channel=desk.number)
    [first] = await desk.thread(phone)
    template = {"type": "template", "name": "hello", "language": "pt_PT"}
    answer = await say(desk.ana, phone, None, content=template, replyTo=first["id"])
    assert (answer.status_code, desk.api.error(answer)["code"]) == (422, "quote_not_possible")
    to = {"channelId": desk.setting.channel, "recipient": "10001", "content": {"type": "text", "text": "Hello"}}
    answer = await desk.ana.http.post("/api/send-message", json={**to, "replyTo": 1})
    assert (answer.status_code, desk.api.error(answer)["code"]) == (422, "validation_failed")


async def test_a_group_is_not_answered_as_if_it_were_a_person(desk: Desk) -> None:
    each = await desk.conversation("Y2FwaV9ncm91cA==", channel=desk.number)
    answer = await say(desk.ana, each)
    assert (answer.status_code, desk.api.error(answer)["code"]) == (422, "group_not_supported")
    assert await bodies(desk) == []


async def test_what_becomes_of_a_message_that_a_program_sends_is_shown_in_the_thread(desk: Desk) -> None:
    each = await desk.conversation()
    asked = {"channelId": desk.setting.channel, "recipient": "10001", "content": {"type": "text", "text": "Shipped"}}
    async with sending(desk):
        sent = await desk.api.http.post("/api/send-message", json={**asked, "class": "transactional"})
        assert sent.status_code == 202, sent.text
        shown = await desk.shown(each, "accepted")
    assert (shown["author"], shown["text"]) == ("app", "Shipped")


@pytest.mark.parametrize("where", ["conversation", "recipient"])
async def test_a_message_in_doubt_is_shown_as_uncertain_until_it_is_settled(desk: Desk, where: str) -> None:
    each = await desk.conversation()
    to: dict[str, Any] = {"conversationId": each}
    if where == "recipient":
        to = {"channelId": desk.setting.channel, "recipient": "10001", "class": "transactional"}
    await desk.setting.fault(kind="lost_answer", recipient="10001", max_count=1)
    desk = replace(desk, setting=replace(desk.setting, options=replace(desk.setting.options, answer_timeout_s=0.3)))
    async with sending(desk):
        asked = {"content": {"type": "text", "text": "Hello"}, **to}
        sent = (await desk.ana.http.post("/api/send-message", json=asked)).json()
        await desk.shown(each, "uncertain")
        (found,) = await desk.setting.sandbox.messages()
        async with desk.setting.database.transaction() as connection:
            today = await connection.fetchval("SELECT (now() AT TIME ZONE 'UTC')::date")
            await settlement.settle_evidence(
                connection,
                [
                    settlement.Evidence(
                        desk.setting.workspace,
                        desk.setting.channel,
                        sent["messageId"],
                        1,
                        today,
                        found["provider_id"],
                        ago(),
                    )
                ],
            )
        assert (await desk.shown(each, "accepted"))["providerId"] == found["provider_id"]


async def test_receipts_and_cancelling_are_followed_and_a_campaigns_messages_leave_no_trace(desk: Desk) -> None:
    each = await desk.conversation()
    run = await desk.setting.run(3)
    follower = ReplyFollower(desk.setting.database)
    async with sending(desk):
        await say(desk.ana, each)
        provider_id = (await desk.shown(each, "accepted"))["providerId"]
        async with asyncio.timeout(20):
            while await desk.setting.value("SELECT count(*) FROM outbox"):
                await asyncio.sleep(0.01)
    place = desk.setting.workspace, desk.setting.channel
    for state, name in ((DeliveryState.DELIVERED, "delivered"), (DeliveryState.READ, "read")):
        async with desk.setting.database.transaction() as connection:
            await receipts.apply(connection, [Receipt(*place, provider_id, state.rank, ago())])
            others = await connection.fetch(
                "SELECT provider_id FROM deliveries WHERE run_id = $1 ORDER BY id", run.run_id
            )
            await receipts.apply(connection, [Receipt(*place, other[0], state.rank, ago()) for other in others])
        assert await desk.setting.value("SELECT count(*) FROM reply_changes") == 1
        assert await follower.run_once() == 1
        assert (await desk.thread(each))[0]["state"] == name

    sent = (await say(desk.ana, each)).json()
    async with desk.setting.database.transaction() as connection:
        await settlement.settle(
            connection, [Settled(*place, sent["messageId"], 0, ago().date(), CANCELLED, None, None, None, None)]
        )
    await follower.run_once()
    assert (await desk.thread(each))[0]["error"] == {"code": None, "title": "Cancelled"}


async def test_what_was_followed_is_rung_for_and_brings_a_reaction_that_came_before(desk: Desk) -> None:
    sent = (await say(desk.ana, each := await desk.conversation())).json()
    place = desk.setting.workspace, desk.setting.channel
    async with desk.setting.database.transaction() as connection:
        await message_changes.keep(connection, [Change(*place, "m_1", "reaction", "contact", ago(), 0, "❤", "{}")])
        await settlement.settle(
            connection, [Settled(*place, sent["messageId"], 0, ago().date(), ACCEPTED, "m_1", None, None, None)]
        )
    rung = asyncio.Event()
    async with desk.setting.database.listen({events.BELL: lambda _: rung.set()}), asyncio.timeout(20):
        await ReplyFollower(desk.setting.database).run_once()
        await rung.wait()
    shown = (await desk.thread(each))[0]
    assert (shown["state"], shown["providerId"], shown["reactions"]) == ("accepted", "m_1", {"contact": "❤"})


async def test_following_twice_and_late_changes_nothing_and_tells_nobody(desk: Desk) -> None:
    each = await desk.conversation()
    async with sending(desk):
        await say(desk.ana, each)
        shown = await desk.shown(each, "accepted")
    told = await desk.setting.value("SELECT count(*) FROM events")
    async with desk.setting.database.transaction() as connection:
        await connection.execute(
            "INSERT INTO reply_changes (workspace_id, message_id) SELECT $1, $2 FROM generate_series(1, 3)",
            desk.setting.workspace,
            shown["messageId"],
        )
    assert await ReplyFollower(desk.setting.database).run_once() == 3
    assert await desk.setting.value("SELECT count(*) FROM events") == told
    assert (await desk.thread(each))[0] == shown


async def test_somebody_elses_answer_meanwhile_is_a_collision_unless_forced(desk: Desk) -> None:
    each = await desk.conversation()
    seen = (await desk.thread(each))[0]["id"]
    first = await say(desk.rui, each, "Mine", lastSeenMessageId=seen)
    refused = await say(desk.ana, each, "Mine too", lastSeenMessageId=seen)
    assert refused.status_code == 409
    error = desk.api.error(refused)
    assert (error["code"], error["details"]["id"], error["details"]["text"]) == (
        "answered_meanwhile",
        first.json()["id"],
        "Mine",
    )
    # One's own reply, and a note, are none.
    await desk.ana.http.post(f"/api/conversations/{each}/notes", json={"text": "psst"})
    assert (await say(desk.rui, each, "And", lastSeenMessageId=seen)).status_code == 202
    assert (await say(desk.ana, each, "Too", lastSeenMessageId=seen, force=True)).status_code == 202
    newest = (await desk.thread(each))[0]["id"]
    assert (await say(desk.rui, each, "Seen", lastSeenMessageId=newest)).status_code == 202


async def test_an_answer_from_metas_own_inbox_is_a_collision_too(desk: Desk) -> None:
    each = await desk.conversation()
    seen = (await desk.thread(each))[0]["id"]

    async def answered(provider_id: str, at: datetime, message_id: int | None = None) -> None:
        await desk.setting.database.worker.execute(
            """INSERT INTO conversation_messages (workspace_id, conversation_id, channel_id, direction, author, kind,
                                                  text, provider_id, message_id, state, at)
               VALUES ($1, $2, $3, 'out', 'app', 'text', 'Mine', $4, $5, 'accepted', $6)""",
            desk.setting.workspace,
            each,
            desk.setting.channel,
            provider_id,
            message_id,
            at,
        )

    # What a program sends through Pombo answers nobody, and what a sync brings of the past is no answer to this.
    await answered("m_1", ago(), message_id=4711)
    await answered("m_2", ago(hours=1))
    assert (await say(desk.ana, each, lastSeenMessageId=seen)).status_code == 202
    await answered("m_3", ago())
    refused = await say(desk.ana, each, lastSeenMessageId=seen)
    error = desk.api.error(refused)
    assert (error["code"], error["details"]["providerId"]) == ("answered_meanwhile", "m_3")
    assert (await say(desk.ana, each, lastSeenMessageId=seen, force=True)).status_code == 202
    assert (await say(desk.ana, each, lastSeenMessageId=error["details"]["id"])).status_code == 202


async def test_two_answers_at_once_collide_too(desk: Desk) -> None:
    each = await desk.conversation()
    seen = (await desk.thread(each))[0]["id"]
    answers = await asyncio.gather(
        say(desk.ana, each, lastSeenMessageId=seen), say(desk.rui, each, lastSeenMessageId=seen)
    )
    assert sorted(answer.status_code for answer in answers) == [202, 409]


async def test_the_window_decides_what_may_be_sent(desk: Desk) -> None:
    template = {"type": "template", "name": "hello", "language": "pt_PT"}

    async def window(conversation_id: int) -> dict[str, Any]:
        found: dict[str, Any] = (await desk.api.http.get(f"/api/conversations/{conversation_id}")).json()["window"]
        return found

    fresh = await desk.conversation("1")
    assert (await window(fresh))["allowed"] == ["message"]

    days = await desk.conversation("2", at=ago(days=3))
    found = await window(days)
    assert (found["open"], found["allowed"]) == (False, ["human_agent"])
    assert datetime.fromisoformat(found["closesAt"]) < ago()
    refused = await say(desk.ana, days)
    assert (refused.status_code, desk.api.error(refused)["code"]) == (422, "reply_window_closed")
    assert desk.api.error(refused)["details"] == {"allowed": ["human_agent"]}
    assert (await say(desk.ana, days, humanAgent=True)).status_code == 202

    weeks = await desk.conversation("3", at=ago(days=8))
    assert (await window(weeks))["allowed"] == []
    assert desk.api.error(await say(desk.ana, weeks, humanAgent=True))["code"] == "reply_window_closed"

    late = await desk.conversation("+351912345678", channel=desk.number, at=ago(hours=25))
    assert (await window(late))["allowed"] == ["template"]
    assert desk.api.error(await say(desk.ana, late))["code"] == "reply_window_closed"
    assert (await say(desk.ana, late, None, content=template)).status_code == 202

    never = await desk.conversation("+351912345679", channel=desk.number, texts=())
    assert await window(never) == {"open": False, "closesAt": None, "allowed": ["template"]}
    # Only what may be sent was queued or stands in a thread.
    assert [body["type"] for body in await bodies(desk)] == ["raw", "template"]
    assert [len(await desk.thread(each)) for each in (days, weeks, late, never)] == [2, 1, 2, 0]


async def test_a_persons_late_answer_leaves_with_the_tag_for_it(desk: Desk) -> None:
    each = await desk.conversation(at=ago(days=3))
    await say(desk.ana, each, humanAgent=True)
    (body,) = await rendered(desk)
    assert (body["messaging_type"], body["tag"]) == ("MESSAGE_TAG", "HUMAN_AGENT")
    async with sending(desk):
        await desk.shown(each, "accepted")


async def test_attachments_leave_in_the_shape_of_their_platform(desk: Desk) -> None:
    page, number = await desk.conversation(), await desk.conversation("+351912345678", channel=desk.number)
    image = {"type": "image", "url": "https://example.com/{{ a }}.png".replace(" ", "")}
    file = {"type": "file", "url": "https://example.com/a.pdf", "fileName": "bill.pdf"}
    assert (await say(desk.ana, page, None, attachment=image)).status_code == 202
    assert (await say(desk.ana, number, "Look {{ here }}", attachment=image)).status_code == 202
    assert (await say(desk.ana, number, None, attachment=file)).status_code == 202
    first, second, third = await bodies(desk)
    url = "https://example.com/%7B%7Ba%7D%7D.png"
    assert first["payload"]["message"] == {"attachment": {"type": "image", "payload": {"url": url}}}
    assert second["payload"] == {"type": "image", "image": {"link": url, "caption": "{{ text }}"}}
    assert second["variables"] == {"text": "Look {{ here }}"}
    assert third["payload"]["document"] == {"link": file["url"], "filename": "bill.pdf"}
    assert (await desk.thread(number))[0]["content"] == {"attachments": [file]}

    refused = await say(desk.ana, page, "Look", attachment=image)
    assert desk.api.error(refused)["code"] == "caption_not_possible"


async def test_a_file_of_ours_is_uploaded_once_and_then_sent(desk: Desk, tmp_path: Path) -> None:
    files, content = DirectoryFiles(tmp_path), b"\x89PNG\r\n\x1a\nrest"
    digest = hashlib.sha256(content).digest()
    await files.put(desk.setting.workspace, digest, content)
    async with desk.setting.database.transaction() as connection:
        file = await media.add_stored(connection, desk.setting.workspace, digest, len(content), "image/png", "a.png")
    each = await desk.conversation("+351912345678", channel=desk.number)
    async with sending(desk, files):
        first = await say(desk.ana, each, "Look", attachment={"mediaId": file})
        assert first.status_code == 202, first.text
        assert "messageId" not in first.json()
        shown = await desk.shown(each, "accepted")
        assert (await say(desk.ana, each, None, attachment={"mediaId": file})).json()["messageId"]
        await desk.shown(each, "accepted")
    assert (shown["kind"], shown["text"]) == ("image", "Look")
    assert shown["content"] == {"attachments": [{"type": "image", "mediaId": file, "fileName": "a.png"}]}
    assert len(await desk.setting.sandbox.messages()) == 2
    assert await desk.setting.value("SELECT count(*) FROM media_uploads") == 1
    assert await desk.setting.value("SELECT count(*) FROM waiting_replies") == 0

    missing = await say(desk.ana, each, None, attachment={"mediaId": 999})
    assert (missing.status_code, desk.api.error(missing)["code"]) == (404, "media_not_found")
    both = await say(desk.ana, each, None, attachment={"mediaId": file, "type": "image", "url": "https://a.b/c"})
    assert desk.api.error(both)["code"] == "validation_failed"


async def test_a_reply_whose_file_cannot_be_uploaded_fails_and_may_be_tried_again(desk: Desk) -> None:
    async with desk.setting.database.transaction() as connection:
        file = await media.add_stored(connection, desk.setting.workspace, b"d" * 32, 4, "application/pdf", None)
    each = await desk.conversation()
    sent = (await say(desk.ana, each, None, attachment={"mediaId": file})).json()
    follower = ReplyFollower(desk.setting.database)
    await follower.run_once()
    assert (await desk.thread(each))[0]["state"] == "queued"
    async with desk.setting.database.transaction() as connection:
        await connection.execute(
            """UPDATE channel_jobs SET state = 'failed', failed_at = now(), error_code = 100,
                   error_title = 'Too large for Meta'"""
        )
    await follower.run_once()
    failed = (await desk.thread(each))[0]
    assert (failed["state"], failed["error"]) == ("failed", {"code": 100, "title": "Too large for Meta"})

    assert (await desk.ana.http.post(f"/api/messages/{sent['id']}/retry")).status_code == 202
    await follower.run_once()
    assert (await desk.thread(each))[0]["state"] == "queued"
    async with desk.setting.database.transaction() as connection:
        await media.note_upload(connection, desk.setting.workspace, file, desk.setting.channel, "1857")
    await follower.run_once()
    (body,) = await bodies(desk)
    assert body["payload"]["message"] == {"attachment": {"type": "file", "payload": {"attachment_id": "1857"}}}
    assert (await desk.thread(each))[0]["messageId"] is not None


async def test_a_reply_asks_for_what_it_needs_and_nothing_is_half_stored(desk: Desk) -> None:
    each = await desk.conversation()
    for more, status, code in (
        ({"text": None}, 422, "content_missing"),
        ({"text": "  "}, 422, "text_empty"),
        ({"text": "x" * 2001}, 422, "text_too_long"),
        ({"recipient": "10001"}, 422, "validation_failed"),
        ({"variables": {"a": 1}}, 422, "validation_failed"),
        ({"attachment": {"type": "image", "url": "ftp://x"}}, 422, "validation_failed"),
    ):
        answer = await say(desk.ana, each, **more)
        assert (answer.status_code, desk.api.error(answer)["code"]) == (status, code), answer.text
    missing = await say(desk.ana, 9999)
    assert (missing.status_code, desk.api.error(missing)["code"]) == (404, "conversation_not_found")
    nowhere = await desk.ana.http.post("/api/send-message", json={"content": {"type": "text", "text": "x"}})
    assert desk.api.error(nowhere)["code"] == "validation_failed"
    assert len(await desk.thread(each)) == 1
    assert await bodies(desk) == []
    assert await desk.setting.value("SELECT count(*) FROM events") == 0


async def test_a_repeated_request_answers_once(desk: Desk) -> None:
    each = await desk.conversation()
    body = {"conversationId": each, "content": {"type": "text", "text": "Once"}}
    first, second = [
        await desk.ana.http.post("/api/send-message", json=body, headers={"Idempotency-Key": "k"}) for _ in range(2)
    ]
    assert first.json() == second.json()
    assert second.headers["Idempotent-Replay"] == "true"
    assert len(await desk.thread(each)) == 2
