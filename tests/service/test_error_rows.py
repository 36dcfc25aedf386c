"""Every error that Meta documents, through the real path: sandbox, transport, judge, outcome writer, tables.

Written from the platform's facts (its error pages of 2026) and not from our table. Each code has a channel, a Meta
app, an account and a run of its own, so that nobody suffers for another's error; one worker sends for all of them.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from pombo.domain.channels import ChannelKind
from pombo.store.database import Database
from pombo.store.secrets import SecretBox
from tests.sandbox_server import SandboxHandle
from tests.seeding import SeededRun, add_channel, add_run
from tests.service.test_worker import Setting, options, sandbox, setting, working, workspace

__all__ = ["options", "sandbox", "setting", "workspace"]  # fixtures

# What becomes of the message, and of whom else.
DOUBT = "in doubt"
FAIL = "failed"
RETRY = "tried again, counted"
SLOW = "tried again, not counted"
STOP = "channel stopped, message kept"
PAUSE = "run paused, message kept"

Code = int | tuple[int, int]
MESSENGER: dict[str, list[Code]] = {
    SLOW: [4, (4, 2018022), 17, 32, 341, 613, (613, 2534040), (613, 1996), 80001, 80002, 80006, 80008],
    STOP: [
        190, (190, 458), (190, 459), (190, 460), (190, 463), (190, 464), (190, 467), (190, 492), 102, 3, 10,
        (10, 1404170), 200, 213, 299, (200, 2018028), (200, 2018027), (200, 2534041), (10, 1893063), 368, 2022,
        (100, 2534029), (100, 33),
    ],
    FAIL: [
        (613, 1893016), (4, 2018354), (9, 2018352), 551, (551, 1545041), (200, 1545041), (10, 2018108),
        (100, 2018001), (10, 1893015),
        (100, 2018218), 2018218, (10, 2018278), (10, 2018065), (10, 2534022), 2018300, 2018321, (100, 2534037), 2018171,
        100, (100, 2018014), (100, 2018008), (100, 2018047), (100, 2018074), (100, 2018109), (100, 2018164),
        (100, 2018294), (100, 2018320), (100, 2018328), 506, (100, 2534014),
    ],
    DOUBT: [1, (1, 99), (1, 1357046), 2, -1, -2, 1200, (613, 2018338), 424242],
}  # fmt: skip
WHATSAPP: dict[str, list[Code]] = {
    SLOW: [4, 80007, 130429, 133016, 131057],
    RETRY: [131056, 134101],
    STOP: [
        0, 3, 10, 190, 200, 250, 131005, 33, (100, 33), 368, 131048, 131064, 131031, 131042, 131037, 131045, 133000,
        133005, 133006, 133008, 133009, 133010, 133015, 134011,
    ],
    FAIL: [
        130497, 100, 131008, 131009, 131021, 131026, 131030, 131047, 131049, 131050, 130472, 131051, 131052, 131053,
        131062, 137000, 132000, 132001, 132005, 132008, 132012, 131055, 134100, 134102, 135000, 131020, 131041, 131059,
        131201, 131202, 131204, 131207, 131209, 131215,
    ],
    PAUSE: [132015, 132016, 132007, 132068, 132069, 131063],
    DOUBT: [1, 2, 131000, 131016, 133004, 424242],
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    code: int
    subcode: int | None
    expected: str
    channel: int
    run: SeededRun


async def make_case(setting: Setting, kind: ChannelKind, code: Code, expected: str) -> tuple[Case, dict[str, Any]]:
    number, subcode = code if isinstance(code, tuple) else (code, None)
    app = await setting.sandbox.add_app()
    if kind is ChannelKind.MESSENGER:
        handle, to = await setting.sandbox.add_page(app), "10001"
        content: dict[str, Any] = {"type": "text", "text": "Hello"}
    else:
        handle, to = await setting.sandbox.add_phone(app), "+14155550001"
        await setting.sandbox.add_template(handle, "hello")
        content = {"type": "template", "name": "hello", "language": "en_US"}
    channel = await add_channel(setting.database, setting.box, setting.workspace, handle)
    run = await add_run(setting.database, setting.workspace, [(channel, to)], content)
    fault = {"kind": "error", "channel": handle.id, "code": number, "subcode": subcode, "http_status": 400}
    return Case(number, subcode, expected, channel, run), fault


_STATE = """
SELECT CASE WHEN c.state = 'stopped' THEN 'channel stopped, message kept'
            WHEN r.state IN ('pausing', 'paused') THEN 'run paused, message kept'
            WHEN d.state = 1 THEN 'failed'
            WHEN o.state = 'u' THEN 'in doubt'
            WHEN o.error_code IS NULL THEN NULL
            WHEN o.uncounted = 0 THEN 'tried again, counted'
            WHEN o.uncounted >= o.attempt - 1 THEN 'tried again, not counted' END AS became,
       o.id IS NOT NULL AS kept, coalesce(c.stop_reason, r.pause_reason) AS why,
       (SELECT count(*) FROM suppressions) AS suppressed
FROM channels c
JOIN runs r ON r.id = $2
LEFT JOIN outbox o ON o.run_id = r.id
LEFT JOIN deliveries d ON d.run_id = r.id
WHERE c.id = $1
"""


@pytest.mark.parametrize(("kind", "table"), [(ChannelKind.MESSENGER, MESSENGER), (ChannelKind.WHATSAPP, WHATSAPP)])
async def test_each_documented_error_has_its_consequence(
    setting: Setting, kind: ChannelKind, table: dict[str, list[Code]]
) -> None:
    made = [await make_case(setting, kind, code, expected) for expected, codes in table.items() for code in codes]
    await setting.sandbox.add_faults(*(fault for _, fault in made))
    became: dict[tuple[int, int | None], tuple[str, bool, str | None]] = {}
    async with working(setting.database, setting.box, setting.options) as worker, asyncio.timeout(60):
        while len(became) < len(made):
            worker.saved.clear()
            async with setting.database.borrow() as connection:
                for case, _ in made:
                    row = await connection.fetchrow(_STATE, case.channel, case.run.run_id)
                    # The first consequence counts: what is tried again ends some day as well.
                    if row["became"] is not None:
                        found = (row["became"], row["kept"], row["why"])
                        if (case.code, case.subcode) not in became or row["became"] in (STOP, PAUSE):
                            became[case.code, case.subcode] = found
            await worker.saved.wait()
    wrong = {
        (case.code, case.subcode): (case.expected, became[case.code, case.subcode])
        for case, _ in made
        if became[case.code, case.subcode][0] != case.expected
    }
    assert wrong == {}
    for case, _ in made:
        _, kept, why = became[case.code, case.subcode]
        # What is kept will be sent when somebody has acted, and they are told how.
        assert kept == (case.expected != FAIL), case
        assert (why is not None and why.endswith(".")) == (case.expected in (STOP, PAUSE)), case


async def test_an_opt_out_suppresses_the_contact_and_later_campaigns_leave_it_out(
    setting: Setting, database: Database, box: SecretBox, sandbox: SandboxHandle
) -> None:
    _, fault = await make_case(setting, ChannelKind.WHATSAPP, 131050, FAIL)
    await sandbox.add_faults(fault)
    async with working(database, box, setting.options) as worker, asyncio.timeout(20):
        while await setting.value("SELECT count(*) FROM suppressions") == 0:
            worker.saved.clear()
            await worker.saved.wait()
    assert await setting.value("SELECT kind || ' ' || recipient || ' ' || code FROM suppressions") == (
        "whatsapp +14155550001 131050"
    )
