"""Errors that come in statuses: for the person, for campaigns with the template, for channels of the account."""

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pombo.domain.channels import ChannelKind
from pombo.domain.content import Template
from pombo.domain.ids import AppId, ChannelId, WorkspaceId
from pombo.ingest.ingester import Ingester
from pombo.store import campaigns, channels, run_control, suppressions, webhooks
from pombo.store.database import Connection, Database
from pombo.store.secrets import SecretBox
from pombo.store.webhooks import SignedWebhook
from tests.delivery_log import House, Message
from tests.seeding import add_run
from tests.service.test_ingest import NUMBER, number_webhook, status

PERSON = "+4915112345678"
SPRING = {"type": "template", "name": "spring", "language": "en_US"}
HOUR = 3600


class Stage:
    """A WhatsApp account of two numbers, and a number of another one."""

    def __init__(self, database: Database, connection: Connection, house: House) -> None:
        self.connection = connection
        self._database = database
        self._house = house
        self._ingester = Ingester(database)

    async def build(self) -> "Stage":
        self.number, self.sibling, self.stranger = [
            ChannelId(await self._house.channel(self.connection, number, ChannelKind.WHATSAPP))
            for number in (NUMBER, "2", "3")
        ]
        await self.connection.execute(
            "UPDATE channels SET waba_id = CASE id WHEN $1 THEN '2' ELSE '1' END", self.stranger
        )
        return self

    @property
    def workspace(self) -> WorkspaceId:
        return WorkspaceId(self._house.workspace_id)

    async def run(self, channel: ChannelId, content: dict[str, Any] | None = None, recipient: str = PERSON) -> int:
        """One message waits."""
        run = await add_run(self._database, self.workspace, [(channel, recipient)], content)
        await self.connection.execute(
            """INSERT INTO run_recipients (workspace_id, run_id, channel_id, recipient, message_id)
               VALUES ($1, $2, $3, $4, $5)""",
            self.workspace, run.run_id, channel, recipient, run.message_ids[0],
        )  # fmt: skip
        return run.run_id

    async def accepted(self, run_id: int = 0, recipient: str = PERSON) -> Message:
        return await self._house.accepted(self.connection, self.number, recipient, run_id=run_id)

    async def tell(self, *statuses: dict[str, Any]) -> None:
        for one in statuses:
            signed = SignedWebhook(self.workspace, AppId(self._house.app_id), number_webhook(one))
            await webhooks.append(self.connection, [signed])
            while await self._ingester.run_once():
                pass

    async def state_of(self, *run_ids: int) -> list[str]:
        return [await self.connection.fetchval("SELECT state FROM runs WHERE id = $1", run_id) for run_id in run_ids]

    async def stopped(self) -> dict[int, str]:
        """Codes by channel."""
        rows = await self.connection.fetch("SELECT id, stop_code FROM channels WHERE state = 'stopped'")
        return {row["id"]: row["stop_code"] for row in rows}

    async def suppressed(self) -> list[tuple[str, str]]:
        rows = await self.connection.fetch("SELECT recipient, code FROM suppressions ORDER BY recipient")
        return [(row["recipient"], row["code"]) for row in rows]


@pytest.fixture
async def stage(database: Database, box: SecretBox) -> AsyncIterator[Stage]:
    async with database.borrow() as connection:
        yield await Stage(database, connection, await House.build(connection, box)).build()


def failed(message: Message, code: int, seconds: int = 1, **more: Any) -> dict[str, Any]:
    return status(message, "failed", seconds, errors=[{"code": code, "title": "No"}], **more)


# --- the person -------------------------------------------------------------------------------------------------------


async def test_an_opt_out_suppresses_the_person_and_withdraws_what_campaigns_have_queued(stage: Stage) -> None:
    waiting, another = await stage.run(stage.sibling), await stage.run(stage.sibling, recipient="+4915100000000")
    message = await stage.accepted(waiting)

    await stage.tell(failed(message, 131050, recipient_id=PERSON[1:]))
    assert await stage.suppressed() == [(PERSON, "131050")]
    assert await stage.connection.fetchval("SELECT array_agg(run_id) FROM outbox") == [another]
    assert await stage.connection.fetchval("SELECT recipient FROM deliveries WHERE state = 0") == PERSON


async def test_who_opted_out_is_suppressed_as_addressed_and_as_meta_writes_it(stage: Stage) -> None:
    message = await stage.accepted(recipient="+5511987654321")
    await stage.tell(failed(message, 131050, recipient_id="551187654321"))
    assert await stage.suppressed() == [("+551187654321", "131050"), ("+5511987654321", "131050")]


async def test_an_opt_out_told_again_does_not_suppress_who_was_taken_off_the_list(stage: Stage) -> None:
    message = await stage.accepted()
    told = failed(message, 131050, recipient_id=PERSON[1:])
    await stage.tell(told)
    await suppressions.lift(stage.connection, stage.workspace, ChannelKind.WHATSAPP, PERSON)
    await stage.tell(told, failed(message, 131050, 0), status(message, "sent", 0), told)
    assert await stage.suppressed() == []


