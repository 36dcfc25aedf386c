from hypothesis import given
from hypothesis import strategies as st

from pombo.domain.channels import AT_MAXIMUM
from pombo.sending.adaptive import QUIET_S, AdaptiveRate

EVENTS = st.lists(st.tuples(st.floats(0, 60), st.sampled_from(["refused", "usage", "quiet"]), st.floats(0, 200)))


@given(st.floats(0.1, 5000), EVENTS)
def test_it_never_exceeds_the_set_maximum_and_never_dies(
    maximum: float, events: list[tuple[float, str, float]]
) -> None:
    rate, now = AdaptiveRate(maximum, maximum), 0.0
    for pause, event, percent in events:
        now += pause
        match event:
            case "refused":
                rate.refused(now, "too fast")
            case "usage":
                rate.usage(percent, now)
            case _:
                rate.quiet(now)
        assert 0 < rate.current <= rate.maximum
        assert (rate.reason == AT_MAXIMUM) or rate.current <= maximum


def test_a_refusal_halves_it_once_for_all_that_left_together_and_quiet_gives_it_back() -> None:
    rate = AdaptiveRate(80.0, 80.0)
    assert rate.refused(100.0, "Meta refused (130429)")
    assert not rate.refused(100.5, "Meta refused (130429)")
    assert (rate.current, rate.reason) == (40.0, "Meta refused (130429)")
    assert rate.learned == 40.0
    now, rates = 100.0, []
    while rate.learned is not None:
        assert not rate.quiet(now + QUIET_S / 2)
        now += QUIET_S
        assert rate.quiet(now)
        rates.append(rate.current)
    assert rates == [60.0, 70.0, 75.0, 79.0, 80.0]
    assert rate.reason == AT_MAXIMUM


def test_above_the_rate_that_was_too_fast_it_feels_its_way() -> None:
    rate = AdaptiveRate(100.0, 100.0)
    for now in (100.0, 102.0, 104.0):
        assert rate.refused(now, "too fast")
    assert rate.current == 12.5
    rates = []
    for step in range(1, 6):
        rate.quiet(104.0 + step * QUIET_S)
        rates.append(rate.current)
    assert rates == [18.75, 23.75, 28.75, 33.75, 38.75]


def test_usage_near_its_end_slows_it_down_and_low_usage_does_not() -> None:
    rate = AdaptiveRate(40.0, 40.0)
    assert not rate.usage(79.0, 10.0)
    assert rate.usage(95.0, 10.0)
    assert rate.current == 32.0
    assert "95 %" in rate.reason


def test_a_new_maximum_keeps_what_was_learnt() -> None:
    rate = AdaptiveRate(80.0, 80.0)
    rate.refused(1.0, "too fast")
    rate.set_maximum(1000.0)
    assert (rate.maximum, rate.current) == (1000.0, 500.0)
    rate.quiet(1.0 + QUIET_S)
    assert rate.current == 750.0
