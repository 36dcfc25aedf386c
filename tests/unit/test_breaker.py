from pombo.sending.breaker import Breaker, BreakerState


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker(threshold=3, timeout_s=60.0)
    for _ in range(3):
        breaker.failure("connect", now)
    return breaker


def test_it_opens_at_the_threshold_and_tells_it_once() -> None:
    breaker = Breaker(threshold=3, timeout_s=60.0)
    told: list[str] = []
    breaker.changed = lambda breaker: told.append(f"{breaker.state} {breaker.failures}")
    for _ in range(5):
        breaker.failure("connect", 0.0)
    assert told == ["open 3"]
    assert (breaker.state, breaker.reason, breaker.opens) == (BreakerState.OPEN, "connect", 1)


def test_a_success_in_between_starts_the_count_anew() -> None:
    breaker = Breaker(threshold=3, timeout_s=60.0)
    for _ in range(10):
        breaker.failure("connect", 0.0)
        breaker.failure("connect", 0.0)
        breaker.success()
    assert breaker.state is BreakerState.CLOSED


def test_open_lets_nothing_pass_until_the_timeout_then_one_probe() -> None:
    breaker = opened()
    assert breaker.allows(10, 59.9) == 0
    assert breaker.wait(50.0) == 10.0
    assert breaker.allows(10, 60.0) == 1
    breaker.left(1)
    assert breaker.allows(10, 60.0) == 0
    assert breaker.wait(60.0) is None


def test_a_probe_that_succeeds_closes_it_and_one_that_fails_opens_it_for_another_timeout() -> None:
    breaker = opened()
    breaker.left(breaker.allows(1, 60.0))
    breaker.failure("connect", 61.0)
    assert breaker.allows(1, 120.0) == 0
    breaker.left(breaker.allows(1, 121.0))
    breaker.success()
    assert breaker.allows(10, 121.0) == 10


def test_an_answer_to_what_left_before_it_opened_neither_closes_nor_resets_it() -> None:
    breaker = opened(now=10.0)
    breaker.success()
    assert (breaker.state, breaker.failures, breaker.opened_at) == (BreakerState.OPEN, 3, 10.0)
    assert breaker.allows(10, 69.9) == 0


def test_the_probe_after_such_an_answer_closes_it() -> None:
    breaker = opened()
    breaker.success()
    breaker.left(breaker.allows(10, 60.0))
    breaker.success()
    assert breaker.allows(10, 60.0) == 10


def test_a_probe_that_never_left_leaves_the_place_to_the_next() -> None:
    breaker = opened()
    breaker.left(breaker.allows(1, 60.0))
    breaker.undecided()
    assert breaker.allows(10, 60.0) == 1


def test_switched_off_it_never_opens() -> None:
    breaker = Breaker(threshold=1, timeout_s=60.0, enabled=False)
    breaker.failure("connect", 0.0)
    breaker.take_over(1, "connect", 60.0, 0.0)
    assert breaker.allows(10, 0.0) == 10


def test_a_reset_by_hand_closes_it() -> None:
    breaker = opened()
    breaker.reset()
    assert breaker.allows(10, 0.0) == 10


def test_each_change_is_told_and_nothing_else_is() -> None:
    told: list[BreakerState] = []
    breaker = Breaker(threshold=2, timeout_s=60.0, changed=lambda breaker: told.append(breaker.state))
    breaker.success()
    breaker.failure("connect", 0.0)
    breaker.failure("connect", 0.0)
    breaker.left(breaker.allows(5, 60.0))
    assert breaker.allows(5, 61.0) == 0
    breaker.failure("connect", 62.0)
    breaker.left(breaker.allows(5, 122.0))
    breaker.success()
    breaker.success()
    assert told == ["open", "half_open", "open", "half_open", "closed"]
    assert breaker.opens == 2


def test_half_open_begins_with_a_message_that_wants_to_leave() -> None:
    breaker = opened()
    assert breaker.allows(0, 60.0) == 0
    assert breaker.state is BreakerState.OPEN


def test_a_new_owner_waits_as_long_as_the_last_one_would_have_and_then_sends_one_probe() -> None:
    breaker = Breaker(threshold=3, timeout_s=60.0)
    breaker.take_over(4, "connect", 20.0, 1000.0)
    assert (breaker.state, breaker.failures, breaker.reason) == (BreakerState.OPEN, 4, "connect")
    assert (breaker.allows(10, 1019.0), breaker.wait(1005.0)) == (0, 15.0)
    assert breaker.allows(10, 1020.0) == 1


def test_a_new_owner_that_comes_late_probes_at_once() -> None:
    breaker = Breaker(threshold=3, timeout_s=60.0)
    breaker.take_over(4, "connect", -500.0, 1000.0)
    assert breaker.wait(1000.0) == 0.0
    assert breaker.allows(10, 1000.0) == 1
