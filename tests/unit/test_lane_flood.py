"""One who gets more messages than others holds up nobody else, and fills no memory."""

import pytest

from pombo.domain.channels import ChannelKind
from pombo.domain.classes import MessageClass
from pombo.sending.class_queue import MOST_PARKED, MOST_PARKED_EACH, READ_AGAIN_S
from pombo.sending.lane import Lane
from pombo.sending.media_limit import MEDIA_RATE
from pombo.sending.outgoing import Outgoing, Stream
from pombo.store.outbox import BEGINNING
from tests.unit.test_lane import make_lane
from tests.unit.test_lane_order import ids, queue, take

BULK = MessageClass.BULK
VOICE = (
    '{"type": "raw", "payload": {"attachment": {"type": "audio", "payload": {"url": "https://example.org/voice.mp3"}}}}'
)
TEXT = '{"type": "text", "text": "Hello"}'


def parked(lane: Lane) -> int:
    return lane.queues[BULK].parked_count


def read_again(lane: Lane, now: float) -> None:
    lane.read_again(lane.queues[BULK], now)


def flooded(lane: Lane) -> Outgoing:
    """The first of 1 + MOST_PARKED_EACH + 5 messages to Ana; the last five are forgotten."""
    queue(lane, *range(1, 1 + MOST_PARKED_EACH + 6))
    (first,) = take(lane)
    return first


def settle_all(lane: Lane, message: Outgoing) -> list[int]:
    """And all that follow."""
    left = [message.id]
    while True:
        lane.waiting_ids.discard(message.id)
        lane.release(message)
        if not (following := take(lane)):
            return left
        (message,) = following
        left.append(message.id)


def test_what_is_beyond_the_room_for_one_recipient_is_forgotten_and_others_leave() -> None:
    lane = make_lane()
    flooded(lane)
    assert lane.waiting_ids == set(range(1, MOST_PARKED_EACH + 2))
    queue(lane, 1000, to="bob")
    assert ids(take(lane)) == [1000]


def test_later_ones_do_not_overtake_what_was_forgotten_which_is_read_again() -> None:
    lane = make_lane()
    first = flooded(lane)
    stream = first.stream
    left = settle_all(lane, first)
    assert left == list(range(1, MOST_PARKED_EACH + 2))
    queue(lane, 1000)
    assert take(lane) == []
    queue(lane, 1001)
    queue(lane, 2000, to="bob")

    stream.more, stream.floor, stream.pass_began = False, (stream.cursor[0], 5), 1.0
    read_again(lane, 1.0)

    assert (stream.more, stream.floor, stream.pass_began) == (True, BEGINNING, float("-inf"))
    assert lane.waiting_ids == {2000}
    queue(lane, *range(left[-1] + 1, left[-1] + 6), 1000, 1001)
    first, bobs = take(lane)
    assert bobs.id == 2000 or first.id == 2000
    assert settle_all(lane, first if first.recipient == "ana" else bobs) == [
        *range(left[-1] + 1, left[-1] + 6),
        1000,
        1001,
    ]


def test_streams_are_started_over_now_and_then_only() -> None:
    lane = make_lane()
    stream = flooded(lane).stream
    settle_all(lane, Outgoing(1, 0, 0, "ana", None, stream))
    read_again(lane, 50.0)
    queue(lane, *range(2000, 2000 + MOST_PARKED_EACH + 2))
    (first,) = take(lane)
    settle_all(lane, first)
    stream.more = False
    read_again(lane, 50.0 + READ_AGAIN_S / 2)
    assert not stream.more
    read_again(lane, 50.0 + READ_AGAIN_S)
    assert stream.more


