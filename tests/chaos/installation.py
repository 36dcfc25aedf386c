"""An installation of real processes that may be broken in every way, against a sandbox in the test's own loop.

sandbox ◀── meta_line ◀── worker 1 … n ──▶ database_lines[0 … n] ──▶ PostgreSQL
   └──▶ webhook_line ──▶ api ─────────────────────────────────────────▶┘
"""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx

from pombo.domain.channels import ChannelKind
from pombo.domain.ids import ChannelId, WorkspaceId
from pombo.store import accounts, channels
from pombo.store.database import Database
from pombo.store.embedded import EmbeddedServer
from pombo.store.secrets import SecretBox
from tests.chaos.proxy import Proxy
from tests.chaos.role import Role
from tests.chaos.scale import SCALE, Scale
from tests.e2e.pombo_process import free_port
from tests.sandbox_server import ChannelHandle, SandboxHandle, running_sandbox

_KEY = "a key for chaos, of at least 32 characters"
_HURRY = 10
_POLL_S = 0.05


class Installation:
    def __init__(self, directory: Path, database: Database, sandbox: SandboxHandle, chance: random.Random) -> None:
        self.directory = directory
        self.database = database
        """The test's own way to it."""
        self.sandbox = sandbox
        self.chance = chance
        self.scale: Scale = SCALE
        self.server: EmbeddedServer | None = None
        """The database's, where it may be killed."""
        self.meta_line: Proxy
        self.webhook_line: Proxy
        self.database_lines: list[Proxy] = []
        self.apis: list[Role] = []
        """The present one is the last."""
        self.workers: list[Role] = []
        self.workspace_id = WorkspaceId(0)
        self.handles: list[ChannelHandle] = []
        self.channels: list[ChannelId] = []
        self._api_url = ""
        self._key = ""
        self._recipients = itertools.count(5_000_000)

    # --- building -------------------------------------------------------------------------------------------------

    async def build(self, stack: AsyncExitStack) -> None:
        upstream = urlsplit(self.sandbox.base_url)
        assert upstream.hostname is not None
        assert upstream.port is not None
        self.meta_line = await _line(stack, (upstream.hostname, upstream.port))
        self.webhook_line = await _line(stack, ("127.0.0.1", 0))
        await self._add_channels()
        for number in range(self.scale.workers):
            line, url = await Proxy.to_database(self.database.url)
            stack.push_async_callback(line.close)
            self.database_lines.append(line)
            stop_file = {"POMBO_TEST_STOP_BEFORE_WRITE": str(self.stop_file(number))}
            self.workers.append(self._role("worker", f"worker{number}", {"DATABASE_URL": url, **stop_file}))
        stack.push_async_callback(self._end)
        await asyncio.gather(self.another_api(), *(worker.start() for worker in self.workers))

    async def _end(self) -> None:
        await asyncio.gather(*(role.kill() for role in (*self.apis, *self.workers)))

    def stop_file(self, worker: int) -> Path:
        """Made, it stops the worker right before it writes a message (and is gone then)."""
        return self.directory / f"stop-worker{worker}"

    def _role(self, name: str, called: str, more: dict[str, str]) -> Role:
        scale = self.scale
        variables = {
            "POMBO_SECRET_KEY": _KEY,
            "GRAPH_API_URL": self.meta_line.url,
            "LEASE_S": str(scale.lease_s),
            "ANSWER_TIMEOUT_S": str(scale.answer_timeout_s),
            "DOUBT_GRACE_S": str(scale.grace_s),
            # Mishaps are many here: neither shall a message run out of attempts, nor a channel rest for minutes.
            "SEND_ATTEMPTS": "50",
            "CIRCUIT_BREAKER_TIMEOUT_MS": "300",
            "MAX_SOCKETS": "100",
            "WORKER_CONCURRENCY": "100",
            "LOG_LEVEL": "info",
            **more,
        }
        return Role(name, variables, self.directory / f"{called}.log", self.directory)

    async def _add_channels(self) -> None:
        box = SecretBox(_KEY)
        app = await self.sandbox.add_app()
        no_limits = {"calls_per_second": None, "brake_per_second": None, "messages_per_second": None}
        latency = {"latency_ms": self.scale.latency_ms / 2, "latency_jitter_ms": self.scale.latency_ms / 2}
        for number in range(self.scale.pages + self.scale.numbers):
            add = self.sandbox.add_page if number < self.scale.pages else self.sandbox.add_phone
            self.handles.append(await add(app, **no_limits, **latency))
        await self.sandbox.set_webhook(app, f"{self.webhook_line.url}/webhook")
        await self.sandbox.configure_pump(time_scale=0.05)
        async with self.database.transaction() as connection:
            self.workspace_id = await accounts.ensure_workspace(connection, "chaos")
            self._key = await accounts.create_api_key(connection, self.workspace_id, "chaos")
            ours = await accounts.ensure_app(connection, box, self.workspace_id, "app", app.secret, app.verify_token)
            for handle in self.handles:
                self.channels.append(
                    await channels.save_channel(
                        connection,
                        box,
                        workspace_id=self.workspace_id,
                        kind=ChannelKind(handle.kind),
                        external_id=handle.id,
                        name=handle.id,
                        app_id=ours.id,
                        token=handle.token,
                        rate_per_second=self.scale.rate,
                        doubt_grace_s=self.scale.grace_s,
                    )
                )

    # --- doing ----------------------------------------------------------------------------------------------------

    async def another_api(self) -> None:
        """In the place of the present one, which goes on: for a time both run, as behind a balancer."""
        port = free_port()
        api = self._role("api", f"api{len(self.apis)}", {"DATABASE_URL": self.database.url, "PORT": str(port)})
        await api.start()
        self.apis.append(api)
        async with httpx.AsyncClient(verify=False, trust_env=False) as client:

            async def answers() -> bool:
                assert api.runs, api.log_end()
                try:
                    return (await client.get(f"http://127.0.0.1:{port}/health", timeout=5)).status_code == 200
                except httpx.TransportError:
                    return False

            await self.until("the API answers", answers)
        self._api_url = f"http://127.0.0.1:{port}"
        self.webhook_line.upstream = ("127.0.0.1", port)

    async def send(self, count: int) -> int:
        """A run of `count` messages, even parts for all channels, each to somebody new."""
        recipients = [self._recipient(n % len(self.channels)) for n in range(count)]
        headers = {"Authorization": f"Bearer {self._key}"}
        async with httpx.AsyncClient(
            base_url=self._api_url, headers=headers, timeout=60, verify=False, trust_env=False
        ) as api:
            content = {"type": "text", "text": "Hello"}
            made = await api.post(
                "/api/campaigns", json={"name": "chaos", "channelIds": self.channels, "content": content}
            )
            assert made.is_success, made.text
            sent = await api.post(
                "/api/campaigns/send", json={"campaignId": made.json()["id"], "recipients": recipients}
            )
            assert sent.status_code == 202, sent.text
            run_id: int = sent.json()["runId"]
            return run_id

    async def keep_busy(self) -> None:
        """As many messages wait as outlast a mishap."""
        if await self.value("SELECT count(*) FROM outbox WHERE state = 'r'") < self.scale.messages:
            await self.send(self.scale.messages)

    def _recipient(self, place: int) -> dict[str, Any]:
        number = next(self._recipients)
        name = f"2{number}" if self.handles[place].kind == "messenger" else f"+1415{number}"
        return {"recipient": name, "channelId": self.channels[place]}

    async def subscribe(self, page: ChannelHandle, *fields: str) -> None:
        """To these webhooks and no others."""
        subscription = {"subscribed_fields": ",".join(fields), "access_token": page.token}
        for method in ("DELETE", "POST"):
            answer = await self.sandbox.http.request(method, f"/{page.id}/subscribed_apps", params=subscription)
            assert answer.is_success, answer.text

    async def hurry(self) -> None:
        """What is left may leave faster."""
        await self.execute("UPDATE channels SET rate_per_second = rate_per_second * $1", float(_HURRY))

    async def calm(self) -> None:
        """Nothing goes wrong from here on, and everybody is there."""
        await self.sandbox.clear_faults()
        for line in (self.meta_line, self.webhook_line, *self.database_lines):
            line.mend()
        for number, worker in enumerate(self.workers):
            self.stop_file(number).unlink(missing_ok=True)
            if worker.runs:
                worker.thaw()
            else:
                await worker.start()

    # --- looking --------------------------------------------------------------------------------------------------

    async def accepted(self) -> int:
        """In the ledger."""
        count: int = (await self.sandbox.ledger())["accepted"]
        return count

    async def fetch(self, query: str, *values: Any) -> list[Any]:
        async with self.database.borrow() as connection:
            return await connection.fetch(query, *values)

    async def value(self, query: str, *values: Any) -> Any:
        return (await self.fetch(query, *values))[0][0]

    async def execute(self, query: str, *values: Any) -> None:
        await self.fetch(query, *values)

    async def until(
        self, what: str, holds: Callable[[], Awaitable[object]], *, patience_s: float | None = None
    ) -> None:
        """Asks again and again; what does not come true in time is a failure that says how things stand."""
        try:
            async with asyncio.timeout(patience_s or self.scale.patience_s):
                while not await holds():
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise AssertionError(f"It never came true that {what}.\n{await self.standing()}") from None

    async def standing(self) -> str:
        """How things stand, for a failure's text."""
        lines = []
        # Without a role of Pombo's, which would not be shown what others' sessions do.
        connection = await asyncpg.connect(self.database.url, server_settings={"search_path": "pombo"})
        try:
            for title, query in _STANDING.items():
                lines += [f"{title}: {[dict(row) for row in await connection.fetch(query)]}"]
        finally:
            await connection.close()
        lines += [f"--- {role.name} {'runs' if role.runs else 'is gone'}\n{role.log_end()}" for role in self.workers]
        return "\n".join(lines)


