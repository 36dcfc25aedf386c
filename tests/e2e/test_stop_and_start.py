"""SIGTERM while sending, and a new start: nothing is lost, nothing is sent twice.

`make test` stops a few times; `make chaos` 20 times (POMBO_STOPS), and POMBO_SEED chooses the moments.
"""

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from pombo.run.http import JsonClient
from pombo.run.reconcile import Comparison, compare
from pombo.store.database import Database
from tests.e2e.pombo_process import Installation, await_answer, free_port, process_wait, stop

STOPS = int(os.environ.get("POMBO_STOPS", "3"))
SEED = int(os.environ.get("POMBO_SEED", "1"))
NUMBERS = 4
RATE = 80
# What can leave between two stops at most, so that every stop finds the run still being sent.
RECIPIENTS = (STOPS + 1) * NUMBERS * RATE * 2
_DONE_S = 120.0


@pytest.fixture
def directory() -> Iterator[Path]:
    # Not pytest's own: the embedded server runs as another user when this one is root.
    with tempfile.TemporaryDirectory(prefix="pombo-e2e-") as name:
        yield Path(name)


@contextmanager
def running_sandbox() -> Iterator[httpx.Client]:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "pombo", "sandbox", "--port", str(port)])
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            await_answer(process, f"http://127.0.0.1:{port}/sandbox/stats")
            yield client
    finally:
        process.terminate()
        process.wait()


def prepare(sandbox: httpx.Client, pombo: Installation) -> list[int]:
    """The same numbers in the sandbox and in Pombo; returns the channel ids."""
    app = {"app_id": "1", "app_secret": "e2e-app-secret", "verify_token": "e2e-verify-token"}
    numbers = [
        {"phone_number_id": str(100 + n), "waba_id": "9", "app_id": "1", "access_token": f"token-{n}",
         "settings": {"latency_ms": 40.0, "messages_per_second": None}}
        for n in range(NUMBERS)
    ]  # fmt: skip
    callback = {"app_id": "1", "callback_url": f"{pombo.url}/api/webhooks/whatsapp/status"}
    setup = {"apps": [app], "phone_numbers": numbers, "webhooks": [callback]}
    assert sandbox.post("/sandbox/setup", json=setup).is_success
    assert sandbox.put("/sandbox/pump", json={"time_scale": 0.05}).is_success
    return [
        json.loads(
            pombo.run(
                "channel", "add", "whatsapp", "--external-id", str(100 + n), "--name", f"Number {n}",
                "--token", f"token-{n}", "--app-secret", app["app_secret"], "--rate", str(RATE), "--json",
            )
        )["id"]
        for n in range(NUMBERS)
    ]  # fmt: skip


def send(pombo: Installation, key: str, channel_ids: list[int]) -> int:
    """A run of RECIPIENTS messages, spread over the channels."""
    with httpx.Client(base_url=pombo.url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as api:
        content = {"type": "text", "text": "Hello {{ name }}"}
        made = api.post("/api/campaigns", json={"name": "e2e", "channelIds": channel_ids, "content": content})
        assert made.is_success, made.text
        recipients = [
            {
                "recipient": f"+1415{5_000_000 + n}",
                "channelId": channel_ids[n % NUMBERS],
                "variables": {"name": f"N{n}"},
            }
            for n in range(RECIPIENTS)
        ]
        sent = api.post("/api/campaigns/send", json={"campaignId": made.json()["id"], "recipients": recipients})
        assert sent.status_code == 202, sent.text
        run_id: int = sent.json()["runId"]
        return run_id


def accepted_in(sandbox: httpx.Client) -> int:
    count: int = sandbox.get("/sandbox/ledger").json()["accepted"]
    return count


async def books(pombo: Installation, sandbox: httpx.Client) -> Comparison:
    url = f"postgresql://postgres@/postgres?host={pombo.directory}/data/postgres"
    async with (
        Database.open(url, "test") as database,
        database.borrow() as connection,
        JsonClient(str(sandbox.base_url).rstrip("/")) as client,
    ):
        while await connection.fetchval("SELECT count(*) FROM webhook_queue"):
            await asyncio.sleep(0.05)  # another process applies them
        workspace_id = await connection.fetchval("SELECT id FROM workspaces WHERE name = 'default'")
        return await compare(connection, workspace_id, client)


def test_stopping_at_any_moment_while_sending_loses_and_doubles_nothing(directory: Path) -> None:
    moments = random.Random(SEED)
    with running_sandbox() as sandbox:
        pombo = Installation(directory, {"GRAPH_API_URL": str(sandbox.base_url).rstrip("/")})
        channel_ids = prepare(sandbox, pombo)
        key = pombo.run("key", "create", "--name", "e2e").strip()
        run_id = 0
        for number in range(STOPS):
            with pombo.up("--workers", "2") as process:
                run_id = run_id or send(pombo, key, channel_ids)
                before = accepted_in(sandbox)
                process_wait(process, moments.uniform(0.0, 1.5))
                if number:  # the first may be stopped before its audience is queued
                    while accepted_in(sandbox) == before:
                        assert not process_wait(process, 0.02)
                stop(process)
            assert accepted_in(sandbox) < RECIPIENTS, "all was sent before the last stop: nothing was interrupted"

        with pombo.up("--workers", "2") as process:
            with httpx.Client(base_url=pombo.url, headers={"Authorization": f"Bearer {key}"}) as api:
                status = ""
                while status != "completed":
                    assert not process_wait(process, 0.2)
                    run = api.get(f"/api/runs/{run_id}").json()
                    status = run["status"]
            assert sandbox.post("/sandbox/webhooks/flush", json={"hurry": True, "timeout_ms": 60_000}).json()["done"]
            comparison = asyncio.run(books(pombo, sandbox))

    assert comparison.disagreements == []
    assert comparison.sums["accepted"] == comparison.our_messages == comparison.ledger_messages == RECIPIENTS
    assert comparison.sums["failed"] == comparison.sums["waiting"] == 0
