import dataclasses
import itertools
import json

import pytest

from pombo.meta.transport import LATENCY_BOUNDS, Transport, TransportStats


@pytest.fixture
async def empty() -> TransportStats:
    transport = Transport("http://127.0.0.1:1")
    await transport.start()
    await transport.close()
    return transport.snapshot()


def test_bounds_rise_by_no_more_than_a_third_above_four_milliseconds() -> None:
    for lower, upper in itertools.pairwise(LATENCY_BOUNDS):
        assert lower < upper
        assert upper / lower < 1.34 or lower <= 0.003


def test_quantiles_are_the_bounds_of_the_buckets_that_hold_them(empty: TransportStats) -> None:
    counts = [0] * (len(LATENCY_BOUNDS) + 1)
    counts[LATENCY_BOUNDS.index(0.08)] = 98
    counts[LATENCY_BOUNDS.index(0.4)] = 1
    counts[-1] = 1
    stats = dataclasses.replace(empty, latency_counts=tuple(counts))

    assert stats.latency(0.5) == 0.08
    assert stats.latency(0.99) == 0.4
    assert stats.latency(1.0) == float("inf")


def test_before_the_first_request_nothing_has_been_reused_in_vain(empty: TransportStats) -> None:
    assert empty.reuse_ratio == 1.0
    assert empty.latency(0.5) is None


def test_the_reuse_ratio_counts_all_but_the_first_request_of_each_connection(empty: TransportStats) -> None:
    stats = dataclasses.replace(empty, requests=1000, first_requests=1)

    assert stats.reused == 999
    assert stats.reuse_ratio == pytest.approx(0.999)


def test_a_snapshot_can_be_written_as_json(empty: TransportStats) -> None:
    assert json.loads(json.dumps(dataclasses.asdict(empty)))["max_sockets"] == 500
