"""Histories of the lease and send protocol, made by hypothesis; `tests/protocol_model` tells what they are made of.

`POMBO_MODEL_RUNS` sets how many (`make chaos`: 10,000); each is some fifty steps long.
"""

import os
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pombo.domain.doubt import DoubtPolicy
from tests.protocol_model.departing import Departed, DepartingWorld
from tests.protocol_model.flaws import Flaw
from tests.protocol_model.meta import Verdict
from tests.protocol_model.stories import STORIES, echoes_in
from tests.protocol_model.worker import Fate, Worker
from tests.protocol_model.world import Echoes, World

RUNS = int(os.environ.get("POMBO_MODEL_RUNS", "300"))

KINDS = ("session", "template")
pick = st.integers(0, 11)
"""Which of those there are, by remainder."""
fates = st.sampled_from([Fate.ANSWERED, Fate.ANSWERED, Fate.ANSWER_LOST, Fate.NEVER_ARRIVED])
verdicts = st.sampled_from(list(Verdict)[:5])
drifts = st.sampled_from([0.0, 0.01, -0.01])


class Histories(RuleBasedStateMachine):
    echoes = Echoes.WITHIN_GRACE
    policies = (DoubtPolicy.SAFE,)
    flaw: Flaw | None = None
    world: World

    @initialize(
        story=st.integers(0, 2 * len(Flaw) - 1),
        moves=st.none() | st.integers(0, 100),
        channels=st.integers(1, 2),
        messages=st.integers(1, 8),
        workers=st.integers(1, 2),
        policy=pick,
    )
    def begin(self, story: int, moves: int | None, channels: int, messages: int, workers: int, policy: int) -> None:
        """As half of the stories do that lead where chance alone hardly comes, or from nothing."""
        if story < len(Flaw) and self.may_tell(flaw := list(Flaw)[story]):
            self.tell(flaw, moves)
            return
        self.world = World(channels, self.echoes, self.policies[policy % len(self.policies)], self.flaw)
        for n in range(messages):
            self.world.database.add_message(n % channels, KINDS[n // 2 % 2], self.world.now)
        for _ in range(workers):
            self.world.boot(0.0)
            self.world.tend(self.world.workers[-1])
        self.world.pass_time(0.5, Verdict.ACCEPTED)

    def may_tell(self, story: Flaw) -> bool:
        """With a flaw only its own: another's may go on as no story of a whole protocol would."""
        return echoes_in(story) is self.echoes and self.flaw in (None, story)

    def tell(self, story: Flaw, moves: int | None) -> None:
        """So many moves of the story, or all."""
        made: list[DepartingWorld] = []

        def make(channels: int, echoes: Echoes) -> World:
            made.append(DepartingWorld(channels, echoes, DoubtPolicy.SAFE, self.flaw, moves))
            return made[0]

        with suppress(Departed):
            STORIES[story](make)
        self.world = made[0]
        made[0].moves_left = None

    def worker(self, n: int) -> Worker | None:
        running = [worker for worker in self.world.workers if worker.running]
        return running[n % len(running)] if running else None

    # --- what workers do ------------------------------------------------------------------------------------------

    @rule(n=pick, fate=fates)
    def tend(self, n: int, fate: Fate) -> None:
        if worker := self.worker(n):
            self.world.tend(worker, fate)

    @rule(n=pick, most=st.integers(1, 3))
    def collect(self, n: int, most: int) -> None:
        if worker := self.worker(n):
            worker.read(self.world.now)
            worker.collect(most, self.world.now)

    @rule(n=pick)
    def prepare(self, n: int) -> None:
        """All that goes well up to the last moment before the first byte."""
        if worker := self.worker(n):
            self.world.poise(worker)

    @precondition(lambda self: self.world.database.under_way)
    @rule(n=pick, fate=fates)
    def end_intent(self, n: int, fate: Fate) -> None:
        under_way = self.world.database.under_way
        self.world.end_intent(under_way[n % len(under_way)], fate)

    @rule(n=pick)
    def lose_intent(self, n: int) -> None:
        if (worker := self.worker(n)) and worker.storing:
            self.world.lose_intent(worker)

    @rule(n=pick, most=st.integers(1, 3))
    def poise(self, n: int, most: int) -> None:
        if worker := self.worker(n):
            worker.poise(most, self.world.now)

    @rule(n=pick)
    def write(self, n: int) -> None:
        if worker := self.worker(n):
            worker.write(self.world.now)

    @rule(n=pick, which=pick, lost=st.booleans())
    def hear(self, n: int, which: int, lost: bool) -> None:
        if (worker := self.worker(n)) and worker.flying:
            message = worker.flying[which % len(worker.flying)]
            assert message.request is not None
            verdict = message.request.verdict
            worker.hear(message, Verdict.NO_ANSWER if lost or verdict is None else verdict, self.world.now)

    @rule(n=pick, most=st.integers(1, 5), fate=fates)
    def save(self, n: int, most: int, fate: Fate) -> None:
        if worker := self.worker(n):
            self.world.save(worker, most, fate)

    # --- what befalls them ----------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.world.workers) < 3)
    @rule(drift=drifts)
    def boot(self, drift: float) -> None:
        self.world.boot(drift)

    @precondition(lambda self: self.world.workers)
    @rule(n=pick, how=st.sampled_from(["kill", "stop", "stall", "cut off", "end session", "suspend"]))
    def befall(self, n: int, how: str) -> None:
        world = self.world
        worker = world.workers[n % len(world.workers)]
        match how:
            case "kill":
                world.kill(worker)
            case "stop" if worker.running:
                world.stop(worker)
            case "stall" if world.may_stall(worker):
                worker.stalled = True
            case "cut off":
                worker.cut_off = True
            case "end session" if world.may_end_session(worker):
                world.end_session(worker)
            case "suspend" if not world.assumptions_hold:
                worker.suspended(60.0)

    @rule(n=pick)
    def stall_in_the_last_moment(self, n: int) -> None:
        if (worker := self.worker(n)) and self.world.may_stall(worker):
            self.world.poise(worker)
            worker.stalled = True
            if self.worker(0) is None:
                self.world.boot(0.0)

    @precondition(lambda self: any(worker.stalled or worker.cut_off for worker in self.world.workers))
    @rule(n=pick)
    def recover(self, n: int) -> None:
        broken = [worker for worker in self.world.workers if worker.stalled or worker.cut_off]
        worker = broken[n % len(broken)]
        worker.stalled = worker.cut_off = False

    # --- Meta and time --------------------------------------------------------------------------------------------

    @precondition(lambda self: self.world.meta.on_the_way)
    @rule(n=pick, verdict=verdicts)
    def arrive(self, n: int, verdict: Verdict) -> None:
        on_the_way = self.world.meta.on_the_way
        self.world.arrive(on_the_way[n % len(on_the_way)], verdict)

    @precondition(lambda self: self.world.meta.echoes)
    @rule(n=pick, again=st.booleans())
    def echo(self, n: int, again: bool) -> None:
        echoes = self.world.meta.echoes
        echo = echoes[n % len(echoes)]
        if not self.world.is_kept_back(echo):
            self.world.deliver(echo, again=again)

    @precondition(lambda self: self.world.database.webhooks)
    @rule(most=st.integers(1, 5))
    def ingest(self, most: int) -> None:
        self.world.database.apply_webhooks(most, self.world.now)

    @precondition(lambda self: self.echoes is Echoes.WITHIN_GRACE)
    @rule(channel=st.integers(0, 1), kind=st.sampled_from(KINDS), dark=st.booleans())
    def darken(self, channel: int, kind: str, dark: bool) -> None:
        (self.world.dark.add if dark else self.world.lighten)((channel, kind))

    @rule(seconds=st.sampled_from([0.1, 0.5, 2.0, 9.0, 31.0, 125.0]), verdict=verdicts)
    def pass_time(self, seconds: float, verdict: Verdict) -> None:
        self.world.pass_time(seconds, verdict)

    @rule(seconds=st.sampled_from([2.0, 12.0, 130.0]), verdict=verdicts)
    def live_on(self, seconds: float, verdict: Verdict) -> None:
        self.world.live_on(seconds, verdict)

    @rule(verdict=verdicts)
    def have_traffic(self, verdict: Verdict) -> None:
        self.world.have_traffic(130.0, verdict)

    @rule(channel=pick, kind=st.sampled_from(KINDS))
    def add_message(self, channel: int, kind: str) -> None:
        self.world.database.add_message(channel % len(self.world.takes), kind, self.world.now)

    @invariant()
    def holds(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.come_to_rest()


def live_through(runs: int, *, shrink: bool = True, **world: Any) -> None:
    run_state_machine_as_test(
        type("Histories", (Histories,), world),
        settings=settings(
            max_examples=runs,
            stateful_step_count=50,
            deadline=None,
            report_multiple_bugs=False,
            database=None,
            derandomize=not shrink,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
        ),
    )


def test_while_evidence_comes_within_grace_nothing_is_lost_and_nothing_accepted_twice() -> None:
    live_through(RUNS // 2)


def test_when_evidence_is_later_than_grace_whatever_was_accepted_twice_is_reported() -> None:
    live_through(RUNS // 4, echoes=Echoes.AT_ANY_TIME, policies=tuple(DoubtPolicy))


def test_without_any_evidence_nothing_is_accepted_twice_and_the_doubtful_are_held() -> None:
    live_through(RUNS // 4, echoes=Echoes.NEVER, policies=(DoubtPolicy.SAFE, DoubtPolicy.HOLD))


@pytest.mark.skipif(RUNS < 10_000, reason="Takes two minutes; test_protocol_flaws.py tells of each in a moment.")
@pytest.mark.parametrize("flaw", Flaw)
def test_histories_find_out_a_protocol_that_is_broken(flaw: Flaw) -> None:
    with pytest.raises(AssertionError, match=flaw.symptom):
        live_through(RUNS, shrink=False, flaw=flaw, echoes=echoes_in(flaw))
