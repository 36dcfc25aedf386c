"""What the live workers publish of themselves, read and added up.

The documents come from processes that may be of another version, so nothing in them is taken for granted.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from pydantic.alias_generators import to_camel

from pombo.domain.ids import WorkspaceId
from pombo.meta.transport.stats import LATENCY_BOUNDS
from pombo.store import workers_view
from pombo.store.database import Connection
from pombo.store.workers_view import LiveWorker


@dataclass(frozen=True, slots=True)
class Published:
    worker: LiveWorker
    document: dict[str, Any]

    def channels_of(self, workspace_id: WorkspaceId) -> list[dict[str, Any]]:
        """Only the asking workspace's: others' channels are none of its business."""
        found = self.document.get("channels")
        lanes = found if isinstance(found, list) else []
        return [lane for lane in lanes if isinstance(lane, dict) and lane.get("workspaceId") == workspace_id]

    def section(self, name: str) -> dict[str, Any]:
        found = self.document.get(name)
        return found if isinstance(found, dict) else {}


async def published(connection: Connection) -> list[Published]:
    """Of each live worker, also of one that has not published yet."""
    return [Published(worker, _read(worker.stats)) for worker in await workers_view.live_workers(connection)]


def _read(stats: str | None) -> dict[str, Any]:
    found = msgspec.json.decode(stats) if stats else None
    return found if isinstance(found, dict) else {}


def add_up(documents: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Field by field: numbers are added (the largest of `largest_…` is taken), objects and lists member by member."""
    total: dict[str, Any] = {}
    for document in documents:
        for name, value in document.items():
            total[name] = _added(name, total[name], value) if name in total else value
    return total


def _added(name: str, one: Any, other: Any) -> Any:
    match one, other:
        case ((int() | float()), (int() | float())):
            return max(one, other) if name.startswith("largest") else one + other
        case dict(), dict():
            return add_up((one, other))
        case list(), list() if len(one) == len(other):
            return [_added(name, first, second) for first, second in zip(one, other, strict=True)]
    return one


def camel(value: Any) -> Any:
    """The same with camelCase names."""
    if isinstance(value, dict):
        return {to_camel(name): camel(member) for name, member in value.items()}
    return [camel(item) for item in value] if isinstance(value, list) else value


def number(document: Mapping[str, Any], name: str) -> float:
    """0 for what is missing or no number."""
    value = document.get(name, 0)
    return value if isinstance(value, int | float) else 0


def reuse_ratio(client: Mapping[str, Any]) -> float:
    """Requests on a reused connection per request; 1.0 before the first."""
    requests, first = number(client, "requests"), number(client, "first_requests")
    return round((requests - first) / requests, 4) if requests else 1.0


def latency_ms(client: Mapping[str, Any], quantile: float) -> float | None:
    """Upper bound of the bucket that holds the quantile of Meta's answers; None before the first."""
    counts = client.get("latency_counts")
    if not isinstance(counts, list) or len(counts) != len(LATENCY_BOUNDS) + 1 or not sum(counts):
        return None
    seen, wanted = 0, quantile * sum(counts)
    for bound, count in zip(LATENCY_BOUNDS, counts, strict=False):
        seen += count
        if seen >= wanted:
            return round(bound * 1000, 1)
    # Beyond the last bound there is no upper one.
    return round(LATENCY_BOUNDS[-1] * 1000, 1)
