"""Within (channel, recipient, class) messages leave in order, whatever becomes of the first."""

from hypothesis import given
from hypothesis import strategies as st

from pombo.domain.channels import ChannelKind
from pombo.domain.classes import MessageClass
from pombo.sending.lane import Away, Lane
from pombo.sending.outgoing import Outgoing, Stream
from pombo.sending.pairs import PAIR_BURST, PAIR_INTERVAL_S
from tests.unit.test_lane import PAYLOAD, make_lane


def queue(
    lane: Lane, *ids: int, to: str = "ana", run_id: int = 1, message_class: MessageClass = MessageClass.BULK
) -> Stream:
    stream = lane.streams.setdefault(run_id, Stream(lane, run_id, PAYLOAD, message_class))
    messages = [Outgoing(id, 0, 0, to, None, stream) for id in ids]
    lane.waiting_ids.update(ids)
    lane.enqueue(stream, messages)
    return stream


def take(lane: Lane, now: float = 1.0) -> list[Outgoing]:
    return lane.take(100, now)


def ids(messages: list[Outgoing]) -> list[int]:
    return [message.id for message in messages]


def test_one_message_to_a_recipient_leaves_at_a_time() -> None:
    lane = make_lane()
    queue(lane, 1, 2, 3)
    queue(lane, 4, to="bob")
    first, other = take(lane)
    assert ids([first, other]) == [1, 4]
    assert take(lane) == []
    lane.release(first)
    assert ids(take(lane)) == [2]


def test_messages_of_another_class_do_not_wait() -> None:
    lane = make_lane()
    queue(lane, 1)
    take(lane)
    queue(lane, 2, run_id=0, message_class=MessageClass.REPLY)
    assert ids(take(lane)) == [2]


def test_replies_leave_before_transactional_messages_and_those_before_campaigns() -> None:
    lane = make_lane()
    queue(lane, 1, to="a")
    queue(lane, 2, to="b", run_id=-1, message_class=MessageClass.TRANSACTIONAL)
    queue(lane, 3, to="c", run_id=0, message_class=MessageClass.REPLY)
    assert ids(take(lane)) == [3, 2, 1]


def test_a_retry_holds_the_later_ones_until_it_has_come_back_and_was_settled() -> None:
    lane = make_lane()
    stream = queue(lane, 1, 2)
    (first,) = take(lane)
    lane.send_away(first)
    assert take(lane) == []
    lane.came_back(1)
    lane.enqueue(stream, [again := Outgoing(1, 1, 0, "ana", None, stream)])
    assert ids(take(lane)) == [1]
    lane.release(again)
    assert ids(take(lane)) == [2]


def test_a_doubtful_message_holds_the_later_ones_until_it_lets_them_pass() -> None:
    lane = make_lane()
    queue(lane, 1, 2)
    (first,) = take(lane)
    lane.send_away(first, until=10.0)
    assert lane.holding(0) == [1]
    assert take(lane, 11.0) == []  # only the database may tell that it is still in doubt
    lane.let_pass([1])
    assert ids(take(lane, 11.0)) == [2]
    assert lane.away == {}


def test_what_a_new_owner_was_told_of_holds_what_it_reads() -> None:
    lane = make_lane()
    lane.hold(1, Away("ana", MessageClass.BULK, None))
    queue(lane, 2)
    assert take(lane) == []
    stream = queue(lane, 1)
    lane.came_back(1)
    assert ids(take(lane)) == [1]
    lane.release(Outgoing(1, 1, 0, "ana", None, stream))
    assert ids(take(lane)) == [2]


def test_a_dropped_stream_takes_its_parked_messages_with_it_and_frees_who_waits_behind_them() -> None:
    lane = make_lane()
    queue(lane, 1, run_id=1)
    (first,) = take(lane)
    queue(lane, 2, run_id=2)
    queue(lane, 3, run_id=3)
    assert take(lane) == []
    lane.drop_stream(2)
    assert lane.waiting_ids == {1, 3}
    lane.release(first)
    assert ids(take(lane)) == [3]


def test_the_pair_limit_delays_one_recipient_and_not_the_lane() -> None:
    lane = make_lane(kind=ChannelKind.WHATSAPP)
    for n in range(PAIR_BURST):
        queue(lane, n)
        (message,) = take(lane)
        lane.release(message)
    queue(lane, 100, 101)
    queue(lane, 200, to="bob")
    assert ids(take(lane)) == [200]
    wait = lane.wait(1.0)
    assert wait is not None
    assert 0 < wait <= PAIR_INTERVAL_S
    assert ids(take(lane, 1.0 + PAIR_INTERVAL_S)) == [100]


_STEPS = st.lists(st.sampled_from(["take", "settle", "retry", "doubt", "back", "pass", "drop"]), max_size=80)


@given(_STEPS, st.data())
def test_whatever_happens_each_recipients_messages_leave_in_order_and_none_is_stuck(
    steps: list[str], data: st.DataObject
) -> None:
    lane = make_lane()
    recipients = ["ana", "bob"]
    for id in range(1, 21):
        queue(lane, id, to=recipients[id % 2], run_id=1)
    sent: dict[str, list[int]] = {"ana": [], "bob": []}
    flying: list[Outgoing] = []
    away: list[Outgoing] = []
    settled: set[int] = set()
    for step in [*steps, *["take", "settle", "back", "pass"] * 60]:
        if step == "take":
            for message in lane.take(data.draw(st.integers(1, 3)) if step in steps else 10, 1.0):
                flying.append(message)
                sent[message.recipient].append(message.id)
        elif flying and step in ("settle", "retry", "doubt"):
            message = flying.pop(0)
            if step == "settle":
                lane.release(message)
                settled.add(message.id)
            else:
                lane.send_away(message, 5.0 if step == "doubt" else None)
                away.append(message)
        elif away and step == "back":
            message = away.pop(0)
            if message.id in lane.away:
                lane.came_back(message.id)
                lane.enqueue(message.stream, [message])
        elif away and step == "pass":
            lane.let_pass([away[0].id])
            settled.add(away.pop(0).id)
    for order in sent.values():
        # Another attempt repeats a message's number; never does a later one leave before an earlier one has ended.
        assert order == sorted(order)
    assert settled == set(range(1, 21))
    assert all(not queue.front and not queue.parked and not queue.buffered for queue in lane.queues)
