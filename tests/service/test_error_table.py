"""Every error that Meta documents, through a whole worker: sandbox, answer, and what becomes of message, recipient,
template, channel, account and app.

All of them are met in one run of one worker, and each is a test of its own on what was found afterwards. An error that
concerns one message meets a recipient of its own on a channel that all share. One that concerns a channel has a channel
of its own, with a sibling in the same app and WhatsApp account and a cousin in the same app alone; these have nothing
to send, so whatever befalls them comes from the first.
"""

import asyncio
import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest
import uvloop

from pombo.domain.ids import ChannelId, WorkspaceId
from pombo.meta.errors import all_rules, find_rule
from pombo.sending.worker import Worker, WorkerOptions
from pombo.store.database import Database
from pombo.store.embedded import EmbeddedServer
from pombo.store.secrets import SecretBox
from tests.conftest import fresh_database
from tests.platform_errors import (
    ACCOUNT,
    APP,
    AUTH,
    CHANNEL,
    DOUBTFUL,
    MESSAGE,
    PERMANENT,
    POLICY,
    PROVEN,
    RATE_LIMIT,
    RECIPIENT,
    TEMPLATE,
    TRANSIENT,
    Expected,
    M,
    W,
)
from tests.sandbox_server import AppHandle, ChannelHandle, SandboxHandle, running_sandbox
from tests.seeding import SeededRun, add_channel, add_run, add_workspace

WIDE = (CHANNEL, ACCOUNT, APP)
TEMPLATE_NAME = "spring_offer"

# Each error's consequences, as the person who runs the channel would tell them.
FAILS = {"message": "failed", "channel": "goes on"}
SUPPRESSES = {"message": "failed", "channel": "goes on", "recipient": "suppressed"}
IN_DOUBT = {"message": "in doubt", "channel": "goes on"}
WAITS_ALONE = {"message": "waits, counted", "channel": "goes on"}
PAUSES = {
    "message": "waits",
    "channel": "goes on",
    "runs with the template": "pausing, says what to do",
    "other run": "processing",
}


def hits(scope: str, how: str) -> dict[str, str]:
    found = {"message": "waits", "channel": how, "sibling": "goes on", "cousin": "goes on"}
    if scope in (ACCOUNT, APP):
        found["sibling"] = how
    if scope == APP:
        found["cousin"] = how
    return found


OPT_OUTS = {(M, 10, 1893015), (W, 131050, None)}
BY_CLASS_AND_SCOPE = {
    **{(PERMANENT, scope): FAILS for scope in (MESSAGE, RECIPIENT, TEMPLATE)},
    (RATE_LIMIT, RECIPIENT): WAITS_ALONE,
    (TRANSIENT, TEMPLATE): WAITS_ALONE,
    (POLICY, TEMPLATE): PAUSES,
    (RATE_LIMIT, TEMPLATE): PAUSES,
    **{
        (error_class, scope): hits(scope, "stopped, says what to do")
        for error_class in (AUTH, POLICY)
        for scope in WIDE
    },
    **{(error_class, scope): hits(scope, "slowed down") for error_class in (RATE_LIMIT, TRANSIENT) for scope in WIDE},
}


def consequences(row: Expected) -> dict[str, str]:
    kind, code, subcode, error_class, scope = row
    if row in DOUBTFUL:
        return IN_DOUBT
    return SUPPRESSES if (kind, code, subcode) in OPT_OUTS else BY_CLASS_AND_SCOPE[error_class, scope]


# --- the scene --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scene:
    """What one error meets."""

    message: int
    channel: ChannelId
    sibling: ChannelId | None = None
    cousin: ChannelId | None = None
    with_template: tuple[int, ...] = ()
    """Runs."""
    other_run: int | None = None


