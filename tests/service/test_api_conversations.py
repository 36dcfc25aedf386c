"""Conversations over HTTP: list, filters, search, changes, notes; each action told to open browsers by events."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from pombo.api.conversations import ConversationDetail, ConversationList
from pombo.api.threads import ThreadPage
from pombo.domain.ids import AgentId
from pombo.inbox.duties import strip_deleted_labels, wake_snoozed
from pombo.store.database import Database
from pombo.store.secrets import SecretBox
from tests.api_client import Api, running_api
from tests.conversations import Person, add_conversation, add_person, ago
from tests.told import told


@pytest.fixture
async def api(database: Database, box: SecretBox) -> AsyncIterator[Api]:
    async with running_api(database, box) as running:
        yield running


@pytest.fixture
async def ana(api: Api) -> AsyncIterator[Person]:
    person = await add_person(api, "Ana")
    yield person
    await person.http.aclose()


@pytest.fixture
async def rui(api: Api) -> AsyncIterator[Person]:
    person = await add_person(api, "Rui")
    yield person
    await person.http.aclose()


async def conversation(api: Api, address: str, *texts: str, **more: Any) -> int:
    channel = more.pop("channel", api.account.number)
    return await add_conversation(api.database, api.account.workspace_id, channel, address, texts or ("Hi",), **more)


async def listed(http: httpx.AsyncClient, **query: Any) -> list[int]:
    """Ids of all pages, as many as are counted."""
    counted = None if "search" in query else await count(http, **query)
    ids: list[int] = []
    while True:
        answer = await http.get("/api/conversations", params=query)
        assert answer.status_code == 200, answer.text
        page = ConversationList.model_validate_json(answer.text)
        ids += [row.id for row in page.conversations]
        if page.next is None:
            assert counted in (None, {"count": len(ids), "more": False})
            return ids
        query["cursor"] = page.next


async def count(http: httpx.AsyncClient, **query: Any) -> dict[str, Any]:
    answer = await http.get("/api/conversations/count", params=query)
    assert answer.status_code == 200, answer.text
    counted: dict[str, Any] = answer.json()
    return counted


async def change(http: httpx.AsyncClient, conversation_id: int, **wanted: Any) -> dict[str, Any]:
    answer = await http.patch(f"/api/conversations/{conversation_id}", json=wanted)
    assert answer.status_code == 200, answer.text
    changed: dict[str, Any] = answer.json()
    return changed


# --- state + events = state fetched again -----------------------------------------------------------------------------


class Browser:
    """Keeps rows by id, takes events with a version guard, as the page does."""

    def __init__(self, http: httpx.AsyncClient, conversation_id: int) -> None:
        self._http = http
        self._id = conversation_id

    async def fetch(self) -> dict[str, dict[int, Any]]:
        conversations = (await self._http.get("/api/conversations", params={"limit": 100})).json()["conversations"]
        messages = (await self._http.get(f"/api/messages/{self._id}")).json()["messages"]
        labels = (await self._http.get("/api/labels")).json()["labels"]
        canned = (await self._http.get("/api/canned-replies")).json()["cannedReplies"]
        named = {"conversation": conversations, "message": messages, "label": labels, "canned_reply": canned}
        return {name: {row["id"]: row for row in rows} for name, rows in named.items()}

    def apply(self, state: dict[str, dict[int, Any]], events: list[tuple[str, str, Any]]) -> None:
        for topic, name, row in events:
            if topic not in ("conversations:all", f"messages:{self._id}"):
                continue
            kind, verb = name.split(".")
            known = state[kind].get(row["id"])
            if verb == "deleted":
                state[kind].pop(row["id"], None)
            elif known is None or known["version"] < row["version"]:
                state[kind][row["id"]] = row


async def events(database: Database) -> list[tuple[str, str, Any]]:
    async with database.borrow() as connection:
        return await told(connection)


Action = Callable[[Api, Person, int], Awaitable[Any]]


async def _reply_and_fail(api: Api, ana: Person, each: int) -> None:
    sent = await ana.http.post(
        "/api/send-message", json={"conversationId": each, "content": {"type": "text", "text": "x"}}
    )
    async with api.database.transaction() as connection:
        await connection.execute("UPDATE conversation_messages SET state = 'failed' WHERE id = $1", sent.json()["id"])


async def _retry(api: Api, ana: Person, each: int) -> None:
    found = (await ana.http.get(f"/api/messages/{each}")).json()["messages"][0]["id"]
    assert (await ana.http.post(f"/api/messages/{found}/retry")).status_code == 202


async def _label(api: Api, ana: Person, each: int) -> int:
    made = await ana.http.post("/api/labels", json={"name": "VIP", "colour": "#FF0000"})
    label_id: int = made.json()["id"]
    return label_id


async def _give_label(api: Api, ana: Person, each: int) -> None:
    await change(ana.http, each, labelIds=[await _label(api, ana, each)])


async def _delete_label(api: Api, ana: Person, each: int) -> None:
    (label,) = (await ana.http.get("/api/labels")).json()["labels"]
    assert (await ana.http.delete(f"/api/labels/{label['id']}")).status_code == 204
    assert await strip_deleted_labels(api.database) == 1


async def _snooze(api: Api, ana: Person, each: int) -> None:
    await change(ana.http, each, snoozedUntil=ago(seconds=1).isoformat())


async def _wake(api: Api, ana: Person, each: int) -> None:
    assert await wake_snoozed(api.database) == 1


async def _can(api: Api, ana: Person, each: int) -> None:
    assert (await ana.http.post("/api/canned-replies", json={"shortcut": "hi", "text": "Hello"})).status_code == 201


async def _change_canned(api: Api, ana: Person, each: int) -> None:
    (reply,) = (await ana.http.get("/api/canned-replies")).json()["cannedReplies"]
    changed = await ana.http.patch(f"/api/canned-replies/{reply['id']}", json={"text": "Good morning"})
    assert changed.json()["text"] == "Good morning"


async def _delete_canned(api: Api, ana: Person, each: int) -> None:
    (reply,) = (await ana.http.get("/api/canned-replies")).json()["cannedReplies"]
    assert (await ana.http.delete(f"/api/canned-replies/{reply['id']}")).status_code == 204


async def _recolour(api: Api, ana: Person, each: int) -> None:
    (label,) = (await ana.http.get("/api/labels")).json()["labels"]
    assert (await ana.http.patch(f"/api/labels/{label['id']}", json={"colour": "#00ff00"})).status_code == 200


def _patch(**wanted: Any) -> Action:
    async def act(api: Api, ana: Person, each: int) -> None:
        await change(ana.http, each, **wanted)

    return act


async def _assign(api: Api, ana: Person, each: int) -> None:
    await change(ana.http, each, assigneeId=ana.id)


async def _reply(api: Api, ana: Person, each: int) -> None:
    said = {"conversationId": each, "content": {"type": "text", "text": "Hello {{ you }}"}}
    assert (await ana.http.post("/api/send-message", json=said)).status_code == 202


async def _first(ana: Person, each: int) -> int:
    """The id of the thread's first message."""
    found: int = (await ana.http.get(f"/api/messages/{each}")).json()["messages"][-1]["id"]
    return found


