"""Whose each id is, whatever the order in which the ids were seen."""

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from pombo.store.inbox_identities import Identities, Identity, Sighting

PHONE, NEW_PHONE = "+16505551234", "+16505559999"
ANA, NEW_ANA, BOB = "US.1", "US.2", "US.3"


def seen(after: int, *names: str) -> Sighting:
    at = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(seconds=after)
    return Sighting(1, 1, at, dict.fromkeys(names, at))


def people(sightings: Sequence[Sighting], identities: Identities | None = None) -> set[frozenset[str]]:
    """The ids of each person."""
    identities = identities or Identities({}, {})
    for sighting in sightings:
        identities.see(sighting)
    of: dict[object, set[str]] = {}
    for key in {key for sighting in sightings for key in sighting.ids()}:
        of.setdefault(identities.person(key), set()).add(key.identity)
    return {frozenset(names) for names in of.values()}


def sets(*names: set[str]) -> set[frozenset[str]]:
    return set(map(frozenset, names))


@pytest.mark.parametrize(
    ("sightings", "expected"),
    [
        ([seen(1, PHONE, ANA), seen(2, PHONE, BOB)], sets({ANA}, {PHONE, BOB})),
        ([seen(1, PHONE, ANA), seen(2, PHONE, BOB), seen(3, PHONE, ANA)], sets({PHONE, ANA}, {BOB})),
        ([seen(1, PHONE, ANA), seen(2, PHONE), seen(3, ANA)], sets({PHONE, ANA})),
        ([seen(1, PHONE, ANA), seen(2, PHONE, NEW_ANA), seen(3, NEW_ANA, ANA)], sets({PHONE, ANA, NEW_ANA})),
        (
            [seen(1, PHONE, ANA), seen(2, NEW_PHONE, NEW_ANA, PHONE, ANA), seen(3, PHONE, BOB)],
            sets({NEW_PHONE, ANA, NEW_ANA}, {PHONE, BOB}),
        ),
    ],
)
def test_in_every_order_and_twice_over(sightings: list[Sighting], expected: set[frozenset[str]]) -> None:
    for order in itertools.permutations(sightings):
        assert people(order) == expected
        assert people([*order, *sightings]) == expected


def test_two_numbers_without_a_user_id_are_one_persons() -> None:
    assert people([seen(1, NEW_PHONE, PHONE), seen(2, PHONE, ANA), seen(3, NEW_PHONE, NEW_ANA)]) == sets(
        {PHONE, NEW_PHONE, ANA, NEW_ANA}
    )


def test_a_change_of_number_connects_nobody_with_who_has_had_either_since() -> None:
    assert people([seen(3, PHONE, BOB), seen(2, NEW_PHONE, PHONE)]) == sets({PHONE, BOB}, {NEW_PHONE})
    assert people([seen(1, PHONE, ANA), seen(3, NEW_PHONE, BOB), seen(2, NEW_PHONE, PHONE)]) == sets(
        {PHONE, ANA}, {NEW_PHONE, BOB}
    )


def test_of_known_contacts_the_oldest_stays_and_the_number_goes_to_the_later() -> None:
    phone, ana, bob = (Identity(1, 1, name) for name in (PHONE, ANA, BOB))
    identities = Identities({phone: {7}, ana: {7}, bob: {9, 8}}, {phone: seen(1).at})
    identities.see(seen(2, PHONE, BOB))
    assert (identities.merged, identities.moved) == ([(8, 9)], {phone: 7})
    assert [identities.person(one) for one in (phone, ana, bob)] == [8, 7, 8]