class Stage:
    def __init__(self, database: Database, box: SecretBox, sandbox: SandboxHandle, workspace: WorkspaceId) -> None:
        self.database = database
        self.box = box
        self.sandbox = sandbox
        self.workspace = workspace
        self.scenes: list[tuple[Expected, Scene]] = []
        self._recipients = count(1)
        self._texts: list[tuple[ChannelId, str]] = []
        self._faults: list[dict[str, Any]] = []

    async def build(self) -> None:
        app = await self.sandbox.add_app()
        shared = {M: await self._add(app, M), W: await self._add(app, W)}
        waiting: list[tuple[Expected, ChannelId, ChannelId | None, ChannelId | None]] = []
        for row in PROVEN + DOUBTFUL:
            kind = row[0]
            expected = consequences(row)
            if expected is PAUSES:
                await self._add_template_scene(row)
            elif "cousin" in expected:
                waiting.append((row, *await self._add_family(row)))
            else:
                handle, channel = shared[kind]
                self._text_to(channel, self._fault(row, handle))
                waiting.append((row, channel, None, None))
        run = await add_run(self.database, self.workspace, self._texts)
        for (row, *channels), message in zip(waiting, run.message_ids, strict=True):
            self.scenes.append((row, Scene(message, *channels)))
        # Behind all the errors: whoever still sends accepts this one.
        controls = [(channel, self._recipient(kind)) for kind, (_, channel) in shared.items()]
        self.controls = await add_run(self.database, self.workspace, controls)
        await self.sandbox.add_faults(*self._faults)

    async def _add(self, app: AppHandle, kind: str, waba_id: str = "") -> tuple[ChannelHandle, ChannelId]:
        handle = (
            await self.sandbox.add_page(app, brake_per_second=None, calls_per_second=None)
            if kind == M
            else await self.sandbox.add_phone(app, waba_id=waba_id, messages_per_second=None)
        )
        return handle, await add_channel(self.database, self.box, self.workspace, handle)

    async def _add_family(self, row: Expected) -> tuple[ChannelId, ChannelId, ChannelId]:
        kind = row[0]
        app = await self.sandbox.add_app()
        handle, hit = await self._add(app, kind)
        _, sibling = await self._add(app, kind, handle.waba_id)
        _, cousin = await self._add(app, kind)
        self._text_to(hit, self._fault(row, handle))
        return hit, sibling, cousin

    async def _add_template_scene(self, row: Expected) -> None:
        app = await self.sandbox.add_app()
        handle, hit = await self._add(app, W)
        _, sibling = await self._add(app, W, handle.waba_id)
        for name in (TEMPLATE_NAME, "another"):
            await self.sandbox.add_template(handle, name)
        struck = self._fault(row, handle)
        first = await self._add_template_run(hit, struck, TEMPLATE_NAME)
        second = await self._add_template_run(sibling, "+15550009999", TEMPLATE_NAME, "1 hour")
        other = await self._add_template_run(hit, "+15550009998", "another", "1 hour")
        scene = Scene(first.message_ids[0], hit, with_template=(first.run_id, second.run_id), other_run=other.run_id)
        self.scenes.append((row, scene))

    async def _add_template_run(self, channel: ChannelId, to: str, name: str, later: str = "0") -> SeededRun:
        content = {"type": "template", "name": name, "language": "en_US"}
        run = await add_run(self.database, self.workspace, [(channel, to)], content)
        async with self.database.borrow() as connection:
            await connection.execute(
                "UPDATE outbox SET due_at = now() + $2::text::interval WHERE run_id = $1", run.run_id, later
            )
        return run

    def _fault(self, row: Expected, handle: ChannelHandle) -> str:
        """The recipient that it strikes."""
        kind, code, subcode, *_ = row
        recipient = self._recipient(kind)
        fault = {"kind": "error", "code": code, "subcode": subcode, "channel": handle.id}
        self._faults.append(fault | {"recipient": recipient.lstrip("+"), "when": "before"})
        return recipient

    def _text_to(self, channel: ChannelId, recipient: str) -> None:
        self._texts.append((channel, recipient))

    def _recipient(self, kind: str) -> str:
        number = next(self._recipients)
        return str(10_000_000 + number) if kind == M else f"+1555{2_000_000 + number}"

    # --- what became of it ------------------------------------------------------------------------------------------

    async def found(self, worker: Worker) -> list[dict[str, str]]:
        async with self.database.borrow() as connection:
            messages = {
                row["id"]: row["became"]
                for row in await connection.fetch(
                    """SELECT id, CASE WHEN state = 'u' THEN 'in doubt' WHEN state <> 'r' THEN 'under way'
                                       WHEN attempt = 0 THEN 'untried' WHEN attempt = uncounted THEN 'waits'
                                       WHEN due_at <= now() THEN 'to be tried again'
                                       ELSE 'waits, counted' END AS became FROM outbox
                       UNION ALL
                       SELECT id, CASE state WHEN 1 THEN 'failed' ELSE 'accepted' END FROM deliveries"""
                )
            }
            stopped = dict(
                tuple(row)
                for row in await connection.fetch("SELECT id, stop_reason FROM channels WHERE state = 'stopped'")
            )
            throttled = {
                row["channel_id"]
                for row in await connection.fetch("SELECT channel_id FROM cooldowns WHERE cause = 'throttle'")
            }
            suppressed = {
                row["id"]
                for row in await connection.fetch(
                    """SELECT d.id FROM suppressions s JOIN channels c USING (workspace_id, kind)
                       JOIN deliveries d ON d.channel_id = c.id AND d.recipient = s.recipient"""
                )
            }
            runs = {
                row["id"]: row["state"]
                for row in await connection.fetch(
                    """SELECT id, state || CASE WHEN pause_reason LIKE '%. %.' THEN ', says what to do' ELSE '' END
                           AS state FROM runs"""
                )
            }
        lanes = {lane.channel.id: lane for lane in worker.lanes.values()}

        def state_of(channel: ChannelId) -> str:
            if (channel in stopped) != lanes[channel].stopped:
                return "stopped by halves"
            if lanes[channel].stopped:
                # The reason in words, and the next step.
                return "stopped, says what to do" if re.fullmatch(r".+[.].* .+[.]", stopped[channel]) else "stopped"
            return "slowed down" if lanes[channel].throttled or channel in throttled else "goes on"

        seen = []
        for _, scene in self.scenes:
            one = {"message": messages[scene.message], "channel": state_of(scene.channel)}
            if scene.sibling is not None and scene.cousin is not None:
                one |= {"sibling": state_of(scene.sibling), "cousin": state_of(scene.cousin)}
            if scene.message in suppressed:
                one["recipient"] = "suppressed"
            if scene.other_run is not None:
                one["runs with the template"] = " and ".join(sorted({runs[run] for run in scene.with_template}))
                one["other run"] = runs[scene.other_run]
            seen.append(one)
        return seen

    async def controls_accepted(self) -> int:
        async with self.database.borrow() as connection:
            accepted: int = await connection.fetchval(
                "SELECT count(*) FROM deliveries WHERE state = 2 AND id = ANY ($1::bigint[])", self.controls.message_ids
            )
        return accepted


