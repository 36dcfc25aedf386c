"""Every frame of the WebSocket, both ways, and their JSON Schema. Each a JSON object, told apart by `type`."""

from typing import Annotated, Any, Literal

import msgspec
import websockets.frames as websockets
from msgspec import Meta, Struct

from pombo.domain import topics

MOST_TOPICS_A_FRAME = 200

Topic = Annotated[str, Meta(pattern=topics.PATTERN)]
Topics = Annotated[list[Topic], Meta(min_length=1, max_length=MOST_TOPICS_A_FRAME)]
Position = Annotated[int, Meta(ge=0, le=2**53 - 1, description="Of an event; higher is later. Not without gaps.")]
Id = Annotated[int, Meta(ge=1, le=2**53 - 1)]


class _Frame(Struct, tag_field="type", rename="camel", forbid_unknown_fields=True):
    pass


# --- what a client says ---------------------------------------------------------------------------------------------
class Auth(_Frame, tag="auth"):
    """The first frame of a client that could not send `Authorization`, such as a browser."""

    key: Annotated[str, Meta(max_length=200)]


class Subscribe(_Frame, tag="subscribe"):
    """Answered by `subscribed`; with `after`, by what was missed and `resumed`, or by `snapshot_required`."""

    topics: Topics
    after: Annotated[Position, Meta(description="Up to here the client has seen all events.")] | None = None


class Unsubscribe(_Frame, tag="unsubscribe"):
    topics: Topics


class Looking(_Frame, tag="looking"):
    """The agent has this conversation open now, or none."""

    conversation_id: Id | None


class Typing(_Frame, tag="typing"):
    """To be said again every few seconds while it lasts; forgotten after eight."""

    conversation_id: Id
    typing: bool = True


class Ping(_Frame, tag="ping"):
    pass


ClientFrame = Auth | Subscribe | Unsubscribe | Looking | Typing | Ping


# --- what the server says -------------------------------------------------------------------------------------------
class Ready(_Frame, tag="ready"):
    """The key is valid."""

    workspace_id: Id
    agent_id: Id | None
    position: Position


class Subscribed(_Frame, tag="subscribed"):
    """Every event after `position` will come; what was before is to be fetched, after this frame."""

    topics: Topics
    position: Position


class Resumed(_Frame, tag="resumed"):
    """All that was missed has come; every event after `position` will."""

    topics: Topics
    position: Position


class SnapshotRequired(_Frame, tag="snapshot_required"):
    """As `subscribed`, because `after` is too old: fetch the state anew."""

    topics: Topics
    position: Position


class Unsubscribed(_Frame, tag="unsubscribed"):
    topics: Topics


class Event(Struct, rename="camel", forbid_unknown_fields=True):
    position: Position
    topic: str
    name: Annotated[str, Meta(description="What happened, as conversation.updated.")]
    at: Annotated[str, Meta(description="When it was written, ISO 8601.")]
    data: Annotated[Any, Meta(description="The whole new state of what changed, with its id and version.")]


class Events(_Frame, tag="events"):
    """In order of position; an event of two topics comes once for each. With it everything up to `position` has come,
    of all topics that are not being resumed."""

    position: Position
    events: Annotated[list[Event], Meta(min_length=1)]


class Agent(Struct, rename="camel", forbid_unknown_fields=True):
    agent_id: Id
    online: bool
    conversation_ids: Annotated[list[Id], Meta(description="Open in front of the agent.")]


class Presence(_Frame, tag="presence"):
    """Upon subscribing to agents:presence all who are online, later who has changed."""

    complete: Annotated[bool, Meta(description="Whoever is not in the list is offline.")]
    agents: list[Agent]


class TypingAgents(_Frame, tag="typing"):
    """With messages:{conversation}: who is writing a reply there now."""

    conversation_id: Id
    agent_ids: list[Id]


class Pong(_Frame, tag="pong"):
    position: Position


ErrorCode = Literal["too_many_topics", "agent_required", "already_authenticated"]


class Error(_Frame, tag="error"):
    """A frame was understood and refused; the socket stays."""

    code: ErrorCode
    message: str


ServerFrame = (
    Ready | Subscribed | Resumed | SnapshotRequired | Unsubscribed | Events | Presence | TypingAgents | Pong | Error
)

_decoder = msgspec.json.Decoder(ClientFrame)
_encoder = msgspec.json.Encoder()


def decode(text: str) -> ClientFrame:
    """Raises FrameInvalid, which says what is wrong and repeats nothing that was sent."""
    try:
        frame: ClientFrame = _decoder.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError) as error:
        raise FrameInvalid(str(error).replace("Object ", "The object ")) from None
    return frame


def encode(frame: ServerFrame) -> bytes:
    """As it goes over the wire."""
    return packed(_encoder.encode(frame))


def packed(text: bytes) -> bytes:
    """A whole WebSocket frame: a server's are not masked (RFC 6455, section 5.1), so the same for every socket."""
    return websockets.Frame(websockets.Opcode.TEXT, text).serialize(mask=False)


class FrameInvalid(Exception):
    """Not a frame of the protocol."""


def schema() -> dict[str, Any]:
    """All frames as a JSON Schema, 2020-12; `ClientFrame` and `ServerFrame` among its definitions."""
    (client, server), definitions = msgspec.json.schema_components(
        [ClientFrame, ServerFrame], ref_template="#/$defs/{name}"
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Frames of Pombo's WebSocket",
        "anyOf": [{"$ref": "#/$defs/ClientFrame"}, {"$ref": "#/$defs/ServerFrame"}],
        "$defs": {"ClientFrame": client, "ServerFrame": server, **definitions},
    }
