"""Presence of several processes, each a board, that tell each other."""

import json
from typing import Any

from pombo.domain.ids import WorkspaceId
from pombo.realtime.presence import FADES_AFTER_S, TELL_EVERY_S, TYPING_FADES_AFTER_S, PresenceBoard, Seat

ACME, OTHER = WorkspaceId(1), WorkspaceId(2)
ANA, BEN = 11, 12


class House:
    """Processes that hear each other, one clock, and what each shows."""

    def __init__(self, processes: int = 2) -> None:
        self.now = 0.0
        self.deaf: set[int] = set()
        self.payloads: list[str] = []
        self.shown: list[list[tuple[int, str, dict[str, Any]]]] = [[] for _ in range(processes)]
        self.boards = [
            PresenceBoard(f"process {n}", self._tell(n), self._show(n), lambda: self.now) for n in range(processes)
        ]

    def _tell(self, teller: int) -> Any:
        def tell(payload: str) -> None:
            self.payloads.append(payload)
            for n, board in enumerate(self.boards):
                # NOTIFY reaches the teller as well.
                if not self.deaf & {n, teller}:
                    board.hear(payload)

        return tell

    def _show(self, n: int) -> Any:
        def show(workspace: WorkspaceId, topic: str, frame: bytes) -> None:
            self.shown[n].append((workspace, topic, json.loads(frame[frame.index(b"{") :])))

        return show

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 1)
            for n, board in enumerate(self.boards):
                if n not in self.deaf:
                    board.tick()

    def online(self, process: int, workspace: WorkspaceId = ACME) -> dict[int, list[int]]:
        return {agent.agent_id: agent.conversation_ids for agent in self.boards[process].presence(workspace).agents}

    def typing(self, process: int, conversation: int) -> list[int]:
        return self.boards[process].typing(ACME, conversation).agent_ids


def test_an_agent_is_online_everywhere_while_any_of_her_sockets_is_open() -> None:
    house = House()
    here, there = Seat(ACME, ANA), Seat(ACME, ANA)
    house.boards[0].sit(here)
    house.boards[1].sit(there)
    house.boards[0].look(here, 7)
    house.boards[1].look(there, 8)
    assert house.online(0) == house.online(1) == {ANA: [7, 8]}
    house.boards[0].rise(here)
    assert house.online(0) == house.online(1) == {ANA: [8]}
    house.boards[1].rise(there)
    assert house.online(0) == house.online(1) == {}
    assert house.online(0, OTHER) == {}


def test_only_changes_are_shown_each_once() -> None:
    house = House()
    seat = Seat(ACME, ANA)
    house.boards[0].sit(seat)
    house.boards[0].look(seat, 7)
    house.boards[0].look(seat, 7)
    house.pass_time(60)
    states = [frame["agents"] for _, topic, frame in house.shown[1] if topic == "agents:presence"]
    assert states == [
        [{"agentId": ANA, "online": True, "conversationIds": []}],
        [{"agentId": ANA, "online": True, "conversationIds": [7]}],
    ]


def test_typing_is_shown_with_the_conversation_and_fades_unless_it_is_said_again() -> None:
    house = House()
    ana, ben = Seat(ACME, ANA), Seat(ACME, BEN)
    for board, seat in zip(house.boards, (ana, ben), strict=True):
        board.sit(seat)
    house.boards[0].type(ana, 7, True)
    house.boards[1].type(ben, 7, True)
    assert house.typing(0, 7) == house.typing(1, 7) == [ANA, BEN]
    house.pass_time(TYPING_FADES_AFTER_S - 1)
    house.boards[0].type(ana, 7, True)
    house.pass_time(2)
    assert house.typing(0, 7) == house.typing(1, 7) == [ANA]
    house.boards[0].type(ana, 8, False)
    assert house.typing(1, 7) == [ANA]
    house.boards[0].type(ana, 8, True)
    assert (house.typing(1, 7), house.typing(1, 8)) == ([], [ANA])
    house.boards[0].type(ana, 8, False)
    assert house.typing(1, 8) == []
    assert {topic for _, topic, frame in house.shown[1] if frame["type"] == "typing"} == {"messages:7", "messages:8"}


def test_the_agents_of_a_process_that_falls_silent_fade_and_are_back_when_it_speaks() -> None:
    house = House()
    seat = Seat(ACME, ANA)
    house.boards[0].sit(seat)
    house.pass_time(5 * FADES_AFTER_S)
    assert house.online(1) == {ANA: []}
    house.deaf = {0}
    house.pass_time(FADES_AFTER_S - TELL_EVERY_S - 2)
    assert house.online(1) == {ANA: []}
    house.pass_time(TELL_EVERY_S + 2)
    assert house.online(1) == {}
    house.deaf = set()
    house.pass_time(TELL_EVERY_S)
    assert house.online(1) == {ANA: []}


def test_a_process_that_asks_learns_of_all_in_payloads_that_fit() -> None:
    house = House(3)
    house.deaf = {2}
    for n in range(1, 301):
        seat = Seat(ACME if n % 2 else OTHER, n)
        house.boards[n % 3 % 2].sit(seat)
        house.boards[n % 3 % 2].look(seat, 2**53 - n)
    house.deaf = set()
    house.boards[2].ask()
    assert set(house.online(2)) == set(range(1, 301, 2))
    assert set(house.online(2, OTHER)) == set(range(2, 301, 2))
    assert max(len(payload.encode()) for payload in house.payloads) < 8000


def test_what_another_version_says_is_passed_over() -> None:
    house = House()
    for payload in ("", "{}", "[]", '{"p": 1}', '{"p": "x", "a": [[1]]}', "\0"):
        house.boards[0].hear(payload)
    house.boards[0].hear('{"p": "x", "w": 1, "a": [[11, true, [], [], "new"]], "new": 1}')
    assert house.online(0) == {ANA: []}
