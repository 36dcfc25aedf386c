"""The commands as a user meets them: one `pombo up --sandbox`, and everything done to it."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.pombo_process import Installation, stop
from tests.e2e.test_stop_and_start import running_sandbox

APP_SECRET = "e2e-app-secret"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[httpx.Client]:
    with running_sandbox() as client:
        app = {"app_id": "1", "app_secret": APP_SECRET, "verify_token": "e2e-verify-token"}
        page = {"page_id": "4001", "app_id": "1", "access_token": "page-token", "settings": {"brake_per_second": None}}
        assert client.post("/sandbox/setup", json={"apps": [app], "pages": [page]}).is_success
        yield client


@pytest.fixture(scope="module")
def pombo(sandbox: httpx.Client) -> Iterator[Installation]:
    with tempfile.TemporaryDirectory(prefix="pombo-e2e-") as name:
        settings = {"GRAPH_API_URL": str(sandbox.base_url).rstrip("/"), "WORKER_SECRET": "cron-secret-of-16-characters"}
        installation = Installation(Path(name), settings)
        with installation.up("--workers", "1") as process:
            yield installation
            stop(process)


def add_page(pombo: Installation, token: str = "page-token", *more: str) -> str:
    return pombo.run(
        "channel", "add", "messenger", "--external-id", "4001", "--name", "Shop", "--token", token,
        "--app-secret", APP_SECRET, "--verify-token", "e2e-verify-token", "--rate", "200", *more,
    )  # fmt: skip


def test_a_channel_is_added_and_the_webhook_handshake_works_at_once(pombo: Installation, sandbox: httpx.Client) -> None:
    added = json.loads(add_page(pombo, "page-token", "--json"))
    assert added["ratePerSecond"] == 200
    assert added["verifyToken"] == "e2e-verify-token"
    callback = {"app_id": "1", "callback_url": f"{pombo.url}/webhook", "object": "page", "verify": True}
    assert sandbox.put("/sandbox/webhooks", json=callback).is_success

    (listed,) = json.loads(pombo.run("channel", "list", "--json"))
    assert (listed["externalId"], listed["state"]) == ("4001", "active")


def test_send_reports_broken_rows_sends_the_good_ones_and_waits_for_all(pombo: Installation) -> None:
    add_page(pombo)
    csv = 'recipient,first_name\n24000001,Ana\n,Nobody\n24000002,"João ""J"""\nnot-a-number,X\n24000001,again\n'

    printed = pombo.run(
        "send", "--channel", "Shop", "--recipients", "-", "--text", "Hi {{ first_name }}", "--wait", "--json",
        stdin=csv, status=1,
    )  # fmt: skip
    assert "Line 3" in printed
    assert "Line 5" in printed

    good = "recipient,first_name\n24000003,Ana\n24000004,Rui\n"
    figures = json.loads(
        pombo.run("send", "--channel", "4001", "--recipients", "-", "--text", "Hi", "--wait", "--json", stdin=good)
    )
    assert (figures["total"], figures["accepted"], figures["rejected"]) == (2, 2, 0)


@pytest.mark.parametrize(
    ("csv", "text", "channel", "says"),
    [
        ("recipient\n24000001\n", "x" * 2001, "Shop", "2000"),
        ("phone\n24000001\n", "Hi", "Shop", "recipient"),
        ("recipient\n", "Hi", "Shop", "nobody"),
        ("recipient\n24000001\n", "Hi", "Elsewhere", "no channel"),
        ("recipient\n24000001\n", "Hi {{ name", "Shop", "column 4"),
    ],
)
def test_send_refuses_what_cannot_be_sent_in_one_sentence(
    pombo: Installation, csv: str, text: str, channel: str, says: str
) -> None:
    add_page(pombo)
    printed = pombo.run("send", "--channel", channel, "--recipients", "-", "--text", text, stdin=csv, status=1)
    assert says.lower() in printed.lower()
    assert "Traceback" not in printed


