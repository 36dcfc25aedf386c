"""One audience on its way into the database, in bounded memory; nothing of it remains unless it becomes a run.

Recipients can only be addressed when the campaign is known, and a request may name it last. Until then they are staged
as they came, and staged anew at the end.
"""

import asyncio
import time
from types import TracebackType
from typing import Self

from pombo.campaigns.addressing import Addressing
from pombo.campaigns.errors import NobodyToSendTo
from pombo.domain.ids import RunId, WorkspaceId
from pombo.store import audience
from pombo.store.audience import RejectedLine, StagedLine
from pombo.store.database import Connection, Database
from pombo.store.errors import DatabaseUnavailable
from pombo.telemetry import log

# Lines per COPY: its own cost no longer counts, and packing them holds up the event loop for no more than 5 ms.
CHUNK = 2_000
# An answer lists so many rejects; all of them are kept with the run.
SHOWN_REJECTS = 100
# Other requests of this process wait no longer than this for the work on a chunk.
_SLICE_S = 0.005
# How many lines are addressed between two looks at the clock: a few microseconds each.
_STEP = 50


class Upload:
    """Use as `async with`; leaving it without `close` removes what was staged."""

    def __init__(self, database: Database, workspace_id: WorkspaceId, *, chunk: int = CHUNK) -> None:
        self._database = database
        self._workspace_id = workspace_id
        self._chunk = chunk
        self._addressing: Addressing | None = None
        self._run_id: RunId | None = None
        self._closed = False
        self._lines: list[StagedLine] = []
        self._rejects: list[RejectedLine] = []
        self._has_unaddressed = False
        self.staged = 0
        self.rejected = 0
        self.first_rejects: list[RejectedLine] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._run_id is not None and not self._closed:
            # A cancelled request's leftovers go as well; what even this cannot remove is swept an hour later.
            await asyncio.shield(self._discard(self._run_id))

    def address_by(self, addressing: Addressing) -> None:
        """The campaign is known now."""
        self._addressing = addressing

    async def add(self, lines: list[StagedLine], rejects: list[RejectedLine]) -> None:
        """Takes what a reader has made, emptying its lists. Raises DatabaseUnavailable, or NotFound when too slow."""
        self._lines += lines
        self._rejects += rejects
        lines.clear()
        rejects.clear()
        while len(self._lines) + len(self._rejects) >= self._chunk:
            taken, self._lines = self._lines[: self._chunk], self._lines[self._chunk :]
            await self._stage(taken, self._take_rejects())

    async def finish(self) -> None:
        """All has come, and `address_by` was called. Raises NobodyToSendTo, and as `add`."""
        assert self._addressing is not None
        if self._has_unaddressed:
            await self._address_staged()
        lines, self._lines = self._lines, []
        await self._stage(lines, self._take_rejects())
        if self.staged:
            return
        if not self.rejected:
            raise NobodyToSendTo("recipients_missing", "There is nobody to send to: 'recipients' is empty.")
        sentence = f"None of the {self.rejected} recipients can be used; the first: {self.first_rejects[0].reason}"
        raise NobodyToSendTo("recipients_invalid", sentence, self.first_rejects)

    async def close(self, connection: Connection) -> RunId:
        """In the transaction that makes the run; its id. Raises NotFound when it was too slow and swept away."""
        assert self._run_id is not None
        await audience.close_upload(connection, self._workspace_id, self._run_id)
        return self._run_id

    def keep(self) -> None:
        """That transaction has committed."""
        self._closed = True

    def _take_rejects(self) -> list[RejectedLine]:
        rejects, self._rejects = self._rejects, []
        self._note_rejects(rejects)
        return rejects

    def _note_rejects(self, rejects: list[RejectedLine]) -> None:
        self.rejected += len(rejects)
        self.first_rejects = sorted(self.first_rejects + rejects[:SHOWN_REJECTS])[:SHOWN_REJECTS]

    async def _stage(self, lines: list[StagedLine], rejects: list[RejectedLine]) -> None:
        if self._addressing is None:
            self._has_unaddressed = self._has_unaddressed or bool(lines)
        else:
            lines, more = await self._address(self._addressing, lines)
            rejects = rejects + more
            self.staged += len(lines)
        if not lines and not rejects:
            return
        if self._run_id is None:
            async with self._database.borrow() as connection:
                self._run_id = await audience.open_upload(connection, self._workspace_id)
        async with self._database.transaction() as connection:
            await audience.stage(connection, self._workspace_id, self._run_id, lines, rejects)

    async def _address(
        self, addressing: Addressing, lines: list[StagedLine]
    ) -> tuple[list[StagedLine], list[RejectedLine]]:
        good: list[StagedLine] = []
        bad: list[RejectedLine] = []
        began = time.perf_counter()
        for start in range(0, len(lines), _STEP):
            if time.perf_counter() - began > _SLICE_S:
                await asyncio.sleep(0)
                began = time.perf_counter()
            for line in lines[start : start + _STEP]:
                addressed = addressing.address(line)
                if isinstance(addressed, StagedLine):
                    good.append(addressed)
                else:
                    bad.append(addressed)
        self._note_rejects(bad)
        return good, bad

    async def _address_staged(self) -> None:
        """Takes out what was staged before the campaign was known, and stages it anew."""
        assert self._run_id is not None
        assert self._addressing is not None
        after = 0
        while True:
            async with self._database.borrow() as connection:
                lines = await audience.read_staged(connection, self._workspace_id, self._run_id, after, self._chunk)
            if not lines:
                return
            # Not in a transaction: this takes turns with other requests.
            good, bad = await self._address(self._addressing, lines)
            async with self._database.transaction() as connection:
                await audience.replace_staged(connection, self._workspace_id, self._run_id, lines, good, bad)
            self.staged += len(good)
            after = lines[-1].line

    async def _discard(self, run_id: RunId) -> None:
        try:
            async with self._database.borrow() as connection:
                await audience.discard_upload(connection, self._workspace_id, run_id)
        except DatabaseUnavailable as error:
            log.warning("upload_left_to_the_sweep", workspace_id=self._workspace_id, run_id=run_id, reason=str(error))