async def _read_the_first(api: Api, ana: Person, each: int) -> None:
    await change(ana.http, each, read=True, readUntil=await _first(ana, each))


async def _reply_to_the_first(api: Api, ana: Person, each: int) -> None:
    said = {
        "conversationId": each,
        "content": {"type": "text", "text": "x"},
        "lastSeenMessageId": await _first(ana, each),
    }
    assert (await ana.http.post("/api/send-message", json=said)).status_code == 202


async def _programs_reply(api: Api, ana: Person, each: int) -> None:
    said = {"conversationId": each, "content": {"type": "text", "text": "x"}}
    assert (await api.http.post("/api/send-message", json=said)).status_code == 202


async def _note(api: Api, ana: Person, each: int) -> None:
    assert (await ana.http.post(f"/api/conversations/{each}/notes", json={"text": "Likes blue"})).status_code == 201


# Before (what must have happened), and the action that is looked at.
ACTIONS: dict[str, tuple[list[Action], Action]] = {
    "close": ([], _patch(status="closed")),
    "reopen": ([_patch(status="closed")], _patch(status="open")),
    "snooze": ([], _snooze),
    "wake": ([_snooze], _wake),
    "assign": ([], _assign),
    "unassign": ([_assign], _patch(assigneeId=None)),
    "read": ([], _patch(read=True)),
    "read up to a message": ([], _read_the_first),
    "unread": ([_patch(read=True)], _patch(read=False)),
    "label": ([], _give_label),
    "unlabel": ([_give_label], _patch(labelIds=[])),
    "change a label": ([_label], _recolour),
    "delete a label": ([_give_label], _delete_label),
    "reply": ([_patch(status="closed")], _reply),
    "reply to what was seen": ([_patch(status="closed")], _reply_to_the_first),
    "a program's reply": ([], _programs_reply),
    "retry": ([_reply_and_fail], _retry),
    "note": ([], _note),
    "add a canned reply": ([], _can),
    "change a canned reply": ([_can], _change_canned),
    "delete a canned reply": ([_can], _delete_canned),
}


