"""Who is there, what they look at, and where they type: of this process's sockets, and as other processes tell.

Plain memory. Each process tells the others of its agents when something changes, and again every `TELL_EVERY_S`; what
is not told again is forgotten after `FADES_AFTER_S`, so a process that dies takes its agents with it. A new process
asks the others to tell at once.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec
from msgspec import Struct

from pombo.domain import topics
from pombo.domain.ids import WorkspaceId
from pombo.realtime import frames
from pombo.realtime.frames import Agent, Presence, TypingAgents

TELL_EVERY_S = 10.0
# Two tellings may be lost.
FADES_AFTER_S = 35.0
TYPING_FADES_AFTER_S = 8.0
# A NOTIFY has fewer than 8,000 bytes, and an agent at most some 800.
_TELLING_SIZE = 7000
# Open conversations and such of one agent that others hear of; nobody looks at more.
_MOST_CONVERSATIONS = 20


class State(NamedTuple):
    """Of an agent; sorted, so that equal ones are equal."""

    online: bool
    looking: tuple[int, ...]
    typing: tuple[int, ...]


OFFLINE = State(False, (), ())


class Seat:
    """One socket's agent."""

    def __init__(self, workspace_id: WorkspaceId, agent_id: int) -> None:
        self.workspace_id = workspace_id
        self.agent_id = agent_id
        self.looking: int | None = None
        self.typing: int | None = None
        self.typing_until = 0.0


class AgentTold(Struct, array_like=True, frozen=True):
    agent_id: int
    online: bool
    looking: list[int]
    typing: list[int]


class Telling(Struct, frozen=True, rename={"process": "p", "workspace_id": "w", "agents": "a", "asks": "q"}):
    """What processes say to each other."""

    process: str
    workspace_id: int = 0
    agents: list[AgentTold] = []
    asks: bool = False


_decoder = msgspec.json.Decoder(Telling)