_STANDING = {
    "outbox": "SELECT channel_id, state, count(*), min(attempt), max(attempt) FROM outbox GROUP BY 1, 2 ORDER BY 1, 2",
    "doubts": """SELECT channel_id, held, worker_id, ended_at IS NOT NULL AS ended, count(*), min(message_id),
                        min(intent_at) AS intent, max(decide_at) AS decide FROM doubts GROUP BY 1, 2, 3, 4""",
    "evidence": "SELECT channel_id, kind, intent_at FROM channel_evidence",
    "webhooks": "SELECT count(*) AS waiting, min(received_at) FROM webhook_queue",
    "given up": "SELECT error, count(*) FROM webhook_errors GROUP BY 1",
    "leases": """SELECT l.channel_id, l.worker_id, l.epoch, w.expires_at > now() AS alive
                 FROM channel_leases l LEFT JOIN workers w ON w.id = l.worker_id ORDER BY 1""",
    "stopped": "SELECT id, stop_code, stop_reason FROM channels WHERE state <> 'active'",
    "sessions": """SELECT pid, state, wait_event_type, wait_event, pg_blocking_pids(pid) AS blocked_by,
                          now() - xact_start AS transaction, now() - state_change AS since, left(query, 300) AS query
                   FROM pg_stat_activity
                   WHERE datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid()""",
    "now": "SELECT now()",
}


async def _line(stack: AsyncExitStack, upstream: tuple[str, int] | str) -> Proxy:
    proxy = await Proxy.open(upstream)
    stack.push_async_callback(proxy.close)
    return proxy


@asynccontextmanager
async def running_installation(directory: Path, url: str, chance: random.Random) -> AsyncIterator[Installation]:
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(running_sandbox())
        await sandbox.seed(chance.randrange(2**31))
        database = await stack.enter_async_context(Database.open(url, "chaos", worker_size=4))
        installation = Installation(directory, database, sandbox, chance)
        await installation.build(stack)
        yield installation
