"""Each of `tests/protocol_model/stories.py` ends well, and badly when that part of the protocol is left out."""

import pytest

from pombo.domain.doubt import DoubtPolicy
from tests.protocol_model.flaws import Flaw
from tests.protocol_model.stories import STORIES, Make
from tests.protocol_model.world import World


def worlds(flaw: Flaw | None) -> Make:
    return lambda channels, echoes: World(channels, echoes, DoubtPolicy.SAFE, flaw)


@pytest.mark.parametrize("flaw", Flaw)
def test_a_story_ends_well(flaw: Flaw) -> None:
    STORIES[flaw](worlds(None)).come_to_rest()


@pytest.mark.parametrize("flaw", Flaw)
def test_a_story_ends_badly_when_the_protocol_is_broken(flaw: Flaw) -> None:
    with pytest.raises(AssertionError, match=flaw.symptom):
        STORIES[flaw](worlds(flaw)).come_to_rest()
