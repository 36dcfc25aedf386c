"""The old stack's delivery log: outcomes are buffered, and inserted by 200 or every 2 s."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import asyncpg
from lines import tell

_ROWS = 200
_MOST_S = 2.0
# Nothing more came for so long: then the rest is written at once, so that the clock does not wait for the timer.
_IDLE_S = 0.05

_INSERT = """
INSERT INTO delivery_log (id, day, channel, recipient, provider_id, rank, accepted_at)
SELECT id, $6, channel, recipient, provider_id, 1, to_timestamp(accepted_at)
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::float8[])
    AS o (id, channel, recipient, provider_id, accepted_at)
"""


class DeliveryLog:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._rows: list[tuple[Any, ...]] = []
        self._since = self._last = 0.0
        self._writing: set[asyncio.Task[None]] = set()

    def accepted(self, job: dict[str, Any], provider_id: str) -> None:
        self._last = time.time()
        if not self._rows:
            self._since = self._last
        self._rows.append((job["id"], job["channel"], job["recipient"], provider_id, self._last))
        if len(self._rows) >= _ROWS:
            self._begin()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(_IDLE_S / 2)
            now = time.time()
            if self._rows and (now - self._since >= _MOST_S or now - self._last >= _IDLE_S):
                self._begin()

    def _begin(self) -> None:
        rows, self._rows = self._rows, []
        task = asyncio.create_task(self._write(rows))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _write(self, rows: list[tuple[Any, ...]]) -> None:
        columns = [list(column) for column in zip(*rows, strict=True)]
        await self._pool.execute(_INSERT, *columns, datetime.fromtimestamp(rows[0][4], UTC).date())
        tell({"stored": len(rows)})
