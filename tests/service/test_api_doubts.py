from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from pombo.campaigns.expand import Expander
from pombo.domain.doubt import HoldReason
from pombo.store import doubts, outbox, settlement
from pombo.store.database import Database
from pombo.store.doubts import DoubtKey
from pombo.store.outbox import Undecided
from pombo.store.secrets import SecretBox
from pombo.store.settlement import Evidence
from tests.accounts import add_account, stage_run
from tests.api_client import Api, running_api

TODAY = datetime.now(UTC).date()


@pytest.fixture
async def api(database: Database, box: SecretBox) -> AsyncIterator[Api]:
    async with running_api(database, box) as running:
        yield running


async def held_run(api: Api, size: int) -> tuple[int, list[int]]:
    """A run whose messages are all held, and their ids."""
    account = api.account
    run_id = await stage_run(api.database, account, [(account.number, f"+35191{n:07}") for n in range(size)])
    while await Expander(api.database).run_once():
        pass
    async with api.database.borrow() as connection:
        await connection.execute(
            "UPDATE outbox SET state = 's', attempt = 1, intent_at = now() WHERE run_id = $1", run_id
        )
        ids = [
            row["id"] for row in await connection.fetch("SELECT id FROM outbox WHERE run_id = $1 ORDER BY id", run_id)
        ]
    await hold(api, ids)
    return run_id, ids


async def hold(api: Api, ids: list[int], attempt: int = 1) -> None:
    account = api.account
    async with api.database.borrow() as connection:
        await outbox.doubt(
            connection,
            [Undecided(account.workspace_id, account.number, id, attempt, 0, 0, "answer_timeout") for id in ids],
        )
        await doubts.hold(
            connection, [(DoubtKey(account.workspace_id, id, attempt), HoldReason.NO_EVIDENCE) for id in ids]
        )


