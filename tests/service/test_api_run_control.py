from collections.abc import AsyncIterator
from typing import Any

import pytest

from pombo.campaigns.cancelling import CancelDuty
from pombo.campaigns.expand import Expander
from pombo.campaigns.figures import FiguresDuty
from pombo.campaigns.pauses import PauseDuty
from pombo.domain.ids import RunId
from pombo.store import accounts, leases, run_control
from pombo.store.database import Database
from pombo.store.secrets import SecretBox
from tests.accounts import add_account, stage_run
from tests.api_client import Api, running_api


@pytest.fixture
async def api(database: Database, box: SecretBox) -> AsyncIterator[Api]:
    async with running_api(database, box) as running:
        yield running


async def staged(api: Api, size: int, expand: int | None = None, *, twice: int = 0) -> RunId:
    """A run of which `expand` chunks of ten lines (all of them unless given) are in the outbox."""
    people = [(api.account.number, f"+35191{n:07}") for n in [*range(size), *range(twice)]]
    run_id = await stage_run(api.database, api.account, people)
    expander, chunks = Expander(api.database, chunk=10), 0
    while chunks != expand and await expander.run_once():
        chunks += 1
    return run_id


async def ask(api: Api, run_id: int, what: str, status: int = 202) -> dict[str, Any]:
    answer = await api.http.post(f"/api/runs/{run_id}/{what}")
    assert answer.status_code == status, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def duties(api: Api) -> None:
    await PauseDuty(api.database).run_once()
    await CancelDuty(api.database, chunk=7).run_once()
    await FiguresDuty(api.database).run_once()


async def shown(api: Api, run_id: int) -> tuple[str, dict[str, int]]:
    run = (await api.http.get(f"/api/runs/{run_id}")).json()
    return run["status"], {name: value for name, value in run["totals"].items() if value}


async def test_a_run_is_paused_and_resumed_and_asking_twice_changes_nothing(api: Api) -> None:
    run_id = await staged(api, 10)
    for _ in range(2):
        assert (await ask(api, run_id, "pause"))["status"] == "pausing"
    await duties(api)
    for _ in range(2):
        assert (await ask(api, run_id, "pause"))["status"] == "paused"
    for _ in range(2):
        assert (await ask(api, run_id, "resume"))["status"] == "processing"
    async with api.database.borrow() as connection:
        streams = await connection.fetch("SELECT state, pauses, acknowledged FROM streams")
    assert [tuple(row) for row in streams] == [("open", 1, False)]


async def test_a_run_paused_before_its_first_chunk_waits_and_is_pending_again(api: Api) -> None:
    run_id = await staged(api, 20, expand=0)
    await ask(api, run_id, "pause")
    await duties(api)
    assert not await Expander(api.database).run_once()
    assert await shown(api, run_id) == ("paused", {"total": 20, "pending": 20})
    assert (await ask(api, run_id, "resume"))["status"] == "pending"
    assert await Expander(api.database).run_once()


async def test_a_run_paused_between_two_chunks_goes_on_expanding_when_it_is_resumed(api: Api) -> None:
    run_id = await staged(api, 25, expand=1)
    await ask(api, run_id, "pause")
    assert not await Expander(api.database, chunk=10).run_once()
    await ask(api, run_id, "resume")
    while await Expander(api.database, chunk=10).run_once():
        pass
    assert (await api.http.get(f"/api/runs/{run_id}")).json()["expanded"]
    async with api.database.borrow() as connection:
        assert await connection.fetchval("SELECT count(*) FROM outbox") == 25


async def test_cancelling_settles_every_message_once_and_whoever_was_not_expanded_counts_too(api: Api) -> None:
    run_id = await staged(api, 30, expand=2, twice=5)  # 20 are in the outbox, 15 lines are left, 5 of them duplicates
    assert (await ask(api, run_id, "cancel"))["status"] == "cancelling"
    assert await shown(api, run_id) == ("cancelling", {"total": 35, "cancelled": 15, "pending": 20})
    await duties(api)
    await duties(api)
    assert await shown(api, run_id) == ("cancelled", {"total": 35, "cancelled": 35})
    assert (await ask(api, run_id, "cancel"))["status"] == "cancelled"
    async with api.database.borrow() as connection:
        assert await connection.fetchval("SELECT count(*) FROM audience") == 0
        assert await connection.fetchval("SELECT count(*) FROM outbox") == 0
        assert await connection.fetchval("SELECT count(*) FROM deliveries WHERE state = 0 AND attempt = 0") == 20
    [delivery] = (await api.http.get(f"/api/runs/{run_id}/deliveries?limit=1")).json()["deliveries"]
    assert delivery["state"] == "cancelled"


