"""What a terminal shows while a run is being sent."""

import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

# Where nobody looks at a terminal, a line so often.
_LINE_EVERY_S = 5.0
_RATE_WINDOW_S = 3.0


@dataclass(frozen=True, slots=True)
class RunFigures:
    """A run's figures; accepted, delivered and read are cumulative."""

    status: str
    total: int
    duplicates: int
    pending: int
    processing: int
    accepted: int
    delivered: int
    read: int
    failed: int
    undelivered: int
    uncertain: int
    cancelled: int

    @property
    def done(self) -> int:
        return self.accepted + self.failed + self.cancelled

    @property
    def waiting(self) -> int:
        """Still to be sent, or on the way."""
        return self.pending + self.processing

    @property
    def finished(self) -> bool:
        return self.status in ("completed", "failed", "cancelled")

    @classmethod
    def from_json(cls, run: dict[str, Any]) -> "RunFigures":
        """As `GET /api/runs/{id}` answers."""
        return cls(run["status"], **{name: int(run["totals"][name]) for name in cls.__slots__ if name != "status"})


class Progress:
    """A live line on a terminal; plain lines elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=8, transient=True) if console.is_terminal else None
        self._seen: list[tuple[float, int]] = []
        self._printed_at = 0.0

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, run: RunFigures) -> None:
        now = time.monotonic()
        self._seen.append((now, run.accepted))
        while now - self._seen[0][0] > _RATE_WINDOW_S:
            self._seen.pop(0)
        then, before = self._seen[0]
        rate = (run.accepted - before) / (now - then) if now > then else 0.0
        left = (run.total - run.done) / rate if rate else None
        line = (
            f"{run.done:,} of {run.total:,}  {rate:,.0f}/s  accepted {run.accepted:,}  delivered {run.delivered:,}  "
            f"read {run.read:,}  failed {run.failed:,}  uncertain {run.uncertain:,}  "
            f"{'' if left is None else f'{left:.0f} s left'}"
        )
        if self._live is not None:
            grid = Table.grid(padding=(0, 2))
            grid.add_row(ProgressBar(total=max(run.total, 1), completed=run.done, width=30), line)
            self._live.update(grid)
        elif now - self._printed_at >= _LINE_EVERY_S or run.finished:
            self._printed_at = now
            self._console.print(line, soft_wrap=True, highlight=False)