def test_many_flooded_recipients_together_have_bounded_room() -> None:
    lane = make_lane()
    people = [f"p{n}" for n in range(2 * MOST_PARKED // MOST_PARKED_EACH)]
    for n, person in enumerate(people):
        queue(lane, *range(1000 * n, 1000 * n + MOST_PARKED_EACH + 1), to=person)
    assert len(take(lane)) == len(people)
    assert parked(lane) == MOST_PARKED
    assert len(lane.waiting_ids) == MOST_PARKED + len(people)
    queue(lane, 999_999, to="bob")
    assert ids(take(lane)) == [999_999]


def test_a_retry_of_a_flooded_recipients_message_leaves() -> None:
    lane = make_lane()
    first = flooded(lane)
    lane.send_away(first)
    lane.waiting_ids.discard(first.id)
    lane.came_back(first.id)
    again = Outgoing(first.id, 1, 0, "ana", None, first.stream)
    lane.enqueue(first.stream, [again])
    assert take(lane) == [again]


def test_a_doubtful_message_that_others_wait_for_is_among_those_looked_up_even_when_all_of_them_were_forgotten() -> (
    None
):
    lane = make_lane()
    others = [f"p{n}" for n in range(MOST_PARKED // MOST_PARKED_EACH)]
    for n, person in enumerate(others):
        queue(lane, *range(1000 * n, 1000 * n + MOST_PARKED_EACH + 1), to=person)
    queue(lane, 500_000, 500_001)
    first = next(message for message in take(lane) if message.id == 500_000)
    assert 500_001 not in lane.waiting_ids
    lane.send_away(first, 60.0)
    assert lane.holding(0) == [500_000]


def test_a_stream_that_was_dropped_has_nothing_to_be_read_again() -> None:
    lane = make_lane()
    first = flooded(lane)
    lane.drop_stream(1)
    lane.release(first)
    assert not lane.queues[BULK].overflows
    queue(lane, 1000, run_id=2)
    assert ids(take(lane)) == [1000]


# --- audio and video --------------------------------------------------------------------------------------------------


def direct(lane: Lane, *ids: int, content: str) -> None:
    message_class = MessageClass.TRANSACTIONAL
    stream = lane.streams.setdefault(-1, Stream(lane, -1, None, message_class))
    messages = [Outgoing(id, 0, 0, f"person {id}", None, stream, content) for id in ids]
    lane.enqueue(stream, messages)


def test_direct_audio_leaves_a_page_ten_times_a_second_and_delays_nothing_else() -> None:
    lane = make_lane()
    direct(lane, *range(40), content=VOICE)
    direct(lane, *range(100, 105), content=TEXT)
    left: list[tuple[float, int]] = []
    for step in range(1, 60):
        now = step / 10
        left += [(now, message.id) for message in lane.take(100, now)]
    texts = [at for at, id in left if id >= 100]
    voices = [at for at, id in left if id < 100]
    assert texts == [0.1] * 5
    assert len(voices) == 40
    for begin in voices:
        assert len([at for at in voices if begin <= at < begin + 1.0]) <= MEDIA_RATE + 2


def test_a_campaigns_audio_and_direct_audio_share_the_limit() -> None:
    lane = make_lane()
    assert lane.media is not None
    assert lane.media.bucket.take(100, 10.0) == 2
    direct(lane, 1, content=VOICE)
    assert lane.take(10, 10.0) == []
    assert ids(lane.take(10, 10.2)) == [1]


def test_after_a_takeover_the_limit_begins_anew_with_nothing_to_give() -> None:
    lane = make_lane()
    assert lane.media is not None
    assert lane.media.bucket.take(1, lane.pacer.started) == 0


@pytest.mark.parametrize("content", ['{"type": "raw", "payload": {}}', "nonsense"])
def test_a_content_that_cannot_be_sent_is_not_held_up(content: str) -> None:
    lane = make_lane()
    direct(lane, 1, content=content)
    assert ids(lane.take(10, 1.0)) == [1]


def test_whatsapp_has_no_such_limit() -> None:
    lane = make_lane(kind=ChannelKind.WHATSAPP)
    direct(lane, *range(40), content=VOICE)
    assert len(lane.take(100, 1.0)) == 40