async def test_a_run_without_a_word_of_its_owner_stays_pausing(api: Api) -> None:
    run_id = await staged(api, 10)
    async with api.database.borrow() as connection:
        worker = await leases.register(connection, "silent", 1, 3600.0)
        await leases.acquire(connection, worker)
    await ask(api, run_id, "pause")
    await duties(api)
    assert (await shown(api, run_id))[0] == "pausing"


async def test_what_pombo_paused_says_why_until_a_person_takes_it_over(api: Api) -> None:
    run_id, other = await staged(api, 5), await staged(api, 5)
    workspace = api.account.workspace_id
    async with api.database.transaction() as connection:
        assert await run_control.pause_runs(connection, workspace, [run_id, other], "The template is paused.") == [
            run_id, other,
        ]  # fmt: skip
    assert (await api.http.get(f"/api/runs/{run_id}")).json()["pauseReason"] == "The template is paused."
    assert (await ask(api, run_id, "pause"))["pauseReason"] is None
    async with api.database.transaction() as connection:
        resumed = await run_control.resume_runs(connection, workspace, [run_id, other], "The template is paused.")
    assert resumed == [other]


@pytest.mark.parametrize(
    ("state", "what", "code"),
    [
        ("completed", "pause", "run_not_pausable"),
        ("cancelled", "pause", "run_not_pausable"),
        ("cancelling", "pause", "run_not_pausable"),
        ("completed", "resume", "run_not_resumable"),
        ("cancelling", "resume", "run_not_resumable"),
        ("completed", "cancel", "run_not_cancellable"),
        ("failed", "cancel", "run_not_cancellable"),
    ],
)
async def test_what_is_over_is_refused_with_the_reason(api: Api, state: str, what: str, code: str) -> None:
    run_id = await staged(api, 1)
    async with api.database.borrow() as connection:
        await connection.execute("UPDATE runs SET state = $1", state)
    answer = await api.http.post(f"/api/runs/{run_id}/{what}")
    assert (answer.status_code, api.error(answer)["code"]) == (409, code)


@pytest.mark.parametrize("what", ["pause", "resume", "cancel"])
async def test_runs_of_others_are_not_found_and_not_touched(api: Api, box: SecretBox, what: str) -> None:
    other = await add_account(api.database, box, "other")
    run_id = await stage_run(api.database, other, [(other.number, "+351910000001")])
    answer = await api.http.post(f"/api/runs/{run_id}/{what}")
    assert (answer.status_code, api.error(answer)["code"]) == (404, "run_not_found")
    async with api.database.borrow() as connection:
        assert await connection.fetchval("SELECT state FROM runs WHERE id = $1", run_id) == "pending"


async def test_the_panic_button_is_pressed_shown_and_released(api: Api) -> None:
    async def state() -> str:
        return str((await api.http.get("/api/panic")).json()["state"])

    assert await state() == "released"
    for _ in range(2):
        assert (await api.http.post("/api/panic")).json()["state"] == "halting"
    await duties(api)
    halted = (await api.http.post("/api/panic")).json()
    assert (halted["state"], await state()) == ("halted", "halted")
    assert halted["since"] <= halted["haltedAt"]
    for _ in range(2):
        assert (await api.http.post("/api/panic/release")).json() == {
            "state": "released", "since": None, "haltedAt": None,
        }  # fmt: skip


async def test_the_panic_button_of_one_workspace_holds_no_other(api: Api, box: SecretBox) -> None:
    other = await add_account(api.database, box, "other")
    async with api.database.transaction() as connection:
        key = await accounts.create_api_key(connection, other.workspace_id, "theirs")
    await api.http.post("/api/panic")
    theirs = await api.http.get("/api/panic", headers={"Authorization": f"Bearer {key}"})
    assert theirs.json()["state"] == "released"