async def resolve(api: Api, key: str | None = None, **body: Any) -> dict[str, Any]:
    headers = {} if key is None else {"Idempotency-Key": key}
    answer = await api.http.post("/api/doubts/resolve", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def totals(api: Api, run_id: int) -> dict[str, int]:
    shown = (await api.http.get(f"/api/runs/{run_id}")).json()["totals"]
    return {name: value for name, value in shown.items() if value}


async def states(api: Api) -> dict[int, str]:
    async with api.database.borrow() as connection:
        rows = await connection.fetch("SELECT id, state::text FROM outbox")
    return dict(tuple(row) for row in rows)


async def test_held_messages_are_listed_with_their_reason_in_words_page_by_page(api: Api) -> None:
    run_id, ids = await held_run(api, 5)
    first = (await api.http.get("/api/doubts", params={"limit": 3, "runId": run_id})).json()
    rest = (await api.http.get("/api/doubts", params={"limit": 3, "after": first["nextAfter"]})).json()

    assert [doubt["messageId"] for doubt in first["doubts"] + rest["doubts"]] == ids
    assert rest["nextAfter"] is None
    doubt = first["doubts"][0]
    assert (doubt["reason"], doubt["cause"]) == ("no_evidence", "answer_timeout")
    assert doubt["words"] == HoldReason.NO_EVIDENCE.words
    assert doubt["attemptedAt"] < doubt["doubtfulSince"] <= doubt["heldSince"]
    assert await totals(api, run_id) == {"total": 5, "uncertain": 5, "held": 5}
    assert (await api.http.get("/stats/queue")).json()["totals"]["held"] == 5


async def test_what_is_in_doubt_within_its_grace_is_counted_but_neither_listed_nor_resolved(api: Api) -> None:
    run_id, ids = await held_run(api, 1)
    async with api.database.borrow() as connection:
        await connection.execute("UPDATE doubts SET held = NULL, held_since = NULL")
    assert (await api.http.get("/api/doubts")).json()["doubts"] == []
    assert await resolve(api, action="drop", runId=run_id) == {"action": "drop", "resolved": 0, "skipped": 0}
    assert await resolve(api, action="drop", messageIds=ids) == {"action": "drop", "resolved": 0, "skipped": 1}
    assert await totals(api, run_id) == {"total": 1, "uncertain": 1}


async def test_one_is_sent_again_and_asking_twice_does_nothing_twice(api: Api) -> None:
    run_id, ids = await held_run(api, 3)
    assert (await resolve(api, action="resend", messageIds=[ids[1]]))["resolved"] == 1
    assert await resolve(api, action="resend", messageIds=[ids[1]]) == {
        "action": "resend",
        "resolved": 0,
        "skipped": 1,
    }
    assert await states(api) == {ids[0]: "u", ids[1]: "r", ids[2]: "u"}
    assert await totals(api, run_id) == {"total": 3, "uncertain": 2, "held": 2, "pending": 1}


async def test_marked_as_sent_they_are_accepted_and_evidence_brings_the_id_later(api: Api) -> None:
    run_id, ids = await held_run(api, 2)
    account = api.account
    assert (await resolve(api, action="mark_sent", channelId=account.number))["resolved"] == 2
    assert await totals(api, run_id) == {"total": 2, "accepted": 2}
    shown = (await api.http.get(f"/api/runs/{run_id}/deliveries")).json()["deliveries"]
    assert [(d["state"], d["providerId"], d["error"]) for d in shown] == [("accepted", None, None)] * 2

    async with api.database.borrow() as connection:
        for provider_id in ("wamid.1", "wamid.2"):
            witness = Evidence(account.workspace_id, account.number, ids[0], 1, TODAY, provider_id, datetime.now(UTC))
            await settlement.settle_evidence(connection, [witness])
    assert await totals(api, run_id) == {"total": 2, "accepted": 2, "sentTwice": 1}
    for wanted in ({}, {"runId": run_id}, {"channelId": account.number}):
        twice = (await api.http.get("/api/doubts/sent-twice", params=wanted)).json()
        assert [(m["messageId"], m["providerIds"]) for m in twice["messages"]] == [(ids[0], ["wamid.1", "wamid.2"])]
        assert twice["nextAfter"] is None
    elsewhere = (await api.http.get("/api/doubts/sent-twice", params={"channelId": account.page})).json()
    assert elsewhere["messages"] == []


async def test_dropped_they_are_cancelled_and_evidence_corrects_it(api: Api) -> None:
    run_id, ids = await held_run(api, 2)
    account = api.account
    assert (await resolve(api, action="drop", runId=run_id))["resolved"] == 2
    assert await totals(api, run_id) == {"total": 2, "cancelled": 2}
    async with api.database.borrow() as connection:
        witness = Evidence(account.workspace_id, account.number, ids[0], 1, TODAY, "wamid.1", datetime.now(UTC))
        await settlement.settle_evidence(connection, [witness])
    assert await totals(api, run_id) == {"total": 2, "cancelled": 1, "accepted": 1}


async def test_all_of_a_run_are_resolved_in_many_statements(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pombo.store.held.CHUNK", 2)
    run_id, _ = await held_run(api, 5)
    other, _ = await held_run(api, 1)
    assert (await resolve(api, action="resend", runId=run_id))["resolved"] == 5
    assert await totals(api, other) == {"total": 1, "uncertain": 1, "held": 1}


async def test_with_an_idempotency_key_a_message_held_once_more_is_not_sent_by_a_clients_retry(api: Api) -> None:
    _, ids = await held_run(api, 1)
    first = await resolve(api, "k", action="resend", messageIds=ids)
    async with api.database.borrow() as connection:
        await connection.execute("UPDATE outbox SET state = 's', attempt = 2")
    await hold(api, ids, attempt=2)

    assert await resolve(api, "k", action="resend", messageIds=ids) == first
    assert await states(api) == {ids[0]: "u"}
    conflict = await api.http.post(
        "/api/doubts/resolve", json={"action": "drop", "messageIds": ids}, headers={"Idempotency-Key": "k"}
    )
    assert api.error(conflict)["code"] == "idempotency_conflict"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"action": "resend"}, "validation_failed"),
        ({"action": "resend", "messageIds": []}, "validation_failed"),
        ({"action": "forget", "runId": 1}, "validation_failed"),
        ({"action": "resend", "runId": 999}, "run_not_found"),
        ({"action": "resend", "channelId": 999}, "channel_not_found"),
    ],
)
async def test_a_request_that_does_not_say_what_is_meant_changes_nothing(
    api: Api, body: dict[str, Any], code: str
) -> None:
    await held_run(api, 1)
    assert api.error(await api.http.post("/api/doubts/resolve", json=body))["code"] == code
    assert (await api.http.get("/api/doubts")).json()["doubts"]


async def test_another_workspaces_held_messages_do_not_exist(api: Api, database: Database, box: SecretBox) -> None:
    _, ids = await held_run(api, 1)
    await add_account(database, box, "other")
    async with database.transaction() as connection:
        await connection.execute("UPDATE doubts SET workspace_id = 2")
        await connection.execute("UPDATE outbox SET workspace_id = 2")
    assert (await api.http.get("/api/doubts")).json()["doubts"] == []
    assert (await resolve(api, action="resend", messageIds=ids))["resolved"] == 0