# --- the run ----------------------------------------------------------------------------------------------------------

Story = dict[tuple[str, int, int | None], dict[str, str]]


@pytest.fixture(scope="module")
def story(server: EmbeddedServer, box: SecretBox) -> Story:
    """What became of every error's scene."""
    return uvloop.run(_play(server, box))


async def _play(server: EmbeddedServer, box: SecretBox) -> Story:
    async with fresh_database(server) as url, Database.open(url) as database, running_sandbox() as sandbox:
        stage = Stage(database, box, sandbox, await add_workspace(database))
        await stage.build()
        # The breaker and the count of failures in a row have their own tests; here errors come from many causes.
        options = WorkerOptions(sandbox.base_url, "v26.0", 50, 50, breaker_enabled=False, content_failures=0)
        worker, stop = Worker(database, box, options), asyncio.Event()
        task = asyncio.create_task(worker.run(stop))
        wanted = [consequences(row) for row, _ in stage.scenes]
        found: Sequence[dict[str, str]] = []
        try:
            async with asyncio.timeout(30):
                while found != wanted or await stage.controls_accepted() < 2:
                    worker.saved.clear()
                    found = await stage.found(worker) if len(worker.lanes) else []
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.2):
                            await worker.saved.wait()
        except TimeoutError:
            pass  # each test says what is missing
        finally:
            stop.set()
            await task
        assert await stage.controls_accepted() == 2
        assert (await sandbox.ledger())["accepted"] == 2
        return {row[:3]: one for (row, _), one in zip(stage.scenes, found, strict=True)}


def name(row: Expected) -> str:
    return " ".join(map(str, row[:3]))


@pytest.mark.parametrize("row", PROVEN + DOUBTFUL, ids=name)
def test_an_error_has_these_consequences_and_no_others(row: Expected, story: Story) -> None:
    assert story[row[:3]] == consequences(row)


def test_every_row_of_the_table_is_played() -> None:
    played = {id(find_rule(kind, code, subcode)) for kind, code, subcode, *_ in PROVEN + DOUBTFUL}
    assert [rule for rule in all_rules() if id(rule) not in played] == []
