from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from pombo.domain.doubt import (
    Decision,
    DoubtPolicy,
    Drop,
    Facts,
    Fail,
    Hold,
    HoldReason,
    Resend,
    Wait,
    decide,
    shortest_grace_s,
)
from pombo.settings import SettingsError, load_settings

START = datetime(2026, 3, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


SAFE = Facts(
    now=at(200),
    intent_at=at(0),
    since=at(10),
    ended_at=at(20),
    grace=timedelta(seconds=120),
    newest_evidence=at(21),
    oldest_webhook=None,
    last_given_up=None,
    attempts_left=True,
)


@pytest.mark.parametrize("policy", DoubtPolicy)
def test_nothing_is_decided_before_the_grace_is_over(policy: DoubtPolicy) -> None:
    assert decide(policy, replace(SAFE, now=at(139.9))) == Wait()


@pytest.mark.parametrize(
    ("policy", "decision"),
    [
        (DoubtPolicy.SAFE, Resend()),
        (DoubtPolicy.RESEND, Resend()),
        (DoubtPolicy.HOLD, Hold(HoldReason.POLICY)),
        (DoubtPolicy.FAIL, Fail()),
    ],
)
def test_after_it_the_policy_decides(policy: DoubtPolicy, decision: Decision) -> None:
    assert decide(policy, replace(SAFE, now=at(140))) == decision


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ({"ended_at": None}, HoldReason.WORKER_MAY_LIVE),
        ({"oldest_webhook": at(140)}, HoldReason.WEBHOOKS_WAITING),
        ({"last_given_up": at(0)}, HoldReason.WEBHOOKS_GIVEN_UP),
        ({"newest_evidence": None}, HoldReason.NO_EVIDENCE),
        ({"newest_evidence": at(20)}, HoldReason.NO_EVIDENCE),
        ({"attempts_left": False}, HoldReason.ATTEMPTS_USED),
    ],
)
def test_a_message_is_held_while_anything_is_missing_that_makes_it_safe(
    missing: dict[str, object], reason: HoldReason
) -> None:
    assert decide(DoubtPolicy.SAFE, replace(SAFE, **missing)) == Hold(reason)  # type: ignore[arg-type]


def test_webhooks_that_came_after_the_grace_and_failures_before_the_intent_are_no_obstacle() -> None:
    assert decide(DoubtPolicy.SAFE, replace(SAFE, oldest_webhook=at(140.1), last_given_up=at(-0.1))) == Resend()


def test_the_policy_resend_needs_no_evidence_but_a_worker_that_has_ended_and_webhooks_that_are_read() -> None:
    blind = replace(SAFE, newest_evidence=None, last_given_up=at(50))
    assert decide(DoubtPolicy.RESEND, blind) == Resend()
    assert decide(DoubtPolicy.RESEND, replace(blind, ended_at=None)) == Hold(HoldReason.WORKER_MAY_LIVE)
    assert decide(DoubtPolicy.RESEND, replace(blind, oldest_webhook=at(30))) == Hold(HoldReason.WEBHOOKS_WAITING)


def test_grace_is_counted_from_the_end_of_the_worker_because_it_may_have_written_until_then() -> None:
    stopped_for_long = replace(SAFE, ended_at=at(150))
    assert decide(DoubtPolicy.SAFE, stopped_for_long) == Wait()
    late = replace(stopped_for_long, now=at(270))
    assert decide(DoubtPolicy.SAFE, late) == Hold(HoldReason.NO_EVIDENCE)
    assert decide(DoubtPolicy.SAFE, replace(late, newest_evidence=at(151))) == Resend()


def test_what_could_be_sent_again_is_dropped_when_its_run_was_cancelled() -> None:
    assert decide(DoubtPolicy.SAFE, replace(SAFE, cancelled=True, attempts_left=False)) == Drop()
    unsafe = replace(SAFE, cancelled=True, newest_evidence=None)
    assert decide(DoubtPolicy.SAFE, unsafe) == Hold(HoldReason.NO_EVIDENCE)


def test_every_reason_has_words() -> None:
    assert all(reason.words.endswith(".") for reason in HoldReason)


def test_the_default_grace_leaves_meta_time_with_the_default_lease_and_time_out() -> None:
    assert shortest_grace_s(8, 30) == 68


def test_a_grace_that_an_answer_may_outlive_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"DOUBT_GRACE_S: .*must be above 68, .*LEASE_S"):
        load_settings(_env_file=None, doubt_grace_s=68)
    with pytest.raises(SettingsError, match="must be above 128"):
        load_settings(_env_file=None, answer_timeout_s=60)
    assert load_settings(_env_file=None, doubt_grace_s=2.1, lease_s=1.1, answer_timeout_s=0.4).doubt_grace_s == 2.1
