from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from pombo.campaigns.expand import Expander
from pombo.campaigns.figures import FiguresDuty
from pombo.domain.ids import WorkspaceId
from pombo.store.database import Database
from pombo.store.secrets import SecretBox
from tests.accounts import stage_run
from tests.api_client import WORKER_SECRET, Api, running_api


@pytest.fixture
async def api(database: Database, box: SecretBox) -> AsyncIterator[Api]:
    async with running_api(database, box) as running:
        yield running


async def _count(api: Api, run_id: int, at: int, numbers: str) -> None:
    async with api.database.borrow() as connection:
        await connection.execute(
            f"""INSERT INTO run_deltas
                    (workspace_id, run_id, at, accepted, delivered, read, failed, undelivered, uncertain)
                VALUES ($1, $2, timestamptz '2026-05-01 09:00Z' + $3 * interval '1 second', {numbers})""",
            api.account.workspace_id,
            run_id,
            at,
        )


async def test_the_status_has_the_old_shape_and_adds_up_over_the_campaigns_runs(api: Api) -> None:
    account = api.account
    first, second = [
        await stage_run(api.database, account, [(account.number, f"+35191{n:07}") for n in range(size)])
        for size in (100, 50)
    ]
    while await Expander(api.database).run_once():
        pass
    await _count(api, first, 0, "50, 30, 20, 1, 2, 3")
    await FiguresDuty(api.database).run_once()
    await _count(api, first, 10, "26, 1, 0, 0, 0, 0")
    await _count(api, second, 20, "0, 0, 0, 4, 0, 0")
    async with api.database.borrow() as connection:
        rows = await connection.fetch(
            "UPDATE outbox SET state = 's', attempt = 1, intent_at = now() WHERE id <= 5 RETURNING id"
        )
        await connection.execute(
            "INSERT INTO intents (worker_id, id, workspace_ids, message_ids) VALUES (1, 1, $1, $2)",
            [account.workspace_id] * len(rows),
            [row["id"] for row in rows],
        )

    answer = await api.http.get(f"/api/queue/status?campaignId={account.campaign_id}")

    assert answer.json() == {
        "stats": {"pending": 61, "processing": 8, "sent": 76, "failed": 7, "delivered": 31, "read": 20},
        "avgSendRate": "7.6 msg/sec",
        "campaign": {
            "id": account.campaign_id,
            "name": "Spring",
            "progress": 54.0,
            "total": 150,
            "sent": 76,
            "delivered": 31,
            "failed": 7,
        },
    }
    whole = (await api.http.get("/api/queue/status")).json()
    assert whole == {**answer.json(), "campaign": None}


async def test_what_is_not_expanded_yet_is_pending_already(api: Api) -> None:
    await api.http.post(
        "/api/campaigns/send",
        json={"campaignId": api.account.campaign_id, "recipients": [f"+35191{n:07}" for n in range(40)]},
    )
    status = (await api.http.get(f"/api/queue/status?campaignId={api.account.campaign_id}")).json()
    assert (status["stats"]["pending"], status["campaign"]["total"], status["campaign"]["progress"]) == (40, 40, 0.0)


@pytest.mark.parametrize(
    ("campaign_id", "status", "code"),
    [("999", 404, "campaign_not_found"), ("x", 422, "validation_failed"), ("0", 422, "validation_failed")],
)
async def test_the_status_of_an_unknown_campaign_is_refused(api: Api, campaign_id: str, status: int, code: str) -> None:
    answer = await api.http.get(f"/api/queue/status?campaignId={campaign_id}")
    assert (answer.status_code, api.error(answer)["code"]) == (status, code)


@dataclass
class _Report:
    channels: int = 2
    accepted: int = 9
    failed: int = 1
    retried: int = 3
    uncertain: int = 2


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_batch_is_sent_for_all_by_the_secret_and_for_ones_own_by_a_key(
    database: Database, box: SecretBox, method: str
) -> None:
    asked: list[tuple[WorkspaceId | None, int]] = []

    async def process_batch(workspace_id: WorkspaceId | None, count: int) -> _Report:
        asked.append((workspace_id, count))
        return _Report()

    async with running_api(database, box, process_batch=process_batch) as api:
        answer = await api.http.request(method, "/api/queue/worker")
        assert answer.json() == {
            "processed": 15,
            "channels": 2,
            "accepted": 9,
            "failed": 1,
            "retried": 3,
            "uncertain": 2,
        }
        secret = {"Authorization": f"Bearer {WORKER_SECRET}"}
        assert (await api.http.request(method, "/api/queue/worker", headers=secret)).status_code == 200
        assert asked == [(api.account.workspace_id, 15), (None, 15)]
