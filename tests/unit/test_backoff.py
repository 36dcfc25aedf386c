import pytest

from pombo.domain.outcomes import Backoff
from pombo.sending.backoff import LONGEST_S, retry_delay

PAIR_LIMIT = Backoff(1, 4)


@pytest.mark.parametrize(("failures", "least", "most"), [(1, 0.5, 1.0), (2, 1.0, 2.0), (3, 2.0, 4.0), (40, 1800, 3600)])
def test_the_delay_doubles_and_half_of_it_is_chance(failures: int, least: float, most: float) -> None:
    assert retry_delay(failures, None, lambda: 0.0) == least
    assert retry_delay(failures, None, lambda: 1.0) == most


@pytest.mark.parametrize(("failures", "exact"), [(1, 1.0), (2, 4.0), (3, 16.0), (4, 64.0)])
def test_a_pair_limit_waits_at_least_what_meta_prescribes(failures: int, exact: float) -> None:
    assert retry_delay(failures, PAIR_LIMIT, lambda: 0.0) == exact
    assert retry_delay(failures, PAIR_LIMIT, lambda: 1.0) == pytest.approx(exact * 1.1)


def test_no_delay_outgrows_the_longest() -> None:
    assert retry_delay(5000, PAIR_LIMIT, lambda: 0.0) == LONGEST_S
