import heapq
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from pombo.domain.channels import ChannelKind, ChannelState
from pombo.domain.classes import MessageClass
from pombo.domain.content import Text
from pombo.domain.ids import AppId, ChannelId, WorkspaceId
from pombo.meta.payloads import compile_payload
from pombo.meta.transport import RequestHead
from pombo.sending.breaker import Breaker
from pombo.sending.lane import Lane
from pombo.sending.outgoing import Outgoing, Stream
from pombo.sending.pacer import TokenBucket
from pombo.store.channels import Channel
from pombo.store.leases import Lease

PAYLOAD = compile_payload(ChannelKind.MESSENGER, Text("Hi"))


def make_lane(rate: float = 1e6, kind: ChannelKind = ChannelKind.MESSENGER) -> Lane:
    channel = Channel(
        WorkspaceId(1), ChannelId(1), kind, "10", "Page", AppId(1), None, b"", rate,
        ChannelState.ACTIVE, None, None,
    )  # fmt: skip
    head = RequestHead("POST", "/v26.0/10/messages", "localhost")
    return Lane(channel, Lease(1, 1, 1), head, TokenBucket(rate, 0.0), Breaker(3, 60.0))


def fill(
    lane: Lane, run_id: int, count: int, first_id: int = 0, message_class: MessageClass = MessageClass.BULK
) -> Stream:
    stream = lane.streams.setdefault(run_id, Stream(lane, run_id, PAYLOAD, message_class))
    messages = [Outgoing(first_id + n, 0, 0, str(first_id + n), None, stream) for n in range(count)]
    lane.waiting_ids.update(m.id for m in messages)
    lane.enqueue(stream, messages)
    return stream


def runs(messages: list[Outgoing]) -> list[int]:
    return [m.stream.run_id for m in messages]


def test_streams_share_the_channel_evenly_and_keep_their_own_order() -> None:
    lane = make_lane()
    fill(lane, 1, 100)
    fill(lane, 2, 100, first_id=1000)

    taken = lane.take(20, 1.0)

    assert sorted(runs(taken)) == [1] * 10 + [2] * 10
    assert [m.id for m in taken if m.stream.run_id == 1] == list(range(10))


def test_a_small_stream_is_not_kept_waiting_by_a_large_one() -> None:
    lane = make_lane()
    fill(lane, 1, 1000)
    fill(lane, 2, 1, first_id=5000)
    assert 2 in runs(lane.take(2, 1.0))


def test_what_one_stream_does_not_use_goes_to_the_others() -> None:
    lane = make_lane()
    fill(lane, 1, 3)
    fill(lane, 2, 100, first_id=1000)
    assert len(lane.take(50, 1.0)) == 50
    assert (lane.buffered, lane.open) == (53, 50)


def test_the_pacer_bounds_what_leaves_and_keeps_a_token_for_a_reply() -> None:
    lane = make_lane(rate=40.0)
    fill(lane, 1, 100)
    assert len(lane.take(100, 0.075)) == 2
    assert lane.take(100, 0.075) == []
    wait = lane.wait(0.075)
    assert wait is not None
    assert 0 < wait <= 1 / 40
    fill(lane, 0, 2, first_id=1000, message_class=MessageClass.REPLY)
    assert runs(lane.take(100, 0.075)) == [0]
    assert lane.take(100, 0.075) == []


@given(st.floats(1.0, 500.0), st.lists(st.tuples(st.floats(0, 0.5), st.floats(0, 3)), max_size=40))
def test_whatever_holds_messages_up_on_their_way_no_window_shows_more_than_the_rate_and_one_burst(
    rate: float, steps: list[tuple[float, float]]
) -> None:
    """Each step: a pause, then what is taken then leaves after a delay of its own, unless the gate makes it wait."""
    lane = make_lane(rate=rate)
    fill(lane, 1, 4000)
    now, leaving = 0.0, []
    for pause, delay in steps:
        now += pause
        leaving += [(now + delay, message) for message in lane.take(500, now)]
    left: list[float] = []
    heap = [(at, message.id, message) for at, message in leaving]
    heapq.heapify(heap)
    while heap:
        at, number, message = heapq.heappop(heap)
        if wait := lane.pass_gate(message, at):
            # As a timer does, a little late rather than early.
            heapq.heappush(heap, (at + wait + 1e-6, number, message))
        else:
            left.append(at)
    for first in range(len(left)):
        for last in range(first, len(left)):
            assert last - first + 1 <= rate * (left[last] - left[first]) + lane.gate.burst + 1e-3


def test_an_open_breaker_lets_one_probe_through_and_takes_one_token_for_it() -> None:
    lane = make_lane()
    fill(lane, 1, 10)
    for _ in range(3):
        lane.breaker.failure("connect", 0.0)
    assert lane.take(10, 1.0) == []
    assert len(lane.take(10, 61.0)) == 1
    assert lane.take(10, 61.0) == []


def test_a_throttled_or_stopped_or_draining_lane_sends_nothing() -> None:
    lane = make_lane()
    fill(lane, 1, 10)
    lane.resume_at = 5.0
    assert lane.take(10, 4.0) == []
    assert lane.wait(4.0) == 1.0
    for name in ("stopped", "draining"):
        setattr(lane, name, True)
        assert lane.take(10, 6.0) == []
        assert lane.wait(6.0) is None
        setattr(lane, name, False)
    assert len(lane.take(10, 6.0)) == 10


def test_a_closed_stream_is_forgotten_but_for_what_is_open() -> None:
    lane = make_lane()
    fill(lane, 1, 10)
    fill(lane, 2, 10, first_id=100)
    open_ids = {m.id for m in lane.take(4, 1.0)}

    lane.drop_stream(1)

    assert lane.buffered == 10 - sum(i >= 100 for i in open_ids)
    assert open_ids <= lane.waiting_ids
    assert {m.stream.run_id for m in lane.take(50, 1.0)} == {2}
    lane.drop_stream(cast(Any, 77))  # unknown: nothing happens


def test_the_read_ahead_follows_the_rate_within_its_bounds() -> None:
    assert make_lane(rate=1.0).read_ahead == 50
    assert make_lane(rate=80.0).read_ahead == 160
    assert make_lane(rate=1e6).read_ahead == 4000
