"""Doubts from Meta's side to their end: whole workers, the sandbox, and webhooks that come when the test lets them."""

import asyncio
from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest

from pombo.domain.classes import MessageClass
from pombo.domain.content import Content, Template, Text
from pombo.domain.ids import AppId
from pombo.ingest.ingester import Ingester
from pombo.sending.resolver import Resolver
from pombo.sending.worker import Worker
from pombo.store import direct, leases, webhooks
from pombo.store.webhooks import SignedWebhook
from pombo.store.worker_lock import LIVING
from tests.seeding import SeededRun, add_channel, add_run
from tests.service.test_worker import Setting, figures_of, options, setting, working
from tests.webhook_receiver import Delivery, WebhookReceiver, running_receiver

__all__ = ["options", "setting"]  # fixtures

LOST_AFTER = {"kind": "error", "code": 1, "subcode": 1357046, "http_status": 500, "when": "after"}
LOST_BEFORE = {"kind": "error", "code": 2, "http_status": 500, "when": "before"}


class Meta:
    """The sandbox's webhooks, held back until the test lets them through."""

    def __init__(self, setting: Setting, receiver: WebhookReceiver) -> None:
        self._setting = setting
        self._receiver = receiver
        self._taken = 0
        self._ingester = Ingester(setting.database)

    async def let_through(self, recipients: set[str] | None = None) -> None:
        """What has arrived; of an echo only if it is about one of these recipients."""
        arrived, self._taken = self._receiver.deliveries[self._taken :], len(self._receiver.deliveries)
        app_id = AppId(await self._setting.value("SELECT id FROM meta_apps"))
        let = [d for d in arrived if recipients is None or _recipient(d) in recipients]
        if let:
            async with self._setting.database.borrow() as connection:
                signed = [SignedWebhook(self._setting.workspace, app_id, d.body) for d in let]
                await webhooks.append(connection, signed)
        while await self._ingester.run_once():
            pass

    async def arrived(self, recipient: str) -> None:
        """Waits for the echo to that recipient."""

        async def there() -> bool:
            await asyncio.sleep(0.01)
            return any(_recipient(delivery) == recipient for delivery in self._receiver.deliveries)

        await self._setting.sandbox.until(there)

    async def find_echo(self, recipient: str) -> Delivery:
        return next(d for d in self._receiver.deliveries if _recipient(d) == recipient)

    async def deliver(self, delivery: Delivery) -> None:
        app_id = AppId(await self._setting.value("SELECT id FROM meta_apps"))
        async with self._setting.database.borrow() as connection:
            await webhooks.append(connection, [SignedWebhook(self._setting.workspace, app_id, delivery.body)])
        await self._ingester.run_once()


def _recipient(delivery: Delivery) -> str | None:
    if delivery.method != "POST":
        return None
    entry = delivery.json["entry"][0]
    if "changes" in entry:
        return str(entry["changes"][0]["value"]["statuses"][0]["recipient_id"])
    event = entry["messaging"][0]
    return str(event["recipient"]["id"]) if "message" in event else None


@pytest.fixture
async def meta(setting: Setting) -> AsyncIterator[Meta]:
    async with running_receiver() as receiver:
        await setting.sandbox.configure_pump(max_updates=1)
        await setting.sandbox.set_webhook(setting.page.app, receiver.url)
        yield Meta(setting, receiver)


async def shorten_grace(setting: Setting, seconds: float = 0.3) -> None:
    await setting.value(f"UPDATE channels SET doubt_grace_s = {seconds}")


async def one_more(setting: Setting, recipient: str) -> SeededRun:
    return await add_run(setting.database, setting.workspace, [(setting.channel, recipient)])


async def until(setting: Setting, run: SeededRun, done: Callable[[dict[str, int]], bool]) -> dict[str, int]:
    async with asyncio.timeout(20):
        while not done(found := await figures_of(setting, run)):
            await asyncio.sleep(0.02)
    return found


async def until_true(setting: Setting, query: str) -> None:
    async with asyncio.timeout(20):
        while not await setting.value(query):
            await asyncio.sleep(0.02)


