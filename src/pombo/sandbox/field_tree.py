"""Graph's `fields` parameter: names, arguments of edges, and what is wanted of the things below.

id,participants,messages.limit(20){id,message,from}
"""

import re
from typing import NamedTuple

from pombo.sandbox.errors import MetaError

_NAME = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)")
_ARGUMENT = re.compile(r"\.([a-z_]+)\(([^()]*)\)")


class Wanted(NamedTuple):
    arguments: dict[str, str]
    fields: "Tree"


Tree = dict[str, Wanted]


def parse_fields(text: str) -> Tree:
    """Raises MetaError 2500-like 100 where brackets or names make no sense."""
    tree, place = _parse(text, 0)
    if place != len(text):
        raise _wrong(text, place)
    return tree


def _parse(text: str, place: int) -> tuple[Tree, int]:
    tree: Tree = {}
    while True:
        found = _NAME.match(text, place)
        if found is None:
            raise _wrong(text, place)
        name, place = found[1], found.end()
        arguments = {}
        while (argument := _ARGUMENT.match(text, place)) is not None:
            arguments[argument[1]] = argument[2]
            place = argument.end()
        below: Tree = {}
        if text[place : place + 1] == "{":
            below, place = _parse(text, place + 1)
            if text[place : place + 1] != "}":
                raise _wrong(text, place)
            place += 1
        tree[name] = Wanted(arguments, below)
        if text[place : place + 1] != ",":
            return tree, place
        place += 1


def _wrong(text: str, place: int) -> MetaError:
    # Meta's code for a query that it cannot parse.
    message = f"Syntax error at character {place} of the fields: {text[:100]}"
    return MetaError("messenger", 2500, message=message, status=400)