def test_doctor_finds_a_working_installation_well_and_a_dead_token_not(pombo: Installation) -> None:
    add_page(pombo)
    assert "FAIL" not in pombo.run("doctor")
    add_page(pombo, "revoked-token")
    findings = json.loads(pombo.run("doctor", "--json", status=1, output="stdout"))
    assert [f["what"] for f in findings if not f["ok"]] == ["channel Shop"]
    add_page(pombo)


def test_a_channels_way_with_doubts_is_set_kept_and_checked(pombo: Installation) -> None:
    assert json.loads(add_page(pombo, "page-token", "--json"))["doubtGraceS"] == 120
    add_page(pombo, "page-token", "--doubt-policy", "hold", "--grace", "300")
    kept = json.loads(add_page(pombo, "page-token", "--json"))
    assert (kept["doubtPolicy"], kept["doubtGraceS"]) == ("hold", 300)
    refused = pombo.run(
        "channel", "add", "messenger", "--external-id", "4001", "--name", "Shop", "--token", "page-token",
        "--app-secret", APP_SECRET, "--grace", "68", status=1,
    )  # fmt: skip
    assert "above 68 s" in refused
    add_page(pombo, "page-token", "--doubt-policy", "safe", "--grace", "120")


def test_held_messages_are_listed_and_decided_about(pombo: Installation) -> None:
    add_page(pombo)
    assert json.loads(pombo.run("doubts", "list", "--channel", "Shop", "--json")) == []
    assert "Nothing is held." in pombo.run("doubts", "list")
    assert "Nothing was sent twice." in pombo.run("doubts", "sent-twice", "--channel", "Shop")
    for command, action in (("resend", "resend"), ("mark-sent", "mark_sent"), ("drop", "drop")):
        answer = json.loads(pombo.run("doubts", command, "--channel", "Shop", "--json"))
        assert answer == {"action": action, "resolved": 0}
    assert "--message" in pombo.run("doubts", "drop", status=1)
    assert "no run 999" in pombo.run("doubts", "list", "--run", "999", status=1)
    assert "no channel" in pombo.run("doubts", "resend", "--channel", "Elsewhere", status=1)


def test_partitions_are_reported_made_and_dropped(pombo: Installation) -> None:
    report = json.loads(pombo.run("partitions", "report", "--json"))
    assert {row["table"] for row in report} == {"deliveries", "webhook_log"}
    assert len(pombo.run("partitions", "create", "32").splitlines()) == 4
    assert "Nothing to drop" in pombo.run("partitions", "drop", "7")


def test_an_agent_is_added_once_with_a_key_that_acts_for_the_agent(pombo: Installation) -> None:
    added = json.loads(pombo.run("agent", "add", "Ana", "--json"))
    with httpx.Client(base_url=pombo.url) as api:
        answer = api.get("/api/agents", headers={"Authorization": f"Bearer {added['key']}"}).json()
    assert answer["me"] == added["id"]
    assert "already" in pombo.run("agent", "add", " Ana ", status=1)
    assert "needs a name" in pombo.run("agent", "add", " ", status=2)


def test_a_key_opens_the_api_and_without_one_it_stays_shut(pombo: Installation) -> None:
    key = pombo.run("key", "create", "--name", "e2e").strip()
    with httpx.Client(base_url=pombo.url) as api:
        assert api.get("/stats/workers").status_code == 401
        workers = api.get("/stats/workers", headers={"Authorization": f"Bearer {key}"})
        assert len(workers.json()["workers"]) == 1
        cron = api.get(
            "/api/queue/worker", headers={"Authorization": "Bearer cron-secret-of-16-characters"}, timeout=60
        )
        assert cron.status_code == 200, cron.text