async def test_an_echo_within_the_grace_settles_the_doubt(setting: Setting, meta: Meta) -> None:
    await setting.fault(**LOST_AFTER, recipient="10000")
    run = await setting.run(1)
    async with working(setting.database, setting.box, setting.options):
        await until(setting, run, lambda f: f.get("uncertain") == 1)
        await meta.arrived("10000")
        await meta.let_through()
        assert await until(setting, run, lambda f: "uncertain" not in f) == {"total": 1, "accepted": 1}
    assert (await setting.sandbox.ledger())["accepted"] == 1


async def test_what_meta_has_not_accepted_is_sent_again_once_a_later_echo_has_come(
    setting: Setting, meta: Meta
) -> None:
    await shorten_grace(setting)
    await setting.fault(**LOST_BEFORE, recipient="10000", max_count=1)
    run = await setting.run(1)
    async with working(setting.database, setting.box, setting.options):
        await until(setting, run, lambda f: f.get("uncertain") == 1)
        await one_more(setting, "20000")
        await meta.arrived("20000")
        await meta.let_through()
        assert await until(setting, run, lambda f: f.get("accepted") == 1) == {"total": 1, "accepted": 1}
    assert await setting.value("SELECT attempt FROM deliveries WHERE recipient = '10000'") == 2
    assert (await setting.sandbox.ledger())["accepted"] == 2


async def test_without_any_webhook_nothing_is_sent_again_and_the_doubtful_are_held(setting: Setting) -> None:
    await shorten_grace(setting)
    await setting.fault(**LOST_AFTER, recipient="10000", max_count=1)
    await setting.fault(**LOST_BEFORE, recipient="10001", max_count=1)
    run = await setting.run(5)
    async with working(setting.database, setting.box, setting.options):
        await until_true(setting, "SELECT count(held) = 2 FROM doubts")
        later = await one_more(setting, "20000")
        await until(setting, later, lambda f: f.get("accepted") == 1)
    assert await figures_of(setting, run) == {"total": 5, "accepted": 3, "uncertain": 2}
    assert await setting.value("SELECT array_agg(DISTINCT held) FROM doubts") == ["no_evidence"]
    assert (await setting.sandbox.ledger())["accepted"] == 5  # three, the one whose answer was an error, the later one


async def test_an_echo_later_than_the_grace_is_reported_as_sent_twice(setting: Setting, meta: Meta) -> None:
    await shorten_grace(setting)
    await setting.fault(**LOST_AFTER, recipient="10000", max_count=1)
    run = await setting.run(1)
    async with working(setting.database, setting.box, setting.options):
        await until(setting, run, lambda f: f.get("uncertain") == 1)
        await meta.arrived("10000")
        late = await meta.find_echo("10000")
        await one_more(setting, "20000")
        await meta.arrived("20000")
        await meta.let_through({"20000"})
        await until(setting, run, lambda f: f.get("accepted") == 1)
        await meta.deliver(late)
    assert await figures_of(setting, run) == {"total": 1, "accepted": 1, "sent_twice": 1}
    to_the_first = [m["provider_id"] for m in await setting.sandbox.messages() if m["recipient"] == "10000"]
    first, second = await setting.value("SELECT ARRAY[provider_id, first_provider_id] FROM sent_twice")
    assert to_the_first == [first, second]


OTP, TEXT = Template("otp", "en"), Text("Hello")


@pytest.mark.parametrize(("doubtful", "other"), [(OTP, TEXT), (TEXT, OTP), (OTP, Template("welcome", "en"))])
async def test_direct_messages_in_doubt_are_sent_again_upon_evidence_of_their_own_kind_alone(
    setting: Setting, meta: Meta, doubtful: Content, other: Content
) -> None:
    phone = await setting.sandbox.add_phone(setting.page.app, messages_per_second=None)
    channel = await add_channel(setting.database, setting.box, setting.workspace, phone)
    for name in ("otp", "welcome"):
        await setting.sandbox.add_template(phone, name, language="en")
    await shorten_grace(setting)
    await setting.fault(**LOST_BEFORE, recipient="14155550000", max_count=1)

    async def say(content: Content, number: str) -> None:
        async with setting.database.transaction() as connection:
            await direct.enqueue(
                connection,
                workspace_id=setting.workspace,
                channel_id=channel,
                message_class=MessageClass.TRANSACTIONAL,
                recipient=f"+{number}",
                content=content,
            )

    async def heard_of(content: Content, number: str) -> None:
        await say(content, number)
        await meta.arrived(number)
        await until_true(setting, f"SELECT count(*) = 1 FROM deliveries WHERE recipient = '+{number}'")
        await meta.let_through()

    async with working(setting.database, setting.box, setting.options) as worker:
        await say(doubtful, "14155550000")
        await until_true(setting, "SELECT count(held) = 1 FROM doubts")
        await heard_of(other, "14155550001")
        async with setting.database.borrow() as connection:
            await Resolver(attempts=3).run_once(connection, worker.worker_id)
        assert await setting.value("SELECT held FROM doubts") == "no_evidence"

        await heard_of(doubtful, "14155550002")
        await until_true(setting, "SELECT count(*) = 1 FROM deliveries WHERE recipient = '+14155550000'")
    assert await setting.value("SELECT attempt FROM deliveries WHERE recipient = '+14155550000'") == 2


