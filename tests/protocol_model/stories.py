"""What each part of the protocol is for: stories that end well, and end badly when that part is left out.

Within the assumptions of this package, and so short that nothing but the flaw can be the cause.
"""

from collections.abc import Callable

from tests.protocol_model.flaws import Flaw
from tests.protocol_model.meta import Verdict
from tests.protocol_model.worker import Fate, Worker
from tests.protocol_model.world import Echoes, World

Make = Callable[[int, Echoes], World]
"""Of so many channels."""

KIND = "session"
OTHER_KIND = "template"


def begin(make: Make, echoes: Echoes = Echoes.WITHIN_GRACE) -> tuple[World, Worker]:
    """One channel, one message that waits, one worker that owns the channel."""
    world = make(1, echoes)
    world.database.add_message(0, KIND, world.now)
    world.boot(0.0)
    world.tend(world.workers[0])
    world.pass_time(1.0, Verdict.ACCEPTED)
    return world, world.workers[0]


def boot(world: World) -> Worker:
    world.boot(0.0)
    return world.workers[-1]


def send(world: World, worker: Worker, hears: Verdict | None, verdict: Verdict = Verdict.ACCEPTED) -> None:
    """What is poised leaves and arrives; the worker is told something, or nothing yet, and saves it."""
    worker.write(world.now)
    for request in list(world.meta.on_the_way):
        world.arrive(request, verdict)
    if hears is not None:
        for message in list(worker.flying):
            worker.hear(message, hears, world.now)
        world.save(worker, 10)


def doubtful(make: Make) -> World:
    """Accepted, but the answer is lost."""
    world, worker = begin(make)
    world.poise(worker)
    send(world, worker, Verdict.NO_ANSWER)
    return world


def taken_over(make: Make, *, poised: bool) -> tuple[World, Worker, Worker]:
    """The first worker is stopped, with a message at hand; another has its channel."""
    world, first = begin(make)
    (world.poise if poised else world.arm)(first)
    first.stalled = True
    second = boot(world)
    world.have_traffic(20.0, Verdict.ACCEPTED)
    return world, first, second


def an_owner_that_is_not_any_more(make: Make) -> World:
    world, first = begin(make)
    world.pass_time(9.0, Verdict.ACCEPTED)
    world.tend(boot(world))
    first.read(world.now)
    first.collect(1, world.now)
    world.end_intent(world.database.under_way[0], Fate.ANSWERED)
    return world


def a_takeover_while_an_intent_is_under_way(make: Make) -> World:
    world, first = begin(make)
    first.read(world.now)
    first.collect(1, world.now)
    world.pass_time(7.5, Verdict.ACCEPTED)
    world.tend(boot(world))
    for statement in list(world.database.under_way):
        world.end_intent(statement, Fate.ANSWERED)
    return world


def an_old_withdrawal_when_the_next_attempt_is_in_flight(make: Make) -> World:
    world, first, second = taken_over(make, poised=False)
    first.stalled, first.cut_off = False, True
    first.poise(1, world.now)
    assert first.unsaved, "its lease is over: withdrawn, but the database does not hear of it yet"
    world.end_session(first)
    world.live_on(12.0, Verdict.ACCEPTED)
    world.database.add_message(0, KIND, world.now)
    row = next(iter(world.database.outbox.values()))
    while row.state != "r":
        world.go_on(Verdict.ACCEPTED)
        world.pass_time(2.0, Verdict.ACCEPTED)
        world.tend(second)
    world.poise(second)
    second.write(world.now)
    first.cut_off = False
    world.tend(first)
    world.save(first, 10)
    send(world, second, Verdict.NO_ANSWER)
    world.live_on(4.0, Verdict.ACCEPTED)
    return world


def an_intent_whose_answer_is_lost(make: Make) -> World:
    world, worker = begin(make)
    worker.read(world.now)
    worker.collect(1, world.now)
    world.lose_intent(worker)
    world.end_intent(world.database.under_way[0], Fate.NEVER_ARRIVED)
    worker.poise(1, world.now)
    send(world, worker, Verdict.ACCEPTED)
    return world


def an_intent_that_commits_late(make: Make) -> World:
    world, worker = begin(make)
    worker.read(world.now)
    worker.collect(1, world.now)
    world.lose_intent(worker)
    world.save(worker, 10)
    world.end_intent(world.database.under_way[0], Fate.ANSWERED)
    return world


def armed_for_longer_than_the_lease(make: Make) -> World:
    world, first, _ = taken_over(make, poised=False)
    world.end_session(first)
    world.have_traffic(200.0, Verdict.ACCEPTED)
    first.stalled = False
    first.poise(1, world.now)
    send(world, first, Verdict.ACCEPTED)
    return world


def a_lost_answer(make: Make) -> World:
    world = doubtful(make)
    world.live_on(20.0, Verdict.ACCEPTED)
    return world


def an_echo_that_takes_its_time(make: Make) -> World:
    world = doubtful(make)
    first = world.meta.echoes[0]
    world.have_traffic(4.0, Verdict.ACCEPTED)
    for echo in [echo for echo in world.meta.echoes if echo is not first]:
        world.deliver(echo)
    world.live_on(4.0, Verdict.ACCEPTED)
    return world


def a_worker_that_goes_on_after_an_hour(make: Make) -> World:
    world, first, _ = taken_over(make, poised=True)
    world.have_traffic(3600.0, Verdict.ACCEPTED)
    first.stalled = False
    send(world, first, Verdict.NO_ANSWER)
    world.live_on(4.0, Verdict.ACCEPTED)
    return world


def no_echoes_at_all(make: Make) -> World:
    world, worker = begin(make)
    world.dark.add((0, KIND))
    world.poise(worker)
    send(world, worker, Verdict.NO_ANSWER)
    world.have_traffic(140.0, Verdict.ACCEPTED)
    return world


