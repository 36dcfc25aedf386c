"""Where a stream is read from again."""

from datetime import UTC, datetime

from pombo.sending.outgoing import Stream
from pombo.store.outbox import BEGINNING
from tests.unit.test_lane import PAYLOAD, make_lane

DUE = datetime(2026, 1, 1, tzinfo=UTC)


def stream() -> Stream:
    return Stream(make_lane(), 1, PAYLOAD)


def test_a_pass_begins_where_the_cursor_was_some_time_ago_and_no_later() -> None:
    read = stream()
    for now in range(0, 200, 10):
        read.cursor = (DUE, now)  # at this time so much had been read
        read.begin_pass(float(now), 90.0)
        # What was written by a transaction of 90 s at most lies behind this, and is read.
        assert read.cursor == ((DUE, now - 90) if now >= 90 else BEGINNING)


def test_what_may_be_waiting_again_is_looked_for_from_the_very_beginning() -> None:
    read = stream()
    for now in range(0, 200, 10):
        read.cursor = (DUE, now)
        read.begin_pass(float(now), 90.0)
    read.start_over()
    assert read.more
    read.cursor = (DUE, 999)
    read.begin_pass(300.0, 90.0)
    assert read.cursor == BEGINNING


def test_many_passes_a_second_are_remembered_by_one_mark() -> None:
    read = stream()
    for n in range(1000):
        read.begin_pass(n / 1000, 90.0)
    assert len(read.marks) == 1