@pytest.mark.parametrize("name", ACTIONS)
async def test_state_and_events_applied_are_the_state_fetched_again(api: Api, ana: Person, name: str) -> None:
    before, action = ACTIONS[name]
    each = await conversation(api, "+351912345678", "One", "Two", name="Maria")
    await conversation(api, "+351912345679", "Other")
    for step in before:
        await step(api, ana, each)
    browser = Browser(api.http, each)
    state = await browser.fetch()
    old = json.dumps(state, sort_keys=True)
    seen = len(await events(api.database))

    await action(api, ana, each)

    told = (await events(api.database))[seen:]
    browser.apply(state, told)
    again = await browser.fetch()
    assert state == again
    assert json.dumps(again, sort_keys=True) != old
    # Twice and in the wrong order does no harm.
    browser.apply(state, list(reversed(told)) if not name.startswith("delete") else told)
    assert state == again


async def test_answers_have_the_shapes_of_the_document(api: Api, ana: Person) -> None:
    each = await conversation(api, "+351912345678", "One", name="Maria")
    await _reply(api, ana, each)
    await change(ana.http, each, read=True)
    detail = ConversationDetail.model_validate_json((await ana.http.get(f"/api/conversations/{each}")).text)
    page = ThreadPage.model_validate_json((await ana.http.get(f"/api/messages/{each}")).text)
    assert detail.conversation.contact.name == "Maria"
    assert detail.window.open
    assert [message.author for message in page.messages] == ["agent", "contact"]


# --- the list ---------------------------------------------------------------------------------------------------------


async def test_the_last_active_come_first_page_by_page(api: Api) -> None:
    ids = [await conversation(api, f"+35191234567{n}", at=ago(minutes=n)) for n in range(7)]
    assert await listed(api.http, limit=3) == ids
    assert await listed(api.http, limit=100) == ids


async def test_badges_count_to_a_hundred(api: Api, ana: Person) -> None:
    mine = [await conversation(api, f"+351912345{n}", at=ago(minutes=n)) for n in range(100, 200)]
    assert await count(api.http, unread=True) == {"count": 100, "more": False}
    await conversation(api, "+351912345200")
    assert await count(api.http, unread=True) == {"count": 100, "more": True}
    await change(ana.http, mine[0], assigneeId=ana.id)
    assert await count(ana.http, assignee="mine", unread=True) == {"count": 1, "more": False}
    assert (await api.http.get("/api/conversations/count", params={"assignee": "mine"})).status_code == 403