# --- deadlines and locks ----------------------------------------------------------------------------------------------


async def test_nothing_is_written_when_the_lease_has_run_out_by_this_machines_clock(setting: Setting) -> None:
    run = await setting.run(30)
    async with working(setting.database, setting.box, setting.options) as worker:
        await until_true(setting, "SELECT count(*) > 0 FROM workers")
        expired = worker.sender._may_write
        worker.sender._may_write = lambda message: run_out(worker) and expired(message)  # type: ignore[method-assign]
        await until_true(setting, "SELECT count(*) = 30 FROM outbox WHERE uncounted > 0")
        assert (await setting.sandbox.ledger())["accepted"] == 0
        assert worker.transport.snapshot().never_written["withdrawn"] >= 30

        worker.sender._may_write = expired  # type: ignore[method-assign]
        # The heartbeat of a lease that goes on in the database brings the time again.
        assert await until(setting, run, lambda f: f.get("accepted") == 30) == {"total": 30, "accepted": 30}
    assert (await setting.sandbox.ledger())["accepted"] == 30


def run_out(worker: Worker) -> bool:
    worker.registration.identity.may_write_until = 0.0
    return True


async def living(setting: Setting) -> set[int]:
    async with setting.database.borrow() as connection:
        return {row[0] for row in await connection.fetch(LIVING)}


async def test_a_worker_holds_its_lock_takes_it_again_and_lets_it_go_at_its_end(setting: Setting) -> None:
    run = await setting.run(1)
    async with working(setting.database, setting.box, setting.options) as worker:
        await until(setting, run, lambda f: f.get("accepted") == 1)
        assert await living(setting) == {worker.worker_id}
        admin = await asyncpg.connect(setting.database.url)
        assert await admin.fetchval(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'pombo worker lock' AND datname = current_database()"
        )
        await admin.close()
        async with asyncio.timeout(20):
            while await living(setting) != {worker.worker_id} or worker.registration.identity._lock._ended.is_set():
                await asyncio.sleep(0.02)
    assert await living(setting) == set()


async def test_a_worker_taken_for_dead_holds_its_former_lock_until_its_answers_are_saved(setting: Setting) -> None:
    """And its answers still settle what others have taken for doubtful."""
    await setting.sandbox.configure(latency_ms=1500.0)
    run = await setting.run(3)
    async with working(setting.database, setting.box, setting.options) as worker:
        await until_true(setting, "SELECT count(*) = 3 FROM outbox WHERE state = 's'")
        former = worker.worker_id
        async with setting.database.borrow() as connection:
            await connection.execute("UPDATE workers SET expires_at = clock_timestamp()")
            heir = await leases.register(connection, "heir", 2, 60.0)
            await leases.acquire(connection, heir)
            await leases.adopt_orphans(connection)
        rows = await setting.value("SELECT count(*) FROM doubts WHERE ended_at IS NULL")
        assert rows == 3
        await until_true(setting, f"SELECT count(*) > 0 FROM workers WHERE id > {heir}")
        if (await figures_of(setting, run)).get("accepted") != 3:
            assert former in await living(setting)
        assert await until(setting, run, lambda f: f.get("accepted") == 3) == {"total": 3, "accepted": 3}
        async with asyncio.timeout(20):
            while await living(setting) != {worker.worker_id}:
                await asyncio.sleep(0.02)
    assert await setting.value("SELECT count(*) FROM doubts") == 0
