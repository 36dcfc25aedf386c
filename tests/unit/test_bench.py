"""The bench measures what it says: rivals send what Pombo sends, answers and receipts are such as Meta's."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bench import receipts, report
from bench.receipts import Poster, Receipts
from bench.wire import TEXT, WIRES, Wire
from pombo.domain.channels import ChannelKind
from pombo.domain.content import Text
from pombo.domain.events import StatusReceipt
from pombo.domain.outcomes import Accepted, DeliveryState
from pombo.domain.sendkey import parse_key
from pombo.meta.answers import read_answer
from pombo.meta.payloads import compile_payload
from pombo.meta.webhooks import parse_webhook

RIVALS = Path(__file__).parents[2] / "bench" / "rivals"
WHATSAPP = WIRES[ChannelKind.WHATSAPP]
KEY = "pombo1.17.1.20261125"


def rendered(wire: Wire, n: int) -> bytes:
    return compile_payload(wire.kind, Text(text=TEXT)).render(wire.recipient(n), KEY, None)


def python_rival(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    work = {"url": "", "version": "v26.0", "channels": ["1000000", "1000001"], "text": TEXT, "token": "token"}
    monkeypatch.setenv("BENCH_WORK", json.dumps(work | {"firstRecipient": WHATSAPP.first_recipient}))
    spec = importlib.util.spec_from_file_location("work_of_a_rival", RIVALS / "python" / "work.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_rival_in_python_sends_what_pombo_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    rival = python_rival(monkeypatch)
    job = json.loads(rival.job(17))
    theirs = json.loads(rival.body(job))
    assert theirs.pop("biz_opaque_callback_data") == "rival.17"
    ours = json.loads(rendered(WHATSAPP, 17))
    assert ours.pop("biz_opaque_callback_data") == KEY
    assert theirs == ours
    assert rival.target(job) == "/v26.0/1000001/messages"


def test_a_rival_in_node_builds_the_same_members_in_the_same_order() -> None:
    source = (RIVALS / "node" / "work.js").read_text()
    body = source[source.index("export function body") :]
    names = re.findall(r"^    (\w+):", body, re.MULTILINE)
    assert names == list(json.loads(rendered(WHATSAPP, 1)))


@pytest.mark.parametrize("wire", WIRES.values(), ids=lambda wire: wire.kind)
def test_the_answering_server_accepts_and_knows_which_message_it_was(wire: Wire) -> None:
    outcome = read_answer(wire.kind, 200, wire.answer % (b"%032d" % 5))
    assert isinstance(outcome, Accepted)
    assert outcome.provider_id.endswith(f"{5:032}")
    assert wire.number(rendered(wire, 17)) == 17


def test_three_receipts_come_of_each_accepted_message(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(receipts.time, "monotonic", lambda: now)
    poster = Poster(Receipts(1, "/webhook", "secret"))
    request = b"POST /v26.0/1000003/messages HTTP/1.1\r\n\r\n" + rendered(WHATSAPP, 17)
    poster.accepted(request, WHATSAPP.answer % (b"%032d" % 5))
    now += receipts.LAST_S
    poster.collect()
    body, count = poster.bodies.get_nowait()
    events = parse_webhook(body).events
    assert count == len(events) == poster.counts()["owed"] == 3
    assert all(isinstance(event, StatusReceipt) for event in events)
    states = {event.state for event in events if isinstance(event, StatusReceipt)}
    assert states == {DeliveryState.ACCEPTED, DeliveryState.DELIVERED, DeliveryState.READ}
    for event in events:
        assert isinstance(event, StatusReceipt)
        assert event.channel == "1000003"
        assert event.provider_id.endswith(f"{5:032}")
        assert event.recipient == WHATSAPP.recipient(17)
        assert event.key == parse_key(KEY)


def test_what_is_installed_is_pinned_and_names_no_address() -> None:
    package = json.loads((RIVALS / "node" / "package.json").read_text())
    assert all(re.fullmatch(r"[0-9.]+", version) for version in package["dependencies"].values())
    lock = json.loads((RIVALS / "node" / "package-lock.json").read_text())
    assert lock["packages"][""]["dependencies"] == package["dependencies"]
    assert [name for name, entry in lock["packages"].items() if "resolved" in entry] == []
    assert all("integrity" in entry for name, entry in lock["packages"].items() if name)
    requirements = (RIVALS / "python" / "requirements.txt").read_text()
    assert re.findall(r"^[\w-]+(?!==)[<>~ ]", requirements, re.MULTILINE) == []


def full_case(**systems: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "full", "receipts": 0, "latency_s": 0.0, "ceilings": [100_000.0, 90_000.0], "systems": systems}


def test_the_report_begins_with_ratios_and_tells_of_a_system_that_failed() -> None:
    def measured(rate: float, worker: float) -> dict[str, Any]:
        cpu = {"worker": worker, "database": 30.0}
        return {"rate": rate, "cpu_ms_per_1000": cpu, "peak_rss_mb": {"worker": 99.6}, "read": 0, "failures": []}

    case = full_case(
        pombo=measured(24_000.0, 20.0), slow=measured(8_000.0, 120.0), broken={"runs": [], "failures": ["x"]}
    )
    options = {"messages": 50_000, "channels": 20, "connections": 500, "processes": 1, "rounds": 3}
    text = report.rivals({"options": options, "cases": [case]})
    assert "`wrk`: 95,000/s" in text
    rows = {row.split(" | ")[0].strip("| "): row for row in text.splitlines() if row.startswith("|")}
    assert rows["slow"] == "| slow | 3.0 × | 3.0 × | 8,000 | 120 + 30 ms | 100 |  |"
    assert rows["broken"].startswith("| broken | failed |")
