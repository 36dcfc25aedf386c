"""SIGHUP to `pombo up` while it sends: the workers take up new settings one by one, in the processes they are."""

import signal
from typing import Any

import httpx

from tests.e2e.pombo_process import Installation, process_wait
from tests.e2e.test_stop_and_start import RECIPIENTS, directory, prepare, running_sandbox, send

__all__ = ["directory"]


def test_workers_take_up_new_settings_while_they_send_and_refuse_wrong_ones(directory: Any) -> None:
    with running_sandbox() as sandbox:
        pombo = Installation(directory, {"GRAPH_API_URL": str(sandbox.base_url).rstrip("/"), "LOG_LEVEL": "info"})
        settings = directory / ".env"
        settings.write_text("MAX_SOCKETS=40\n")
        channel_ids = prepare(sandbox, pombo)
        key = pombo.run("key", "create", "--name", "e2e").strip()
        with (
            pombo.up("--workers", "2") as process,
            httpx.Client(base_url=pombo.url, headers={"Authorization": f"Bearer {key}"}, timeout=30) as api,
        ):

            def sockets() -> int | None:
                """Of all workers together."""
                found: int | None = api.get("/stats/http-client").json()["total"].get("maxSockets")
                return found

            while sockets() != 80:
                assert not process_wait(process, 0.1)
            run_id = send(pombo, key, channel_ids)
            settings.write_text("MAX_SOCKETS=none\n")
            process.send_signal(signal.SIGHUP)
            while '"settings_refused"' not in (directory / "up.log").read_text():
                assert not process_wait(process, 0.05)
            assert sockets() == 80

            settings.write_text("MAX_SOCKETS=30\n")
            process.send_signal(signal.SIGHUP)
            while sockets() != 60:
                assert not process_wait(process, 0.1)
            while api.get(f"/api/runs/{run_id}").json()["status"] != "completed":
                assert not process_wait(process, 0.1)
        ledger = sandbox.get("/sandbox/ledger").json()
    log = (directory / "up.log").read_text()
    assert log.count('"worker_reloaded"') == 2
    assert '"role_ended"' not in log
    assert log.count("MAX_SOCKETS") == 1
    assert (ledger["accepted"], ledger["duplicates"]) == (RECIPIENTS, 0)