async def test_filters_may_be_given_several_at_once(api: Api, ana: Person, rui: Person) -> None:
    label = await _label(api, ana, 0)
    hers = await conversation(api, "+351912345670", at=ago(minutes=1))
    his = await conversation(api, "+351912345671", at=ago(minutes=2))
    nobodys = await conversation(api, "77", channel=api.account.page, at=ago(minutes=3))
    closed = await conversation(api, "+351912345673", at=ago(minutes=4), status="closed")
    await change(api.http, hers, assigneeId=ana.id, labelIds=[label])
    await change(api.http, his, assigneeId=rui.id, read=True)
    await change(api.http, closed, assigneeId=ana.id, labelIds=[label])
    page = api.account.page

    assert await listed(ana.http) == [hers, his, nobodys, closed]
    assert await listed(ana.http, status="open") == [hers, his, nobodys]
    assert await listed(ana.http, status=["open", "closed"]) == [hers, his, nobodys, closed]
    assert await listed(ana.http, assignee="mine") == [hers, closed]
    assert await listed(rui.http, assignee="mine") == [his]
    assert await listed(rui.http, assignee=str(ana.id), status="open") == [hers]
    assert await listed(ana.http, assignee="unassigned") == [nobodys]
    assert await listed(ana.http, channelId=page) == [nobodys]
    assert await listed(ana.http, labelId=label) == [hers, closed]
    assert await listed(ana.http, labelId=label, status="closed", assignee="mine") == [closed]
    assert await listed(ana.http, labelId=label, channelId=page) == []
    assert await listed(api.http, unread=True) == [hers, nobodys, closed]
    assert await listed(api.http, unread=True, assignee="unassigned") == [nobodys]


async def test_unread_is_each_agents_own(api: Api, ana: Person, rui: Person) -> None:
    new, other = [await conversation(api, f"+35191234567{n}") for n in (1, 2)]
    assert await listed(ana.http, unread=True) == [other, new]
    # What came before an agent did is not unread for the agent.
    eva = await add_person(api, "Eva")
    assert await listed(eva.http, unread=True) == []
    late = await conversation(api, "+351912345670", at=ago(minutes=5))
    assert await listed(eva.http, unread=True) == [late]
    await eva.http.aclose()
    await change(ana.http, late, read=True)
    await change(rui.http, late, read=True)

    row = await change(ana.http, new, read=True)
    assert await listed(ana.http, unread=True) == [other]
    assert await listed(rui.http, unread=True) == [other, new]
    assert row["reads"] == {str(ana.id): row["lastInboundId"]}
    assert row["unread"] == 0

    await change(ana.http, new, read=False)
    assert await listed(ana.http, unread=True) == [other, new]


async def test_what_came_after_what_was_seen_stays_unread(api: Api, ana: Person, rui: Person) -> None:
    each = await conversation(api, "+351912345670", "One", "Two", "Three")
    ids = [message["id"] for message in reversed((await api.http.get(f"/api/messages/{each}")).json()["messages"])]

    row = await change(ana.http, each, read=True, readUntil=ids[0])
    assert (row["unread"], row["reads"]) == (2, {str(ana.id): ids[0]})
    assert await listed(ana.http, unread=True) == [each]

    said = {"conversationId": each, "content": {"type": "text", "text": "Yes"}}
    await rui.http.post("/api/send-message", json={**said, "lastSeenMessageId": ids[1]})
    row = (await api.http.get(f"/api/conversations/{each}")).json()["conversation"]
    assert (row["unread"], row["reads"]) == (1, {str(ana.id): ids[0], str(rui.id): ids[1]})
    assert await listed(rui.http, unread=True) == [each]

    # What is said late of less than was read changes nothing, and nobody reads what has not come.
    assert (await change(rui.http, each, read=True, readUntil=ids[0])) == row
    row = await change(rui.http, each, read=True, readUntil=2**63 - 1)
    assert (row["unread"], row["reads"][str(rui.id)]) == (0, ids[2])
    assert await listed(rui.http, unread=True) == []
    assert await listed(ana.http, unread=True) == [each]

    await ana.http.post("/api/send-message", json=said)
    assert await listed(ana.http, unread=True) == []


async def test_a_programs_reply_leaves_unread_what_is_unread(api: Api, ana: Person) -> None:
    each = await conversation(api, "+351912345670", "One", "Two")
    seen = (await api.http.get(f"/api/messages/{each}")).json()["messages"][0]["id"]
    said = {"conversationId": each, "content": {"type": "text", "text": "Soon"}, "lastSeenMessageId": seen}
    assert (await api.http.post("/api/send-message", json=said)).status_code == 202
    row = (await api.http.get(f"/api/conversations/{each}")).json()["conversation"]
    assert (row["unread"], row["reads"]) == (2, {})
    row = await change(api.http, each, read=True, readUntil=seen)
    assert row["unread"] == 0