@pytest.mark.parametrize(
    ("variable", "value"), [("PORT", "eighty"), ("DATABASE_URL", "mysql://x"), ("GRAPH_API_VERSION", "26")]
)
def test_a_wrong_setting_is_named_at_the_start(pombo: Installation, variable: str, value: str) -> None:
    wrong = Installation(pombo.directory, {**pombo.environment, variable: value})
    printed = wrong.run("migrate", status=1)
    assert variable in printed
    assert "Traceback" not in printed


def test_a_port_that_is_taken_is_said_in_a_sentence(pombo: Installation) -> None:
    printed = Installation(pombo.directory, pombo.environment, pombo.port).run("api", status=1)
    assert str(pombo.port) in printed
    assert "Traceback" not in printed


def test_a_run_is_paused_resumed_and_cancelled_and_everything_is_held_by_one_command(pombo: Installation) -> None:
    add_page(pombo)

    def command(*words: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(pombo.run(*words, "--json"))
        return found

    csv = "recipient\n" + "\n".join(str(25_000_000 + n) for n in range(3_000))
    sent = json.loads(pombo.run("send", "--channel", "Shop", "--recipients", "-", "--text", "Hi", "--json", stdin=csv))
    run = str(sent["runId"])
    assert command("run", "pause", run, "--wait")["status"] == "paused"
    assert command("panic", "--wait")["state"] == "halted"
    assert "held: `pombo panic --release" in pombo.run("doctor", status=1, output="stdout")
    assert command("run", "resume", run)["status"] in ("pending", "processing")

    # Still held, so that something is left to cancel however long a command takes to start.
    cancelled = command("run", "cancel", run, "--wait")
    assert cancelled["status"] == "cancelled"
    assert cancelled["accepted"] + cancelled["cancelled"] + cancelled["failed"] == cancelled["total"] == 3_000
    assert cancelled["cancelled"] > 0
    assert command("panic", "--release")["state"] == "released"
    listed = json.loads(pombo.run("run", "list", "--json"))
    assert [row["status"] for row in listed if row["runId"] == sent["runId"]] == ["cancelled"]
    assert f"{run}  cancelled" in pombo.run("run", "list")

    assert "too late to pause" in pombo.run("run", "pause", run, status=1)
    assert "There is no run 999" in pombo.run("run", "cancel", "999", status=1)


def test_people_are_put_on_the_suppression_list_from_a_file_and_taken_off(pombo: Installation) -> None:
    add_page(pombo)
    csv = "recipient,first_name\n24000101,Ana\nnot-a-number,X\n24000102,Rui\n24000101,again\n"
    add = ["suppressions", "add", "--kind", "messenger", "--recipients", "-", "--reason", "Old list."]
    added = json.loads(pombo.run(*add, "--json", stdin=csv))
    assert (added["added"], added["withdrawn"], added["rejected"]) == (2, 0, 1)
    assert (added["rejects"][0]["line"], added["rejects"][0]["code"]) == (3, "psid_invalid")

    listed = [json.loads(line) for line in pombo.run("suppressions", "list", "--json").splitlines()]
    assert [(one["recipient"], one["reason"]) for one in listed] == [
        ("24000101", "Old list."),
        ("24000102", "Old list."),
    ]
    for person in ("24000101", "24000102"):
        assert "gets campaigns again" in pombo.run("suppressions", "remove", "--kind", "messenger", person)
    assert "not on the list" in pombo.run("suppressions", "remove", "--kind", "messenger", "24000101", status=1)
    assert "Nobody to add" in pombo.run("suppressions", "add", "--kind", "messenger", status=1)
    assert pombo.run("suppressions", "list") == "Nobody is on the list.\n"


def test_a_stopped_channel_is_started_and_a_breaker_reset_by_command(pombo: Installation) -> None:
    add_page(pombo)
    assert "Shop is not stopped." in pombo.run("channel", "start", "Shop")
    assert json.loads(pombo.run("breaker", "list", "--json")) == []
    assert "closes it" in pombo.run("breaker", "reset", "Shop")
    assert "no channel 'Nobody'" in pombo.run("breaker", "reset", "Nobody", status=1)
