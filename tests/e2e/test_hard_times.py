"""What a demanding night does to an installation: a killed database, a second start, a host with nothing but cron."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.pombo_process import Installation, await_answer, process_wait, stop
from tests.e2e.test_stop_and_start import running_sandbox

APP_SECRET = "e2e-app-secret"


@pytest.fixture
def pombo() -> Iterator[Installation]:
    with running_sandbox() as sandbox, tempfile.TemporaryDirectory(prefix="pombo-e2e-") as name:
        app = {"app_id": "1", "app_secret": APP_SECRET, "verify_token": "e2e-verify-token"}
        page = {"page_id": "4001", "app_id": "1", "access_token": "page-token", "settings": {"brake_per_second": None}}
        assert sandbox.post("/sandbox/setup", json={"apps": [app], "pages": [page]}).is_success
        settings = {"GRAPH_API_URL": str(sandbox.base_url).rstrip("/"), "WORKER_SECRET": "cron-secret-of-16-characters"}
        installation = Installation(Path(name), settings)
        installation.run(
            "channel", "add", "messenger", "--external-id", "4001", "--name", "Shop", "--token", "page-token",
            "--app-secret", APP_SECRET, "--rate", "200",
        )  # fmt: skip
        yield installation


def key(pombo: Installation) -> dict[str, str]:
    return {"Authorization": f"Bearer {pombo.run('key', 'create', '--name', 'e2e').strip()}"}


def send(pombo: Installation, headers: dict[str, str], count: int) -> int:
    with httpx.Client(base_url=pombo.url, headers=headers, timeout=60) as api:
        content = {"type": "text", "text": "Hello"}
        campaign = api.post("/api/campaigns", json={"name": "e2e", "channelIds": [1], "content": content}).json()
        recipients = [str(24_000_000 + n) for n in range(count)]
        sent = api.post("/api/campaigns/send", json={"campaignId": campaign["id"], "recipients": recipients})
        assert sent.status_code == 202, sent.text
        run_id: int = sent.json()["runId"]
        return run_id


def accepted(pombo: Installation, headers: dict[str, str], run_id: int) -> int:
    try:
        answer = httpx.get(f"{pombo.url}/api/runs/{run_id}", headers=headers, timeout=30)
    except httpx.TransportError:
        return 0
    return answer.json()["totals"]["accepted"] if answer.status_code == 200 else 0


def test_a_killed_database_comes_back_and_everything_goes_on_in_the_same_processes(pombo: Installation) -> None:
    headers = key(pombo)
    with pombo.up("--workers", "1") as process:
        run_id = send(pombo, headers, 600)
        while accepted(pombo, headers, run_id) < 100:
            assert not process_wait(process, 0.05)
        pidfile = pombo.directory / "data" / "postgres" / "postmaster.pid"
        os.kill(int(pidfile.read_text().split()[0]), signal.SIGKILL)

        while accepted(pombo, headers, run_id) < 600:
            assert not process_wait(process, 0.1)

        log = (pombo.directory / "up.log").read_text()
        assert "database_started_again" in log
        assert "role_ended" not in log
        stop(process)
        assert not pidfile.exists(), "the database still runs"


def test_a_second_start_is_refused_in_a_sentence(pombo: Installation) -> None:
    with pombo.up("--workers", "1"):
        printed = pombo.run("up", status=1)
    assert f"{pombo.port}" in printed
    assert "Traceback" not in printed


def test_a_host_with_nothing_but_cron_sends_too(pombo: Installation) -> None:
    headers = key(pombo)
    process = subprocess.Popen(
        [sys.executable, "-m", "pombo", "api"], env=pombo.variables(), cwd=pombo.directory, stderr=subprocess.DEVNULL
    )
    try:
        await_answer(process, f"{pombo.url}/health")
        run_id = send(pombo, headers, 20)
        secret = {"Authorization": "Bearer cron-secret-of-16-characters"}
        did = httpx.get(f"{pombo.url}/api/queue/worker", headers=secret, timeout=60).json()
        assert did["processed"] == 15
        assert accepted(pombo, headers, run_id) == 15
    finally:
        stop(process)
