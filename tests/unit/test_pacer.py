from hypothesis import given
from hypothesis import strategies as st

from pombo.sending.pacer import TokenBucket

steps = st.lists(st.tuples(st.floats(-1, 5), st.integers(0, 500)), max_size=60)


@given(st.floats(0.1, 1000), steps)
def test_no_window_holds_more_than_the_rate_and_one_burst(rate: float, asked: list[tuple[float, int]]) -> None:
    now = 100.0
    bucket = TokenBucket(rate, now)
    taken: list[tuple[float, int]] = []
    for pause, wanted in asked:
        now += pause  # a clock may jump back
        taken.append((now, bucket.take(wanted, now)))

    forward = max((t for t, _ in taken), default=0.0)
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            times = [t for t, _ in taken[first : last + 1]]
            window = max(times) - min(times)
            count = sum(n for _, n in taken[first : last + 1])
            assert count <= rate * window + bucket.burst + 1e-6, forward


def test_it_starts_empty_so_that_a_takeover_does_not_double_the_rate() -> None:
    bucket = TokenBucket(40.0, 0.0)
    assert bucket.take(10, 0.0) == 0
    assert bucket.take(10, 0.05) == 2


def test_the_wait_is_until_the_next_token() -> None:
    bucket = TokenBucket(10.0, 0.0)
    assert bucket.wait(0.0) == 0.1
    assert bucket.wait(0.1) == 0.0
    assert bucket.take(1, 0.1) == 1


def test_what_did_not_leave_is_given_back_but_never_above_the_burst() -> None:
    bucket = TokenBucket(10.0, 0.0)
    assert bucket.take(1, 1.0) == 1
    bucket.give_back(5)
    assert bucket.take(10, 1.0) == int(bucket.burst)


def test_a_lower_rate_takes_away_what_the_higher_one_had_saved() -> None:
    bucket = TokenBucket(1000.0, 0.0)
    bucket.set_rate(10.0, 1.0)
    assert bucket.take(100, 1.0) == int(bucket.burst) == 2


def test_a_rate_below_one_a_second_still_lets_one_pass() -> None:
    bucket = TokenBucket(0.5, 0.0)
    assert bucket.take(1, 1.9) == 0
    assert bucket.take(1, 2.0) == 1
