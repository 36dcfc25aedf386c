"""What the API is given by the composition root."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from starlette.types import ASGIApp

from pombo.domain.ids import WorkspaceId
from pombo.realtime.service import RealTime
from pombo.settings import Settings
from pombo.store.database import Database
from pombo.store.media_files import MediaFiles
from pombo.store.secrets import SecretBox


class BatchReport(Protocol):
    """What one call of `/api/queue/worker` did."""

    @property
    def channels(self) -> int: ...
    @property
    def accepted(self) -> int: ...
    @property
    def failed(self) -> int: ...
    @property
    def retried(self) -> int: ...
    @property
    def uncertain(self) -> int: ...


ProcessBatch = Callable[[WorkspaceId | None, int], Awaitable[BatchReport]]
"""Sends at most so many messages of a workspace, or of all. Raises DatabaseUnavailable."""


@dataclass(frozen=True, slots=True)
class Services:
    database: Database
    settings: Settings
    box: SecretBox
    webhooks: ASGIApp | None = None
    """Answers `webhooks.PATHS`; without it they are not found."""
    realtime: RealTime | None = None
    """Carries `/ws`, and is told of changes; without it there is no socket."""
    process_batch: ProcessBatch | None = None
    """Without it, `/api/queue/worker` answers 503."""
    files: MediaFiles | None = None
    """Without it, media answer 503."""
