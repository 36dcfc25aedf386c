import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pombo.domain.ids import WorkerId
from pombo.meta.transport.stats import LATENCY_BOUNDS
from pombo.store import leases
from pombo.store.database import Database
from pombo.store.secrets import SecretBox
from tests.accounts import Account, add_account, stage_run
from tests.api_client import Api, running_api


@pytest.fixture
async def api(database: Database, box: SecretBox) -> AsyncIterator[Api]:
    async with running_api(database, box) as running:
        yield running


def _document(account: Account, requests: int, state: str = "closed") -> dict[str, Any]:
    latency = [0] * (len(LATENCY_BOUNDS) + 1)
    latency[LATENCY_BOUNDS.index(0.08)] = requests
    return {
        "name": "machine:1",
        "channels": [
            {
                "workspaceId": account.workspace_id,
                "channelId": account.number,
                "name": "whatever",
                "ratePerSecond": 33.5,
                "rateReason": "the set maximum",
                "inFlight": 4,
                "buffered": 20,
                "breaker": {"state": state, "failures": 5, "opened_at": "2026-05-01T09:00:00+00:00", "reason": "190"},
            }
        ],
        "http_client": {
            "requests": requests,
            "first_requests": 5,
            "open": 5,
            "latency_counts": latency,
            "connections_closed": {"idle": 1},
        },
        "log_writer": {"written": 7, "largest_batch": requests, "unsaved": 1},
        "performance": {"accepted": requests},
    }


async def _worker(database: Database, stats: dict[str, Any] | None, lease_s: float = 60.0) -> WorkerId:
    async with database.borrow() as connection:
        worker = await leases.register(connection, "machine:1", 1, lease_s)
        if stats is not None:
            await leases.publish(connection, worker, json.dumps(stats))
    return worker


async def test_the_queue_shows_the_workspaces_totals_and_runs(api: Api) -> None:
    await stage_run(api.database, api.account, [(api.account.number, f"+35191000000{n}") for n in range(3)])
    shown = (await api.http.get("/stats/queue")).json()
    assert shown["runs"] == {"pending": 1}
    assert (shown["totals"]["total"], shown["totals"]["pending"]) == (3, 3)


async def test_workers_are_shown_with_the_workspaces_channels_that_they_hold(api: Api, box: SecretBox) -> None:
    theirs = await add_account(api.database, box, "other")
    document = _document(api.account, 100)
    document["channels"] += _document(theirs, 100)["channels"]
    worker = await _worker(api.database, document)
    await _worker(api.database, document, lease_s=-1.0)
    async with api.database.borrow() as connection:
        await connection.execute(
            "UPDATE channel_leases SET worker_id = $1 WHERE channel_id = ANY ($2)",
            worker,
            [api.account.number, theirs.number],
        )
    shown = (await api.http.get("/stats/workers")).json()
    assert [each["id"] for each in shown["workers"]] == [worker]
    assert shown["workers"][0].keys() == {"id", "startedAt", "channels"}
    assert shown["workers"][0]["channels"] == [
        {
            "channelId": api.account.number,
            "name": "acme whatsapp",
            "ratePerSecond": 33.5,
            "rateReason": "the set maximum",
            "inFlight": 4,
            "buffered": 20,
        }
    ]
    assert shown["unownedChannels"] == [api.account.page]
    assert (await api.http.get("/health")).json()["workers"] == 1


async def test_parts_of_all_live_workers_are_added_up_field_by_field(api: Api) -> None:
    for requests in (100, 300):
        await _worker(api.database, _document(api.account, requests))
    await _worker(api.database, None)
    await _worker(api.database, {"http_client": "of another version", "channels": 3})
    await _worker(api.database, _document(api.account, 1_000), lease_s=-1.0)

    client = (await api.http.get("/stats/http-client")).json()
    assert (client["total"]["requests"], client["total"]["firstRequests"]) == (400, 10)
    assert client["total"]["connectionsClosed"] == {"idle": 2}
    assert (client["reuseRatio"], client["latencyP50Ms"], client["latencyP99Ms"]) == (0.975, 80.0, 80.0)
    assert [part["figures"].get("requests") for part in client["workers"]] == [100, 300, None, None]
    writer = (await api.http.get("/stats/log-writer")).json()["total"]
    assert writer == {"written": 14, "largestBatch": 300, "unsaved": 2}
    assert (await api.http.get("/stats/performance")).json()["total"] == {"accepted": 400}


