"""The WebSocket's frames and their published schema say the same."""

import json
from typing import Any

import msgspec
import pytest

from pombo.realtime import frames
from pombo.realtime.frames import FrameInvalid
from tests.json_schema import problem

SCHEMA = frames.schema()
CLIENT: dict[str, Any] = SCHEMA["$defs"]["ClientFrame"]

GOOD = [
    {"type": "auth", "key": "pombo_1_x"},
    {"type": "subscribe", "topics": ["conversations:all"]},
    {"type": "subscribe", "topics": ["messages:7", "agents:presence"], "after": 12},
    {"type": "subscribe", "topics": ["messages:7"], "after": None},
    {"type": "unsubscribe", "topics": ["messages:7"]},
    {"type": "looking", "conversationId": 7},
    {"type": "looking", "conversationId": None},
    {"type": "typing", "conversationId": 7},
    {"type": "typing", "conversationId": 7, "typing": False},
    {"type": "ping"},
]
BAD: list[Any] = [
    {},
    [],
    None,
    "ping",
    {"type": "pong", "position": 1},
    {"type": "shout"},
    {"type": "ping", "loudly": True},
    {"type": "auth"},
    {"type": "auth", "key": 1},
    {"type": "auth", "key": "x" * 201},
    {"type": "subscribe", "topics": []},
    {"type": "subscribe", "topics": "conversations:all"},
    {"type": "subscribe", "topics": ["conversations:7"]},
    {"type": "subscribe", "topics": ["messages:0"]},
    {"type": "subscribe", "topics": ["messages:007"]},
    {"type": "subscribe", "topics": ["messages:9999999999999999999"]},
    {"type": "subscribe", "topics": ["messages:*"]},
    {"type": "subscribe", "topics": ["messages:7\n"]},
    {"type": "subscribe", "topics": ["messages:7"] * 201},
    {"type": "subscribe", "topics": ["messages:7"], "after": -1},
    {"type": "subscribe", "topics": ["messages:7"], "after": "12"},
    {"type": "subscribe", "topics": ["messages:7"], "after": 2**53},
    {"type": "looking"},
    {"type": "looking", "conversationId": 0},
    {"type": "typing", "conversationId": 7, "typing": 1},
]


@pytest.mark.parametrize("frame", GOOD, ids=json.dumps)
def test_what_is_understood_fits_the_schema(frame: dict[str, Any]) -> None:
    understood = frames.decode(json.dumps(frame))
    assert msgspec.to_builtins(understood)["type"] == frame["type"]
    assert problem(frame, CLIENT, SCHEMA) is None


@pytest.mark.parametrize("frame", BAD, ids=lambda frame: json.dumps(frame)[:60])
def test_what_is_refused_does_not_fit_the_schema(frame: Any) -> None:
    with pytest.raises(FrameInvalid):
        frames.decode(json.dumps(frame))
    assert problem(frame, CLIENT, SCHEMA) is not None


@pytest.mark.parametrize("text", ["", "{", "[" * 5000, '{"type": "ping"} {}', "\ud800", "\0", "NaN"], ids=ascii)
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(FrameInvalid):
        frames.decode(text)


def test_a_refusal_repeats_nothing_of_a_key() -> None:
    with pytest.raises(FrameInvalid) as refused:
        frames.decode('{"type": "auth", "key": "pombo_1_secret", "extra": 1}')
    assert "secret" not in str(refused.value)


def test_every_frame_has_a_type_of_its_own_in_its_direction() -> None:
    for direction in ("ClientFrame", "ServerFrame"):
        names = [each["$ref"].rpartition("/")[2] for each in SCHEMA["$defs"][direction]["anyOf"]]
        types = [SCHEMA["$defs"][name]["properties"]["type"]["enum"] for name in names]
        assert len({kind for (kind,) in types}) == len(types) > 5
