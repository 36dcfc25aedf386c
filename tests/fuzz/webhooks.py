"""`make fuzz`: ten minutes of webhooks that are nearly right, for the parser and what follows.

Good bodies are spoilt in their JSON (a value becomes something else, moves, doubles, goes) or in their bytes. Nothing
but WebhookFormatError may come out of the parser, every event must name a channel, and all it says must be storable.
The seed is printed; the same seed makes the same bodies.
"""

import copy
import json
import random
import sys
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from pombo.domain.events import WebhookEvent
from pombo.domain.opt_out import OptWords
from pombo.ingest import conversing
from pombo.ingest.gathering import PersonEvent, Place
from pombo.ingest.people import sightings
from pombo.meta.webhooks import WebhookFormatError, parse_webhook
from tests.inbox_story import messenger_story, whatsapp_story

_SCALARS: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**40, 1.5, 1e300, "", "x", "\0", "a\0b", "\ud83d", "é", "0", "9" * 30,
    "1750030073", "stop", "+1", "US.1", [], {}, [[]], [None], {"": None}, {"id": {}}, "m" * 700,
]  # fmt: skip
_SCRATCHES = (b'"', b"{", b"[", b"\\u0000", b"\\ud83d", b"\xff", b",", b"[" * 5000)
_WORDS = OptWords()


def mutants(seed: int, bodies: list[bytes]) -> Iterator[bytes]:
    """Without end."""
    chance = random.Random(seed)
    trees = [json.loads(body) for body in bodies]
    names = sorted({name for tree in trees for name in _names(tree)})
    while True:
        tree = copy.deepcopy(chance.choice(trees))
        for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
            tree = _spoilt(chance, tree, trees, names)
        body = json.dumps(tree).encode()
        if chance.random() < 0.2:
            body = _scratched(chance, body)
        yield body


def check(body: bytes) -> list[WebhookEvent]:
    try:
        events = parse_webhook(body).events
    except WebhookFormatError:
        return []
    place = Place(1, 1)
    said: list[tuple[Place, PersonEvent]] = []
    for event in events:
        assert isinstance(event.channel, str)
        _storable(msgspec.to_builtins(event))
        # No index holds a key of more than 2,700 bytes.
        ids = (getattr(event, name, None) for name in ("provider_id", "recipient", "user_id", "reply_to"))
        assert all(len(one) <= 600 for one in ids if one is not None)
        if isinstance(event, PersonEvent):
            assert event.person.address
            assert all(len(one) <= 600 for one in (event.person.address, *event.person.others))
            said.append((place, event))
    groups = {identity: n for n, group in enumerate(sightings(said)) for identity in group.seen}
    heard = [(place, event, groups[event.person.address]) for place, event in said]
    # What is made of them for the database; the store's part is the suite's.
    conversing.rows_of(heard, _WORDS)
    return events


def _storable(value: Any) -> None:
    match value:
        case str():
            assert "\0" not in value
            value.encode()
        case dict():
            for name, item in value.items():
                _storable(name)
                _storable(item)
        case list() | tuple():
            for item in value:
                _storable(item)
        case int():
            assert -(2**63) <= value < 2**63


def _names(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict):
        yield from tree
    for item in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _names(item)


def _spoilt(chance: random.Random, tree: Any, trees: list[Any], names: list[str]) -> Any:
    """One place in it, at any depth, is not what it was."""
    if isinstance(tree, dict) and tree and chance.random() < 0.85:
        name = chance.choice(list(tree))
        match chance.random():
            case x if x < 0.05:
                del tree[name]
            case x if x < 0.1:
                tree[chance.choice(names)] = copy.deepcopy(tree[name])
            case x if x < 0.15:
                tree[chance.choice(names)] = copy.deepcopy(chance.choice(_SCALARS))
            case _:
                tree[name] = _spoilt(chance, tree[name], trees, names)
        return tree
    if isinstance(tree, list) and tree and chance.random() < 0.85:
        place = chance.randrange(len(tree))
        if chance.random() < 0.1:
            tree.append(copy.deepcopy(tree[place]))
        else:
            tree[place] = _spoilt(chance, tree[place], trees, names)
        return tree
    return copy.deepcopy(_piece(chance, chance.choice(trees)) if chance.random() < 0.3 else chance.choice(_SCALARS))


def _piece(chance: random.Random, tree: Any) -> Any:
    while isinstance(tree, dict | list) and tree and chance.random() < 0.8:
        tree = chance.choice(list(tree.values()) if isinstance(tree, dict) else tree)
    return tree


def _scratched(chance: random.Random, body: bytes) -> bytes:
    scratched = bytearray(body)
    for _ in range(chance.choice((1, 1, 2, 5))):
        place = chance.randrange(len(scratched))
        match chance.randrange(3):
            case 0:
                scratched[place] = chance.randrange(256)
            case 1:
                del scratched[place : place + chance.randrange(1, 20)]
            case _:
                scratched[place:place] = chance.choice(_SCRATCHES)
        if not scratched:
            break
    return bytes(scratched)


def fuzz(seconds: float, seed: int) -> int:
    """Returns how many bodies it made; raises what escapes, with the body in a note."""
    until = time.monotonic() + seconds
    for count, body in enumerate(mutants(seed, whatsapp_story() + messenger_story())):
        try:
            check(body)
        except Exception as error:
            error.add_note(f"seed {seed}, body {body!r}")
            raise
        if count % 100 == 0 and time.monotonic() > until:
            return count
    raise AssertionError("without end")


if __name__ == "__main__":
    duration, start = float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(2**32)
    print(f"seed {start}: {fuzz(duration, start)} bodies, nothing escaped")
