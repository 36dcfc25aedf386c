from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from pombo.campaigns.expand import Expander
from pombo.campaigns.figures import FiguresDuty
from pombo.store import settlement
from pombo.store.database import Database
from pombo.store.secrets import SecretBox
from pombo.store.settlement import Settled
from tests.accounts import add_account, stage_run
from tests.api_client import Api, running_api

_TODAY = datetime.now(UTC).date()


@pytest.fixture
async def api(database: Database, box: SecretBox) -> AsyncIterator[Api]:
    async with running_api(database, box) as running:
        yield running


async def _sent_run(api: Api, size: int) -> tuple[int, list[int]]:
    """A run whose messages are all under way, and their ids in order of the recipients."""
    account = api.account
    run_id = await stage_run(api.database, account, [(account.number, f"+35191{n:07}") for n in range(size)])
    while await Expander(api.database).run_once():
        pass
    async with api.database.borrow() as connection:
        await connection.execute("UPDATE outbox SET state = 's', attempt = 1, intent_at = now()")
        rows = await connection.fetch("SELECT id FROM outbox ORDER BY recipient")
    return run_id, [row["id"] for row in rows]


def _accepted(api: Api, message_id: int) -> Settled:
    account = api.account
    return Settled(
        account.workspace_id, account.number, message_id, 1, _TODAY, settlement.ACCEPTED, f"wamid.{message_id}"
    )


def _failed(api: Api, message_id: int, code: int, title: str) -> Settled:
    account = api.account
    return Settled(account.workspace_id, account.number, message_id, 1, _TODAY, settlement.FAILED, None, code, 0, title)


async def test_a_run_shows_its_totals_progress_and_end(api: Api) -> None:
    run_id, ids = await _sent_run(api, 10)
    async with api.database.borrow() as connection:
        await settlement.settle(connection, [_accepted(api, message_id) for message_id in ids[:5]])
        await settlement.settle(connection, [_failed(api, ids[5], 131026, "Undeliverable")])
    shown = (await api.http.get(f"/api/runs/{run_id}")).json()

    assert (shown["status"], shown["expanded"], shown["progress"]) == ("processing", True, 60.0)
    assert {name: value for name, value in shown["totals"].items() if value} == {
        "total": 10,
        "accepted": 5,
        "failed": 1,
        "pending": 4,
    }
    assert shown["ratePerSecond"] > 0
    assert shown["eta"] > shown["startedAt"]

    async with api.database.borrow() as connection:
        await settlement.settle(connection, [_accepted(api, message_id) for message_id in ids[6:]])
    await FiguresDuty(api.database).run_once()
    done = (await api.http.get(f"/api/runs/{run_id}")).json()
    assert (done["status"], done["progress"], done["eta"]) == ("completed", 100.0, None)
    assert done["finishedAt"] is not None


async def test_each_recipient_is_shown_with_what_became_of_the_message_and_why(api: Api) -> None:
    run_id, ids = await _sent_run(api, 7)
    async with api.database.borrow() as connection:
        await settlement.settle(connection, [_accepted(api, ids[0])])
        await settlement.settle(connection, [_failed(api, ids[1], 131026, "Message undeliverable")])
        await settlement.settle(connection, [_failed(api, ids[2], 0, "text_empty")])
        await connection.execute("UPDATE outbox SET state = 'u', due_at = 'infinity' WHERE id = $1", ids[3])
        await connection.execute("UPDATE outbox SET state = 'r', error_code = 131056 WHERE id = $1", ids[4])
        await connection.execute("UPDATE outbox SET state = 'r', attempt = 0 WHERE id = $1", ids[5])
        await connection.execute("DELETE FROM deliveries WHERE id = $1", ids[6])
        await connection.execute("DELETE FROM outbox WHERE id = $1", ids[6])

    shown: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = (
            await api.http.get(
                f"/api/runs/{run_id}/deliveries", params={"limit": 3, **({"cursor": cursor} if cursor else {})}
            )
        ).json()
        shown += page["deliveries"]
        cursor = page["nextCursor"]

    assert [(message["recipient"], message["messageId"]) for message in shown] == [
        (f"+35191{n:07}", ids[n]) for n in range(7)
    ]
    assert [message["state"] for message in shown] == [
        "accepted",
        "failed",
        "failed",
        "uncertain",
        "retrying",
        "waiting",
        "forgotten",
    ]
    assert shown[0]["providerId"] == f"wamid.{ids[0]}"
    assert shown[0]["error"] is None
    known, ours = shown[1]["error"], shown[2]["error"]
    assert (known["code"], known["title"]) == (131026, "Message undeliverable")
    assert known["words"] != known["title"]
    assert known["nextStep"]
    assert (ours["code"], ours["words"]) == (0, "text_empty")
    assert shown[4]["error"]["code"] == 131056


@pytest.mark.parametrize("cursor", ["x", "!!!", "WzFd", "WzEsMl0=", "WyJhIiwiYiJd", "WzEsIlx1MDAwMCJd", "W1tbW1tb"])
async def test_a_cursor_that_was_not_given_out_is_refused(api: Api, cursor: str) -> None:
    run_id, _ = await _sent_run(api, 1)
    answer = await api.http.get(f"/api/runs/{run_id}/deliveries", params={"cursor": cursor})
    assert (answer.status_code, api.error(answer)["code"]) == (422, "validation_failed")


async def test_rejects_are_shown_page_by_page(api: Api) -> None:
    sent = await api.http.post(
        "/api/campaigns/send",
        json={"campaignId": api.account.campaign_id, "recipients": ["+351910000001", *["12"] * 120]},
    )
    assert (sent.json()["rejected"], len(sent.json()["rejects"])) == (120, 100)
    path = f"/api/runs/{sent.json()['runId']}/rejects"
    first = (await api.http.get(path, params={"limit": 100})).json()
    rest = (await api.http.get(path, params={"limit": 100, "after": first["nextAfter"]})).json()
    assert [reject["line"] for reject in first["rejects"] + rest["rejects"]] == list(range(2, 122))
    assert rest["nextAfter"] is None


async def test_another_workspaces_run_does_not_exist(api: Api, box: SecretBox) -> None:
    theirs = await add_account(api.database, box, "other")
    run_id = await stage_run(api.database, theirs, [(theirs.number, "+351910000001")])
    for path in (f"/api/runs/{run_id}", f"/api/runs/{run_id}/rejects", f"/api/runs/{run_id}/deliveries"):
        answer = await api.http.get(path)
        assert (answer.status_code, api.error(answer)["code"]) == (404, "run_not_found")
