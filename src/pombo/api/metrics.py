"""`GET /metrics`: the workspace's figures and the workers', for Prometheus."""

from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from pombo.api.shapes import Given, Workspace
from pombo.api.worker_stats import Published, add_up, number, published, reuse_ratio
from pombo.domain.ids import WorkspaceId
from pombo.realtime.service import RealTime
from pombo.store import figures
from pombo.store.figures import Figures

router = APIRouter(tags=["stats"])

_BREAKER_STATES = {"closed": 0, "half_open": 1, "open": 2}


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(workspace: Workspace, given: Given) -> PlainTextResponse:
    """Prometheus' text format. Needs a key: `authorization: {credentials: …}` in the scrape configuration."""
    async with given.database.tenant(workspace) as connection:
        found = await figures.workspace_figures(connection, workspace)
        alive = await published(connection)
    registry = CollectorRegistry()
    registry.register(_Families(_families(found, alive, workspace)))
    if given.realtime is not None:
        registry.register(_Families(_socket_families(given.realtime, workspace)))
    return PlainTextResponse(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


class _Families(Collector):
    """Values read just now, in the form that the library writes out."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def _families(found: Figures, alive: list[Published], workspace_id: WorkspaceId) -> Iterable[Metric]:
    client = add_up(each.section("http_client") for each in alive)
    writer = add_up(each.section("log_writer") for each in alive)
    messages = CounterMetricFamily(
        "pombo_messages", "Messages of the workspace that have reached a state; cumulative.", labels=["state"]
    )
    for state in ("accepted", "delivered", "read", "failed", "undelivered", "cancelled", "sent_twice"):
        messages.add_metric([state], getattr(found, state))
    yield messages
    queue = GaugeMetricFamily("pombo_queue_messages", "Messages of the workspace not settled yet.", labels=["state"])
    for state, count in (
        ("waiting", found.waiting),
        ("sending", found.in_flight),
        ("uncertain", max(0, found.uncertain - found.held)),
        ("held", found.held),
    ):
        queue.add_metric([state], count)
    yield queue
    yield GaugeMetricFamily("pombo_workers", "Live workers.", value=len(alive))
    yield from _client_families(client)
    yield GaugeMetricFamily(
        "pombo_outcomes_unsaved", "Outcomes that wait to be written.", value=number(writer, "unsaved")
    )
    yield CounterMetricFamily("pombo_outcomes_written", "Outcomes written.", value=number(writer, "written"))
    yield from _channel_families([lane for each in alive for lane in each.channels_of(workspace_id)])


def _socket_families(realtime: RealTime, workspace_id: WorkspaceId) -> Iterable[Metric]:
    yield GaugeMetricFamily(
        "pombo_sockets", "The workspace's open WebSockets in this process.", value=realtime.hub.count(workspace_id)
    )
    yield CounterMetricFamily(
        "pombo_sockets_too_slow", "WebSockets of this process closed for reading too slowly.", value=realtime.dropped
    )


def _client_families(client: Mapping[str, Any]) -> Iterable[Metric]:
    yield CounterMetricFamily("pombo_http_requests", "Requests to Meta.", value=number(client, "requests"))
    yield GaugeMetricFamily("pombo_http_connections", "Open connections to Meta.", value=number(client, "open"))
    yield GaugeMetricFamily(
        "pombo_http_reuse_ratio", "Requests on a reused connection per request.", value=reuse_ratio(client)
    )


def _channel_families(lanes: list[dict[str, Any]]) -> Iterable[Metric]:
    in_flight = GaugeMetricFamily("pombo_channel_in_flight", "Messages under way.", labels=["channel"])
    breaker = GaugeMetricFamily("pombo_channel_breaker", "0 closed, 1 half open, 2 open.", labels=["channel"])
    for lane in lanes:
        labels = [str(lane.get("channelId"))]
        in_flight.add_metric(labels, number(lane, "inFlight"))
        state = lane.get("breaker")
        known = state.get("state") if isinstance(state, dict) else None
        breaker.add_metric(labels, _BREAKER_STATES.get(str(known), 0))
    yield in_flight
    yield breaker