async def test_breakers_are_shown_for_every_channel_and_can_be_reset(api: Api, box: SecretBox) -> None:
    theirs = await add_account(api.database, box, "other")
    await _worker(api.database, _document(api.account, 10, state="open"))
    shown = (await api.http.get("/stats/circuit-breaker")).json()["breakers"]
    assert [(breaker["channelId"], breaker["state"], breaker["reason"]) for breaker in shown] == [
        (api.account.page, "unknown", None),
        (api.account.number, "open", "190"),
    ]

    answer = await api.http.post(f"/stats/circuit-breaker/{api.account.number}/reset")
    assert (answer.status_code, answer.json()) == (202, {"channelId": api.account.number, "status": "requested"})
    refused = await api.http.post(f"/stats/circuit-breaker/{theirs.number}/reset")
    assert (refused.status_code, api.error(refused)["code"]) == (404, "channel_not_found")
    async with api.database.borrow() as connection:
        commands = await connection.fetch("SELECT workspace_id, channel_id, name FROM commands")
    assert commands == [(api.account.workspace_id, api.account.number, "reset_breaker")]


async def test_metrics_are_prometheus_text_of_ones_own_workspace(api: Api, box: SecretBox) -> None:
    theirs = await add_account(api.database, box, "other")
    await stage_run(api.database, api.account, [(api.account.number, "+351910000001")])
    await stage_run(api.database, theirs, [(theirs.number, "+351910000001")] * 5)
    document = _document(api.account, 100, state="open")
    document["channels"] += _document(theirs, 100)["channels"]
    await _worker(api.database, document)

    answer = await api.http.get("/metrics")

    assert answer.headers["content-type"].startswith("text/plain; version=")
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert samples["pombo_queue_messages", "waiting"] == 1
    assert samples["pombo_messages_total", "accepted"] == 0
    assert samples["pombo_workers",] == 1
    assert samples["pombo_http_requests_total",] == 100
    assert samples["pombo_http_reuse_ratio",] == 0.95
    assert samples["pombo_channel_breaker", str(api.account.number)] == 2
    assert ("pombo_channel_breaker", str(theirs.number)) not in samples


async def test_with_no_worker_at_all_every_part_is_empty(api: Api) -> None:
    for part in ("http-client", "log-writer", "performance"):
        shown = (await api.http.get(f"/stats/{part}")).json()
        assert (shown["total"], shown["workers"]) == ({}, [])
    assert (await api.http.get("/metrics")).status_code == 200


async def test_a_stopped_channel_is_started_with_those_that_its_error_stopped_too(api: Api, box: SecretBox) -> None:
    theirs = await add_account(api.database, box, "others")
    async with api.database.borrow() as connection:
        await connection.execute(
            "UPDATE channels SET state = 'stopped', stop_code = '3', stop_reason = 'No.', stopped_at = now()"
        )
    assert (await api.http.post(f"/api/channels/{theirs.number}/start")).status_code == 404
    answer = await api.http.post(f"/api/channels/{api.account.number}/start")
    # The Page is of the same app and stopped at the same moment, but its kind is another: no error concerns both.
    assert (answer.status_code, answer.json()) == (200, {"started": [api.account.number]})
    shown = (await api.http.get("/api/channels")).json()["channels"]
    assert {channel["id"]: channel["state"] for channel in shown} == {
        api.account.number: "active",
        api.account.page: "stopped",
    }
