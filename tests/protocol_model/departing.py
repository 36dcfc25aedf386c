"""A world in which a story is left in the middle, for a history to go on from there."""

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec

from pombo.domain.doubt import DoubtPolicy
from tests.protocol_model.flaws import Flaw
from tests.protocol_model.world import Echoes, World

P = ParamSpec("P")


class Departed(Exception):
    """The story ends here."""


def _counted(move: Callable[Concatenate[Any, P], None]) -> Callable[Concatenate[Any, P], None]:
    """Whole moves alone: what one consists of is never parted."""

    def counted(world: "DepartingWorld", /, *args: P.args, **named: P.kwargs) -> None:
        if world.within or world.moves_left is None:
            move(world, *args, **named)
            return
        if not world.moves_left:
            raise Departed
        world.moves_left -= 1
        world.within = True
        try:
            move(world, *args, **named)
        finally:
            world.within = False

    return counted


class DepartingWorld(World):
    def __init__(
        self, channels: int, echoes: Echoes, policy: DoubtPolicy, flaw: Flaw | None, moves: int | None
    ) -> None:
        super().__init__(channels, echoes, policy, flaw)
        self.moves_left = moves
        """None: as many as come."""
        self.within = False

    pass_time = _counted(World.pass_time)
    tend = _counted(World.tend)
    save = _counted(World.save)
    arrive = _counted(World.arrive)
    end_intent = _counted(World.end_intent)
