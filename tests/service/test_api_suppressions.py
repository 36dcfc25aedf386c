"""The suppression list, and campaigns that leave out who is on it."""

from collections.abc import AsyncIterator

import pytest

from pombo.campaigns.expand import Expander
from pombo.store.database import Database
from pombo.store.secrets import SecretBox
from tests.accounts import stage_run
from tests.api_client import Api, running_api


@pytest.fixture
async def api(database: Database, box: SecretBox) -> AsyncIterator[Api]:
    async with running_api(database, box) as running:
        yield running


async def test_people_are_added_shown_page_by_page_and_taken_off(api: Api) -> None:
    numbers = [f"+35191234567{n}" for n in range(3)]
    asked = {"kind": "whatsapp", "recipients": [*numbers, "+351 912 345 670"], "reason": "Asked by phone."}
    added = await api.http.post("/api/suppressions", json=asked)
    assert (added.status_code, added.json()) == (201, {"added": 3})

    first = (await api.http.get("/api/suppressions?limit=2")).json()
    second = (await api.http.get("/api/suppressions", params={"limit": 2, "cursor": first["nextCursor"]})).json()
    shown = first["suppressions"] + second["suppressions"]
    assert [each["recipient"] for each in shown] == numbers
    assert {(each["kind"], each["reason"], each["code"]) for each in shown} == {("whatsapp", "Asked by phone.", None)}
    assert second["nextCursor"] is None

    assert (await api.http.delete(f"/api/suppressions/whatsapp/{numbers[0]}")).status_code == 204
    gone = await api.http.delete(f"/api/suppressions/whatsapp/{numbers[0]}")
    assert (gone.status_code, api.error(gone)["code"]) == (404, "suppression_not_found")


async def test_one_bad_address_adds_nobody(api: Api) -> None:
    answer = await api.http.post("/api/suppressions", json={"kind": "whatsapp", "recipients": ["+351912345678", "12"]})
    assert (answer.status_code, api.error(answer)["code"]) == (422, "recipients_invalid")
    assert (await api.http.get("/api/suppressions")).json()["suppressions"] == []


@pytest.mark.parametrize("cursor", ["!!!", "e30=", "WzEsMl0="])
async def test_a_cursor_that_was_not_given_out_is_refused(api: Api, cursor: str) -> None:
    answer = await api.http.get("/api/suppressions", params={"cursor": cursor})
    assert (answer.status_code, api.error(answer)["code"]) == (422, "validation_failed")


async def test_campaigns_leave_out_who_is_on_the_list_and_say_so(api: Api) -> None:
    account = api.account
    await api.http.post("/api/suppressions", json={"kind": "whatsapp", "recipients": ["+351910000001"]})
    run_id = await stage_run(api.database, account, [(account.number, f"+35191000000{n}") for n in range(3)])
    while await Expander(api.database).run_once():
        pass
    totals = (await api.http.get(f"/api/runs/{run_id}")).json()["totals"]
    assert (totals["total"], totals["rejected"]) == (2, 1)
    (reject,) = (await api.http.get(f"/api/runs/{run_id}/rejects")).json()["rejects"]
    assert (reject["recipient"], reject["code"]) == ("+351910000001", "suppressed")
