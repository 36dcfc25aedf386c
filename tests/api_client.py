"""Pombo's API for tests: the whole ASGI application in this process, spoken to over HTTP's shapes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from starlette.types import ASGIApp

from pombo.api.app import create_app
from pombo.api.services import ProcessBatch, Services
from pombo.settings import Settings
from pombo.store import accounts
from pombo.store.database import Database
from pombo.store.media_files import MediaFiles
from pombo.store.secrets import SecretBox
from tests.accounts import Account, add_account

WORKER_SECRET = "the secret of a cron service"


@dataclass(frozen=True, slots=True)
class Api:
    app: ASGIApp
    http: httpx.AsyncClient
    """Sends the key of `account`."""
    account: Account
    key: str
    database: Database

    def error(self, answer: httpx.Response) -> dict[str, Any]:
        """The error of an answer, whose shape is checked."""
        body = answer.json()
        assert body.keys() == {"error"}, body
        assert body["error"].keys() == {"code", "message", "details"}
        error: dict[str, Any] = body["error"]
        assert error["message"].endswith((".", "…"))
        return error

    async def stored(self) -> dict[str, int]:
        """Rows of what a request that sends leaves behind."""
        tables = ("runs", "run_totals", "uploads", "audience", "run_rejects", "idempotency_keys")
        async with self.database.borrow() as connection:
            return {table: await connection.fetchval(f"SELECT count(*) FROM {table}") for table in tables}


NOTHING = dict.fromkeys(("runs", "run_totals", "uploads", "audience", "run_rejects", "idempotency_keys"), 0)


@asynccontextmanager
async def running_api(
    database: Database,
    box: SecretBox,
    *,
    webhooks: ASGIApp | None = None,
    process_batch: ProcessBatch | None = None,
    files: MediaFiles | None = None,
    max_body_mb: int = 64,
) -> AsyncIterator[Api]:
    account = await add_account(database, box)
    async with database.transaction() as connection:
        key = await accounts.create_api_key(connection, account.workspace_id, "tests")
    settings = Settings(_env_file=None, worker_secret=WORKER_SECRET, max_body_mb=max_body_mb, cron_batch_size=15)  # type: ignore[call-arg, arg-type]
    app = create_app(Services(database, settings, box, webhooks, process_batch=process_batch, files=files))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=False),
        base_url="http://pombo.test",
        headers={"Authorization": f"Bearer {key}"},
        timeout=60,
    ) as http:
        yield Api(app, http, account, key, database)