def echoes_that_end_just_then(make: Make) -> World:
    """One stored before the first had left still came through."""
    world, worker = begin(make)
    world.arm(worker)
    world.pass_time(0.5, Verdict.ACCEPTED)
    world.database.add_message(0, KIND, world.now)
    world.poise(worker)
    send(world, worker, Verdict.NO_ANSWER)
    world.deliver(world.meta.echoes[1])
    world.dark.add((0, KIND))
    world.live_on(140.0, Verdict.ACCEPTED)
    return world


def echoes_of_templates_alone(make: Make) -> World:
    world, worker = begin(make)
    world.dark.add((0, KIND))
    world.poise(worker)
    send(world, worker, Verdict.NO_ANSWER)
    world.live_on(12.0, Verdict.ACCEPTED)
    world.database.add_message(0, OTHER_KIND, world.now)
    world.live_on(140.0, Verdict.ACCEPTED)
    return world


def an_echo_that_waits_in_the_queue(make: Make) -> World:
    world = doubtful(make)
    world.have_traffic(4.0, Verdict.ACCEPTED)
    first, *later = world.meta.echoes
    for echo in later:
        world.deliver(echo)
    world.database.apply_webhooks(len(later), world.now)
    world.deliver(first)
    world.pass_time(130.0, Verdict.ACCEPTED)
    world.tend(world.workers[0])
    world.live_on(2.0, Verdict.ACCEPTED)
    return world


def evidence_when_the_message_was_sent_again(make: Make) -> World:
    """Beyond the assumptions: the echo comes after grace."""
    world, worker = begin(make, Echoes.AT_ANY_TIME)
    world.poise(worker)
    send(world, worker, Verdict.NO_ANSWER)
    world.have_traffic(20.0, Verdict.ACCEPTED)
    world.deliver(world.meta.echoes[1])
    world.live_on(140.0, Verdict.ACCEPTED)
    assert len(world.meta.accepted[1]) == 2
    world.deliver(world.meta.echoes[0])
    world.live_on(2.0, Verdict.ACCEPTED)
    return world


def an_outcome_written_again(make: Make) -> World:
    world, worker = begin(make)
    world.poise(worker)
    send(world, worker, None)
    worker.hear(worker.flying[0], Verdict.ACCEPTED, world.now)
    world.save(worker, 1, Fate.ANSWER_LOST)
    world.save(worker, 1)
    return world


def a_takeover_of_a_channel_in_full_swing(make: Make) -> World:
    world, first = begin(make)
    for _ in range(8):
        world.database.add_message(0, KIND, world.now)
    world.pass_time(1.0, Verdict.ACCEPTED)
    world.poise(first)
    world.stop(first)
    world.poise(boot(world))
    return world


def a_batch_that_is_refused(make: Make) -> World:
    world, worker = begin(make)
    for _ in range(8):
        world.database.add_message(0, KIND, world.now)
    worker.read(world.now)
    worker.collect(3, world.now)
    world.pass_time(1.0, Verdict.ACCEPTED)
    worker.collect(3, world.now)
    refused, stored = world.database.under_way
    world.end_intent(refused, Fate.NEVER_ARRIVED)
    world.end_intent(stored, Fate.ANSWERED)
    worker.collect(3, world.now)
    for statement in list(world.database.under_way):
        world.end_intent(statement, Fate.ANSWERED)
    return world


STORIES: dict[Flaw, Callable[[Make], World]] = {
    Flaw.NO_EPOCH_CHECK: an_owner_that_is_not_any_more,
    Flaw.NO_KEY_SHARE_LOCK: a_takeover_while_an_intent_is_under_way,
    Flaw.PROOF_OF_ANY_ATTEMPT: an_old_withdrawal_when_the_next_attempt_is_in_flight,
    Flaw.SENDS_WHAT_WAS_NOT_RETURNED: an_intent_whose_answer_is_lost,
    Flaw.FORGETS_INTENTS_WITH_LOST_ANSWERS: an_intent_that_commits_late,
    Flaw.NO_DEADLINE: armed_for_longer_than_the_lease,
    Flaw.A_LOST_ANSWER_IS_A_REFUSAL: a_lost_answer,
    Flaw.RESENDS_WITHOUT_GRACE: an_echo_that_takes_its_time,
    Flaw.COUNTS_GRACE_FROM_THE_DOUBT: a_worker_that_goes_on_after_an_hour,
    Flaw.RESENDS_WHILE_THE_OWNER_LIVES: a_worker_that_goes_on_after_an_hour,
    Flaw.RESENDS_WITHOUT_LATER_EVIDENCE: no_echoes_at_all,
    Flaw.TAKES_EVIDENCE_FROM_BEFORE_THE_END: echoes_that_end_just_then,
    Flaw.TAKES_EVIDENCE_OF_ANOTHER_KIND: echoes_of_templates_alone,
    Flaw.RESENDS_BEFORE_WEBHOOKS_ARE_APPLIED: an_echo_that_waits_in_the_queue,
    Flaw.HIDES_THE_SECOND_ID: evidence_when_the_message_was_sent_again,
    Flaw.COUNTS_WHAT_DID_NOT_MOVE: an_outcome_written_again,
    Flaw.STARTS_WITH_A_FULL_BUCKET: a_takeover_of_a_channel_in_full_swing,
    Flaw.GIVES_TOKENS_BACK_LATER: a_batch_that_is_refused,
}


def echoes_in(flaw: Flaw) -> Echoes:
    """What is assumed of Meta's webhooks in that flaw's story."""
    return Echoes.AT_ANY_TIME if flaw is Flaw.HIDES_THE_SECOND_ID else Echoes.WITHIN_GRACE
