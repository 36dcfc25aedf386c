import pytest

from pombo.domain.channels import ChannelKind
from pombo.domain.content import RenderError
from pombo.domain.outcomes import ErrorClass, ErrorScope
from pombo.meta.errors import all_rules, connection_error, content_error, find_rule, send_error
from tests.platform_errors import (
    AMBIGUOUS,
    APP,
    CHANNEL,
    DOUBTFUL,
    MESSAGE,
    PERMANENT,
    PROVEN,
    RECIPIENT,
    TRANSIENT,
    M,
    W,
)

UNKNOWN = [
    (M, 0, None),
    (M, 99999, None),
    (M, 99999, 5),
    (M, 300, None),
    (M, 199, None),
    (W, 131099, None),
    (W, 551, None),
]


@pytest.mark.parametrize(("kind", "code", "subcode", "error_class", "scope"), PROVEN)
def test_an_error_with_a_reason_proves_that_nothing_was_accepted(
    kind: ChannelKind, code: int, subcode: int | None, error_class: ErrorClass, scope: ErrorScope
) -> None:
    rule = find_rule(kind, code, subcode)
    assert (rule.error_class, rule.scope, rule.proves_not_accepted) == (error_class, scope, True)


@pytest.mark.parametrize(("kind", "code", "subcode", "error_class", "scope"), DOUBTFUL)
def test_a_failure_of_the_service_proves_nothing(
    kind: ChannelKind, code: int, subcode: int | None, error_class: ErrorClass, scope: ErrorScope
) -> None:
    rule = find_rule(kind, code, subcode)
    assert (rule.error_class, rule.scope, rule.proves_not_accepted) == (error_class, scope, False)


@pytest.mark.parametrize(("kind", "code", "subcode"), UNKNOWN)
def test_an_unknown_code_proves_nothing(kind: ChannelKind, code: int, subcode: int | None) -> None:
    rule = find_rule(kind, code, subcode)
    assert (rule.error_class, rule.proves_not_accepted) == (AMBIGUOUS, False)
    assert rule not in all_rules()


def test_every_row_of_the_table_stands_in_this_test() -> None:
    found = {id(find_rule(kind, code, subcode)) for kind, code, subcode, _, _ in PROVEN + DOUBTFUL}
    assert [rule for rule in all_rules() if id(rule) not in found] == []


def test_no_two_rows_speak_of_the_same_error() -> None:
    keys = [(rule.kind, rule.code, rule.subcode, rule.last_code) for rule in all_rules()]
    assert len(keys) == len(set(keys))


def test_what_may_be_sent_again_by_itself_is_never_in_doubt() -> None:
    for rule in all_rules():
        assert rule.proves_not_accepted or rule.error_class is not TRANSIENT, rule
        assert not rule.proves_not_accepted or rule.error_class is not AMBIGUOUS, rule


def test_words_and_next_steps_are_sentences() -> None:
    for rule in all_rules():
        assert rule.words.endswith("."), rule
        assert rule.next_step.endswith("."), rule


def test_waits_that_meta_prescribes() -> None:
    assert {rule.code: rule.backoff for rule in all_rules() if rule.backoff} == {131056: (1, 4), 134101: (200, 2)}


def test_what_says_that_a_person_has_opted_out() -> None:
    assert {(rule.kind, rule.code, rule.subcode) for rule in all_rules() if rule.opt_out} == {
        (M, 10, 1893015),
        (W, 131050, None),
    }


def test_only_whatsapp_has_accounts_above_its_channels_and_only_it_has_templates_that_can_be_paused() -> None:
    assert {rule.scope for rule in all_rules() if rule.kind is M} == {MESSAGE, RECIPIENT, CHANNEL, APP}


def test_an_error_is_given_with_its_reading() -> None:
    error = send_error(M, 190, 460, "Error validating access token")
    assert (error.code, error.subcode, error.title) == (190, 460, "Error validating access token")
    assert error.words == "The token's owner has changed their password."
    assert send_error(M, 190, None, "").subcode == 0


def test_a_broken_connection_proves_something_only_before_the_first_byte() -> None:
    before, after = connection_error("refused", True), connection_error("reset", False)
    assert (before.error_class, before.proves_not_accepted, before.title) == (TRANSIENT, True, "refused")
    assert (after.error_class, after.proves_not_accepted, after.title) == (AMBIGUOUS, False, "reset")


def test_a_message_that_could_not_be_made_never_left() -> None:
    error = content_error(RenderError("text_empty", "text is empty for this recipient.", "text"))
    assert (error.error_class, error.scope, error.proves_not_accepted) == (PERMANENT, MESSAGE, True)
    assert (error.title, error.words) == ("text_empty", "text is empty for this recipient.")