async def test_what_an_agent_has_read_from_the_beginning_stays_read(api: Api) -> None:
    each = await conversation(api, "+351912345670", "One", "Two")
    first = (await api.http.get(f"/api/messages/{each}")).json()["messages"][-1]["id"]
    eva = await add_person(api, "Eva")
    await change(eva.http, each, read=True, readUntil=first)
    assert await listed(eva.http, unread=True) == []
    await eva.http.aclose()


async def test_until_when_it_was_read_goes_with_reading_alone(api: Api, ana: Person) -> None:
    each = await conversation(api, "+351912345670")
    for wanted in ({"readUntil": 1}, {"read": False, "readUntil": 1}, {"read": True, "readUntil": -1}):
        answer = await ana.http.patch(f"/api/conversations/{each}", json=wanted)
        assert (answer.status_code, api.error(answer)["code"]) == (422, "validation_failed")


async def test_a_rare_combination_is_found_over_several_pages(
    api: Api, ana: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pombo.store import conversation_list

    monkeypatch.setattr(conversation_list, "_LOOKED_AT", 5)
    monkeypatch.setattr(
        conversation_list,
        "_STATEMENTS",
        {path: conversation_list._statement(path) for path in conversation_list._STATEMENTS},
    )
    ids = [
        await conversation(api, f"+3519123456{n:02}", at=ago(minutes=n), status="closed" if n % 3 == 0 else "open")
        for n in range(40)
    ]
    rare = [ids[n] for n in (3, 17, 18, 39)]
    for each in rare:
        await change(api.http, each, assigneeId=ana.id)
    assert await listed(ana.http, assignee="mine", channelId=api.account.number, limit=2) == rare
    assert await listed(ana.http, assignee="mine", channelId=api.account.page) == []


# --- search -----------------------------------------------------------------------------------------------------------


async def test_search_finds_contacts_by_the_beginning_of_a_name_a_word_or_an_address(api: Api) -> None:
    silva = await conversation(api, "+351912345678", name="Ana João Silva", at=ago(minutes=1))
    other = await conversation(api, "+5511987654321", name="Silvério", at=ago(minutes=2))
    async with api.database.transaction() as connection:
        await connection.execute(
            """INSERT INTO identities (workspace_id, channel_id, identity, contact_id)
               SELECT workspace_id, channel_id, 'PT.1349', id FROM contacts WHERE name = 'Silvério'"""
        )
    assert await listed(api.http, search="ana") == [silva]
    assert await listed(api.http, search="Ana Joao s") == [silva]
    assert await listed(api.http, search="silv") == [silva, other]
    assert await listed(api.http, search="SILVERIO") == [other]
    assert await listed(api.http, search="+351 912 3") == [silva]
    assert await listed(api.http, search="5511") == [other]
    assert await listed(api.http, search="PT.13") == [other]
    assert await listed(api.http, search="%") == []
    assert await listed(api.http, search="nobody") == []


async def test_search_finds_messages_by_words_newest_first_and_says_which(api: Api) -> None:
    days = (0, 1, 3, 40, 400, 3000)
    ids = [
        await conversation(api, f"+35191234567{n}", f"A encomenda não chegou ({n})", at=ago(days=day))
        for n, day in enumerate(days)
    ]
    await conversation(api, "77", "Olá", channel=api.account.page)
    answer = (await api.http.get("/api/conversations", params={"search": "Encomenda NAO"})).json()
    assert [row["id"] for row in answer["conversations"]] == ids
    assert [match["conversationId"] for match in answer["matches"]] == ids
    assert answer["matches"][0]["text"] == "A encomenda não chegou (0)"
    assert await listed(api.http, search="encomenda", limit=2) == ids
    assert await listed(api.http, search="encomenda", channelId=api.account.page) == []
    assert await listed(api.http, search="encomenda chegou nunca") == []
    await change(api.http, ids[2], status="closed")
    assert await listed(api.http, search="encomenda", status="closed") == [ids[2]]


async def test_search_takes_a_crowded_span_of_time_in_parts(api: Api) -> None:
    each = await conversation(api, "+351912345678", "needle", at=ago(days=4))
    async with api.database.transaction() as connection:
        # A thousand and more in two hours of last month, so that a wider span holds too many to be sorted.
        await connection.execute(
            """INSERT INTO conversation_messages (workspace_id, conversation_id, channel_id, direction, author, kind,
                                                  text, at)
               SELECT $1, $2, $3, 'in', 'contact', 'text', 'needle',
                      date_trunc('hour', now()) - interval '100 days' + n * interval '5 seconds'
               FROM generate_series(1, 1500) n""",
            api.account.workspace_id,
            each,
            api.account.number,
        )
        newest = await connection.fetch(
            "SELECT id FROM conversation_messages WHERE text = 'needle' ORDER BY at DESC, id DESC"
        )
    async with api.database.tenant(api.account.workspace_id) as connection:
        found = await connection.fetch(
            "SELECT message_id FROM search_messages('needle', now() + interval '1 hour', 1, 700)"
        )
        again = await connection.fetchrow(
            "SELECT * FROM search_messages('needle', now() + interval '1 hour', 1, 700) OFFSET 699"
        )
        rest = await connection.fetch(
            "SELECT message_id FROM search_messages('needle', $1, $2, 5000)", again["at"], again["message_id"]
        )
    assert [row[0] for row in (*found, *rest)] == [row[0] for row in newest]


async def test_search_sees_no_other_workspace(api: Api, database: Database, box: SecretBox) -> None:
    from tests.accounts import add_account

    other = await add_account(database, box, "other")
    await add_conversation(database, other.workspace_id, other.number, "+351912345678", ["secret"], name="Secret")
    assert await listed(api.http, search="secret") == []
    async with database.tenant(other.workspace_id) as connection:
        assert await connection.fetchval("SELECT count(*) FROM search_messages('secret', now(), 1, 10)") == 1
    async with database.app.acquire() as connection:
        assert await connection.fetchval("SELECT count(*) FROM search_messages('secret', now(), 1, 10)") == 0
        assert await connection.fetchval("SELECT count(*) FROM search_contacts('secret', 10)") == 0


# --- changes ----------------------------------------------------------------------------------------------------------


async def test_a_change_upon_another_version_is_refused_with_the_state_that_there_is(api: Api, ana: Person) -> None:
    each = await conversation(api, "+351912345678")
    await change(ana.http, each, status="closed", expectedVersion=1)
    refused = await ana.http.patch(f"/api/conversations/{each}", json={"status": "open", "expectedVersion": 1})
    by_header = await ana.http.patch(f"/api/conversations/{each}", json={"status": "open"}, headers={"If-Match": '"1"'})
    for answer in (refused, by_header):
        assert answer.status_code == 409
        error = api.error(answer)
        assert error["code"] == "conversation_changed"
        assert (error["details"]["version"], error["details"]["status"]) == (2, "closed")
    accepted = await ana.http.patch(f"/api/conversations/{each}", json={"status": "open"}, headers={"If-Match": '"2"'})
    assert accepted.json()["version"] == 3


async def test_nothing_is_told_when_nothing_changes(api: Api, ana: Person) -> None:
    each = await conversation(api, "+351912345678")
    await change(ana.http, each, read=True, status="open")
    told = len(await events(api.database))
    row = await change(ana.http, each, read=True, status="open", labelIds=[], assigneeId=None)
    assert row["version"] == 2
    assert len(await events(api.database)) == told


async def test_what_a_change_names_must_be_there(api: Api, ana: Person) -> None:
    each = await conversation(api, "+351912345678")
    for wanted, status, code in (
        ({"assigneeId": 99}, 404, "agent_not_found"),
        ({"labelIds": [99]}, 404, "label_not_found"),
        ({"status": "snoozed"}, 422, "validation_failed"),
        ({"status": "open", "snoozedUntil": "2030-01-01T00:00:00Z"}, 422, "validation_failed"),
        ({"status": "gone"}, 422, "validation_failed"),
    ):
        answer = await ana.http.patch(f"/api/conversations/{each}", json=wanted)
        assert (answer.status_code, api.error(answer)["code"]) == (status, code)
    for path in ("/api/conversations/99", "/api/messages/99"):
        assert api.error(await ana.http.get(path))["code"] == "conversation_not_found"
    assert api.error(await api.http.get("/api/conversations?assignee=mine"))["code"] == "agent_required"
    assert api.error(await api.http.get("/api/conversations?cursor=xx"))["code"] == "validation_failed"
    async with api.database.borrow() as connection:
        assert await connection.fetchval("SELECT version FROM conversations") == 1


async def test_a_snooze_ends_by_itself_and_not_before(api: Api) -> None:
    each = await conversation(api, "+351912345678")
    await change(api.http, each, snoozedUntil=(ago() + timedelta(hours=1)).isoformat())
    assert await wake_snoozed(api.database) == 0
    assert await listed(api.http, status="snoozed") == [each]
    async with api.database.transaction() as connection:
        await connection.execute("UPDATE conversations SET snoozed_until = now()")
    assert await wake_snoozed(api.database) == 1
    assert await listed(api.http, status="open") == [each]


async def test_two_labels_of_one_name_are_refused_and_a_deleted_ones_name_is_free(api: Api) -> None:
    first = await api.http.post("/api/labels", json={"name": "VIP", "colour": "#ff0000"})
    second = await api.http.post("/api/labels", json={"name": "VIP", "colour": "#00ff00"})
    assert (second.status_code, api.error(second)["code"]) == (409, "name_taken")
    assert (await api.http.delete(f"/api/labels/{first.json()['id']}")).status_code == 204
    assert (await api.http.delete(f"/api/labels/{first.json()['id']}")).status_code == 404
    assert (await api.http.post("/api/labels", json={"name": "VIP", "colour": "#00ff00"})).status_code == 201


async def test_a_canned_reply_is_rendered_for_the_contact(api: Api, ana: Person) -> None:
    each = await conversation(api, "+351912345678", name="Maria")
    text = "Hello {{ contact.name }}, this is {{ agent.name }}. {{ city | default: 'Bye' }}"
    made = await ana.http.post("/api/canned-replies", json={"shortcut": "hi", "text": text})
    path = f"/api/canned-replies/{made.json()['id']}/text"
    assert (await ana.http.get(path, params={"conversationId": each})).json() == {
        "text": "Hello Maria, this is Ana. Bye"
    }
    wrong = await ana.http.post("/api/canned-replies", json={"shortcut": "no", "text": "{{ name"})
    assert api.error(wrong)["code"] == "template_syntax"
    assert (await ana.http.get(path, params={"conversationId": 99})).status_code == 404


async def test_agents_are_listed_with_who_asks(api: Api, ana: Person, rui: Person) -> None:
    answer = (await ana.http.get("/api/agents")).json()
    assert [agent["name"] for agent in answer["agents"]] == ["Ana", "Rui"]
    assert AgentId(answer["me"]) == ana.id
    assert (await api.http.get("/api/agents")).json()["me"] is None


async def test_a_thread_is_read_both_ways(api: Api) -> None:
    each = await conversation(api, "+351912345678", *[f"{n}" for n in range(10)])

    async def page(**query: Any) -> dict[str, Any]:
        answer: dict[str, Any] = (await api.http.get(f"/api/messages/{each}", params={"limit": 4, **query})).json()
        return answer

    def texts(answer: dict[str, Any]) -> str:
        return "".join(message["text"] for message in answer["messages"])

    first = await page()
    second = await page(older=first["older"])
    third = await page(older=second["older"])
    assert (texts(first), texts(second), texts(third)) == ("9876", "5432", "10")
    assert third["older"] is None
    assert texts(await page(newer=third["newer"])) == "5432"
    assert texts(await page(newer=second["newer"])) == "9876"
    last = await page(newer=first["newer"])
    assert (last["messages"], last["newer"]) == ([], first["newer"])
