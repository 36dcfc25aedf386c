"""One measurement: a real worker process sends messages that wait in the outbox, everything on."""

import asyncio
import os
import subprocess
import sys
import time
from dataclasses import dataclass

import asyncpg

from bench.processes import cpu_seconds, family
from pombo.domain.channels import ChannelKind
from pombo.store import accounts, channels
from pombo.store.database import Database
from pombo.store.secrets import SecretBox

SECRET_KEY = "a key of the bench, of 32 or more characters"
# Above any rate that this machine reaches, so that the pacer counts but never waits.
RATE = 1_000_000.0
_TIMEOUT_S = 180.0


@dataclass(frozen=True, slots=True)
class Result:
    channels: int
    messages: int
    seconds: float
    worker_cpu_s: float
    database_cpu_s: float

    @property
    def rate(self) -> float:
        return self.messages / self.seconds

    def per_1000_ms(self, cpu_s: float) -> float:
        return cpu_s * 1e6 / self.messages


async def measure(url: str, postmaster: int, server_url: str, count: int, messages: int, variables: bool) -> Result:
    """Sends `messages` over `count` channels; the clock runs from the bell to the last outcome saved."""
    async with Database.open(url, "pombo bench") as database:
        run_id = await _prepare(database, count, messages, variables)
        connection = await asyncpg.connect(url, server_settings={"search_path": "pombo,public"})
        for statement in ("VACUUM ANALYZE", "CHECKPOINT"):
            await connection.execute(statement)
        worker = _start_worker(url, server_url)
        try:
            await _until(connection, f"SELECT count(*) = {count} FROM channel_leases WHERE worker_id IS NOT NULL")
            mine = family(os.getpid()) - family(worker.pid)
            before = cpu_seconds(family(worker.pid)), cpu_seconds(family(postmaster) - mine)
            began = time.perf_counter()
            await connection.execute(
                "INSERT INTO streams (workspace_id, channel_id, run_id) SELECT workspace_id, id, $1 FROM channels",
                run_id,
            )
            await connection.execute("SELECT pg_notify('pombo_due', '')")
            await _until(connection, "SELECT NOT EXISTS (SELECT FROM outbox)")
            seconds = time.perf_counter() - began
            after = cpu_seconds(family(worker.pid)), cpu_seconds(family(postmaster) - mine)
        finally:
            worker.terminate()
            worker.wait()
        accepted = await connection.fetchval("SELECT count(*) FROM deliveries WHERE state = 2")
        await connection.close()
        assert accepted == messages, f"{accepted} of {messages} were accepted"
    return Result(count, messages, seconds, after[0] - before[0], after[1] - before[1])


async def _prepare(database: Database, count: int, messages: int, variables: bool) -> int:
    box = SecretBox(SECRET_KEY)
    text = "Hello {{ first_name }}, your order is on its way." if variables else "Hello, your order is on its way."
    async with database.transaction() as connection:
        workspace_id = await accounts.ensure_workspace(connection, "bench")
        app = await accounts.ensure_app(connection, box, workspace_id, "bench", "bench-app-secret", None)
        channel_ids = [
            await channels.save_channel(
                connection,
                box,
                workspace_id=workspace_id,
                kind=ChannelKind.MESSENGER,
                external_id=str(1_000_000 + number),
                name=f"Page {number}",
                app_id=app.id,
                token="token-of-a-realistic-length-" * 7,
                rate_per_second=RATE,
            )
            for number in range(count)
        ]
        campaign_id = await connection.fetchval(
            "INSERT INTO campaigns (workspace_id, name, channel_ids) VALUES ($1, 'bench', $2) RETURNING id",
            workspace_id,
            channel_ids,
        )
        run_id: int = await connection.fetchval(
            """INSERT INTO runs (workspace_id, campaign_id, state, source, content, channel_ids, expanded)
               VALUES ($1, $2, 'processing', 'staged', jsonb_build_object('type', 'text', 'text', $3::text), $4, true)
               RETURNING id""",
            workspace_id,
            campaign_id,
            text,
            channel_ids,
        )
        await connection.execute("INSERT INTO run_totals (workspace_id, run_id) VALUES ($1, $2)", workspace_id, run_id)
        await connection.execute(
            """INSERT INTO outbox (workspace_id, id, channel_id, run_id, due_at, recipient, variables)
               SELECT $1, nextval('message_ids'), ($3::bigint[])[1 + n % cardinality($3::bigint[])], $2, now(),
                      (1000000000000000 + n)::text,
                      CASE WHEN $5 THEN jsonb_build_object('first_name', 'Name ' || n) END
               FROM generate_series(1, $4::bigint) n""",
            workspace_id,
            run_id,
            channel_ids,
            messages,
            variables,
        )
        await connection.execute(
            "INSERT INTO run_deltas (workspace_id, run_id, total) VALUES ($1, $2, $3)", workspace_id, run_id, messages
        )
    return run_id


def _start_worker(url: str, server_url: str) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "DATABASE_URL": url,
        "POMBO_SECRET_KEY": SECRET_KEY,
        "GRAPH_API_URL": server_url,
        "LOG_BATCH_SIZE": "500",
        "LOG_LEVEL": "error",
    }
    return subprocess.Popen([sys.executable, "-m", "pombo", "worker"], env=environment)


async def _until(connection: asyncpg.Connection, question: str) -> None:
    async with asyncio.timeout(_TIMEOUT_S):
        while not await connection.fetchval(question):
            await asyncio.sleep(0.05)