async def test_a_status_without_our_key_is_heeded_by_metas_id(stage: Stage) -> None:
    message = await stage.accepted()
    await stage.tell(failed(message, 131050, recipient_id=PERSON[1:], biz_opaque_callback_data=None))
    assert await stage.suppressed() == [(PERSON, "131050")]


async def test_an_undeliverable_message_concerns_nobody_else(stage: Stage) -> None:
    waiting = await stage.run(stage.number, SPRING)
    await stage.tell(failed(await stage.accepted(waiting), 131026))
    assert (await stage.suppressed(), await stage.stopped()) == ([], {})
    assert await stage.state_of(waiting) == ["processing"]


# --- campaigns --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [132015, 132016])
async def test_a_stopped_template_pauses_the_accounts_campaigns_with_it(stage: Stage, code: int) -> None:
    struck, same = await stage.run(stage.number, SPRING), await stage.run(stage.sibling, SPRING)
    others = [await stage.run(stage.number, SPRING | {"language": "de"}), await stage.run(stage.stranger, SPRING)]

    await stage.tell(failed(await stage.accepted(struck), code))
    assert await stage.state_of(struck, same) == ["pausing"] * 2
    assert await stage.state_of(*others) == ["processing"] * 2
    assert "the campaign" in await stage.connection.fetchval("SELECT pause_reason FROM runs WHERE id = $1", same)


async def test_a_direct_message_tells_of_its_template_too(stage: Stage) -> None:
    run = await stage.run(stage.number, SPRING)
    message = await stage._house.prepare(stage.connection, stage.number, PERSON, run_id=-1)
    await stage._house.queue(stage.connection, message)
    content = campaigns.encode_content(Template("spring", "en_US"))
    await stage.connection.execute("UPDATE outbox SET content = $1 WHERE id = $2", content, message.id)

    await stage.tell(failed(message, 132015))
    assert await stage.state_of(run) == ["pausing"]


async def test_what_meta_said_of_a_template_before_a_resumption_pauses_nothing_again(stage: Stage) -> None:
    run = await stage.run(stage.number, SPRING)
    messages = [await stage.accepted(run) for _ in range(4)]
    first = failed(messages[0], 132015)
    await stage.tell(first)
    async with stage.connection.transaction():
        await run_control.resume_runs(stage.connection, stage.workspace, [run])

    await stage.tell(first, failed(messages[1], 132015, -HOUR))
    assert await stage.state_of(run) == ["processing"]
    await stage.tell(failed(messages[2], 132015, HOUR))
    assert await stage.state_of(run) == ["pausing"]


# --- channels ---------------------------------------------------------------------------------------------------------


async def test_an_error_of_the_account_stops_all_its_numbers(stage: Stage) -> None:
    await stage.tell(failed(await stage.accepted(), 131042))
    assert await stage.stopped() == {stage.number: "131042", stage.sibling: "131042"}
    assert "payment" in await stage.connection.fetchval("SELECT stop_reason FROM channels WHERE id = $1", stage.sibling)


async def test_an_error_of_the_number_stops_it_alone(stage: Stage) -> None:
    await stage.tell(failed(await stage.accepted(), 131048))
    assert await stage.stopped() == {stage.number: "131048"}


async def test_what_meta_said_of_an_account_before_its_start_stops_nothing_again(stage: Stage) -> None:
    messages = [await stage.accepted() for _ in range(3)]
    first = failed(messages[0], 131031)
    await stage.tell(first)
    assert len(await channels.start_channel(stage.connection, stage.workspace, stage.sibling)) == 2

    await stage.tell(first, failed(messages[1], 131031, -HOUR))
    assert await stage.stopped() == {}
    await stage.tell(failed(messages[2], 131031, HOUR))
    assert await stage.stopped() == {stage.number: "131031", stage.sibling: "131031"}


async def test_the_order_of_webhooks_and_repeats_make_no_difference(stage: Stage) -> None:
    runs = [await stage.run(stage.number, SPRING), await stage.run(stage.sibling)]
    told = []
    for code in (131050, 132015, 131042):
        message = await stage.accepted(runs[0])
        told += [failed(message, code, recipient_id=PERSON[1:]), status(message, "sent", 0)]
    told = told * 2
    random.Random(7).shuffle(told)

    await stage.tell(*told)
    assert await stage.suppressed() == [(PERSON, "131050")]
    assert await stage.state_of(*runs) == ["pausing", "processing"]
    assert await stage.stopped() == {stage.number: "131042", stage.sibling: "131042"}
    undelivered = "SELECT sum(undelivered)::int FROM run_deltas WHERE run_id = $1"
    assert await stage.connection.fetchval(undelivered, runs[0]) == 3