class PresenceBoard:
    """`tell` sends a payload to all processes; `show` gives a frame to those of a workspace who follow a topic."""

    def __init__(
        self,
        process: str,
        tell: Callable[[str], None],
        show: Callable[[WorkspaceId, str, bytes], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._process = process
        self._tell = tell
        self._show = show
        self._clock = clock
        self._seats: dict[tuple[WorkspaceId, int], set[Seat]] = defaultdict(set)
        # Of other processes: by agent, by process, the state and until when it is believed.
        self._heard: dict[tuple[WorkspaceId, int], dict[str, tuple[State, float]]] = defaultdict(dict)
        self._shown: dict[WorkspaceId, dict[int, State]] = defaultdict(dict)
        self._told_at = float("-inf")

    # --- this process's sockets -------------------------------------------------------------------------------------
    def sit(self, seat: Seat) -> None:
        self._seats[seat.workspace_id, seat.agent_id].add(seat)
        self._changed(seat)

    def rise(self, seat: Seat) -> None:
        key = seat.workspace_id, seat.agent_id
        self._seats[key].discard(seat)
        if not self._seats[key]:
            del self._seats[key]
        self._changed(seat)

    def look(self, seat: Seat, conversation_id: int | None) -> None:
        seat.looking = conversation_id
        self._changed(seat)

    def type(self, seat: Seat, conversation_id: int, typing: bool) -> None:
        if typing:
            was, seat.typing = seat.typing, conversation_id
            seat.typing_until = self._clock() + TYPING_FADES_AFTER_S
            if was != conversation_id:
                self._changed(seat)
        elif seat.typing == conversation_id:
            seat.typing = None
            self._changed(seat)

    def _changed(self, seat: Seat) -> None:
        self._tell_of(seat.workspace_id, [seat.agent_id])
        self._reconsider(seat.workspace_id, seat.agent_id)

    # --- other processes --------------------------------------------------------------------------------------------
    def ask(self) -> None:
        self._tell(_encode(Telling(self._process, asks=True)))

    def hear(self, payload: str) -> None:
        try:
            told = _decoder.decode(payload)
        except msgspec.DecodeError:
            # Of another version of Pombo, while versions change.
            return
        if told.process == self._process:
            return
        if told.asks:
            self._tell_all()
        workspace_id, until = WorkspaceId(told.workspace_id), self._clock() + FADES_AFTER_S
        for agent in told.agents:
            state = State(agent.online, tuple(agent.looking), tuple(agent.typing))
            if agent.online:
                self._heard[workspace_id, agent.agent_id][told.process] = state, until
            else:
                self._heard[workspace_id, agent.agent_id].pop(told.process, None)
            self._reconsider(workspace_id, agent.agent_id)

    def tick(self) -> None:
        """Call it about every second: forgets what has faded, and tells again what is so."""
        now = self._clock()
        for seats in list(self._seats.values()):
            for seat in seats:
                if seat.typing is not None and seat.typing_until <= now:
                    seat.typing = None
                    self._changed(seat)
        for (workspace_id, agent_id), by_process in list(self._heard.items()):
            faded = [process for process, (_, until) in by_process.items() if until <= now]
            for process in faded:
                del by_process[process]
            if faded:
                self._reconsider(workspace_id, agent_id)
        if now - self._told_at >= TELL_EVERY_S:
            self._tell_all()

    def _tell_all(self) -> None:
        self._told_at = self._clock()
        by_workspace: dict[WorkspaceId, list[int]] = defaultdict(list)
        for workspace_id, agent_id in self._seats:
            by_workspace[workspace_id].append(agent_id)
        for workspace_id, agent_ids in by_workspace.items():
            self._tell_of(workspace_id, agent_ids)

    def _tell_of(self, workspace_id: WorkspaceId, agent_ids: list[int]) -> None:
        telling: list[AgentTold] = []
        size = 0
        for agent_id in agent_ids:
            state = self._own(workspace_id, agent_id)
            told = AgentTold(agent_id, state.online, list(state.looking), list(state.typing))
            size += len(msgspec.json.encode(told)) + 1
            if telling and size > _TELLING_SIZE:
                self._tell(_encode(Telling(self._process, workspace_id, telling)))
                telling, size = [], 0
            telling.append(told)
        self._tell(_encode(Telling(self._process, workspace_id, telling)))

    # --- both together ----------------------------------------------------------------------------------------------
    def presence(self, workspace_id: WorkspaceId) -> Presence:
        """All who are online."""
        known = self._shown.get(workspace_id, {})
        return Presence(True, [_agent(agent_id, state) for agent_id, state in sorted(known.items())])

    def typing(self, workspace_id: WorkspaceId, conversation_id: int) -> TypingAgents:
        known = self._shown.get(workspace_id, {})
        return TypingAgents(conversation_id, sorted(a for a, state in known.items() if conversation_id in state.typing))

    def _own(self, workspace_id: WorkspaceId, agent_id: int) -> State:
        seats = self._seats.get((workspace_id, agent_id))
        if not seats:
            return OFFLINE
        return _together([State(True, _one(seat.looking), _one(seat.typing)) for seat in seats])

    def _states(self, workspace_id: WorkspaceId, agent_id: int) -> Iterator[State]:
        yield self._own(workspace_id, agent_id)
        for state, _ in self._heard.get((workspace_id, agent_id), {}).values():
            yield state

    def _reconsider(self, workspace_id: WorkspaceId, agent_id: int) -> None:
        """Shows what has changed of an agent, all processes taken together."""
        known = self._shown[workspace_id]
        before, now = known.get(agent_id, OFFLINE), _together(list(self._states(workspace_id, agent_id)))
        if now.online:
            known[agent_id] = now
        else:
            known.pop(agent_id, None)
            if not self._heard.get((workspace_id, agent_id)):
                self._heard.pop((workspace_id, agent_id), None)
        if before[:2] != now[:2]:
            frame = frames.encode(Presence(False, [_agent(agent_id, now)]))
            self._show(workspace_id, topics.PRESENCE, frame)
        for conversation_id in sorted(set(before.typing) ^ set(now.typing)):
            frame = frames.encode(self.typing(workspace_id, conversation_id))
            self._show(workspace_id, topics.messages_of(conversation_id), frame)


def _together(states: list[State]) -> State:
    return State(
        any(state.online for state in states),
        tuple(sorted({each for state in states for each in state.looking})[:_MOST_CONVERSATIONS]),
        tuple(sorted({each for state in states for each in state.typing})[:_MOST_CONVERSATIONS]),
    )


def _one(conversation_id: int | None) -> tuple[int, ...]:
    return () if conversation_id is None else (conversation_id,)


def _agent(agent_id: int, state: State) -> Agent:
    return Agent(agent_id, state.online, list(state.looking))


def _encode(telling: Telling) -> str:
    return msgspec.json.encode(telling).decode()
