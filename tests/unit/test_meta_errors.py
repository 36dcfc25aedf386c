import pytest

from pombo.domain.channels import ChannelKind
from pombo.domain.content import RenderError
from pombo.domain.outcomes import ErrorClass, ErrorScope
from pombo.meta.errors import all_rules, connection_error, content_error, find_rule, send_error

M, W = ChannelKind.MESSENGER, ChannelKind.WHATSAPP

RATE_LIMIT, AUTH, PERMANENT = ErrorClass.RATE_LIMIT, ErrorClass.AUTH, ErrorClass.PERMANENT
TRANSIENT, AMBIGUOUS, POLICY = ErrorClass.TRANSIENT, ErrorClass.AMBIGUOUS, ErrorClass.POLICY
MESSAGE, RECIPIENT, TEMPLATE = ErrorScope.MESSAGE, ErrorScope.RECIPIENT, ErrorScope.TEMPLATE
CHANNEL, ACCOUNT, APP = ErrorScope.CHANNEL, ErrorScope.ACCOUNT, ErrorScope.APP

Expected = tuple[ChannelKind, int, int | None, ErrorClass, ErrorScope]

# As Meta documents them, written down apart from the table.
PROVEN: list[Expected] = [
    *((M, code, None, RATE_LIMIT, APP) for code in (4, 17, 341, 80008)),
    (M, 4, 2018022, RATE_LIMIT, APP),
    *((M, code, None, RATE_LIMIT, CHANNEL) for code in (32, 613, 80001, 80002, 80006)),
    (M, 613, 2534040, RATE_LIMIT, CHANNEL),
    (M, 613, 1996, RATE_LIMIT, CHANNEL),
    (M, 9, 2018352, PERMANENT, RECIPIENT),
    (M, 4, 2018354, PERMANENT, RECIPIENT),
    (M, 613, 1893016, PERMANENT, RECIPIENT),
    *((M, 190, subcode, AUTH, CHANNEL) for subcode in (None, 458, 459, 460, 463, 464, 467, 492, 12345)),
    (M, 102, None, AUTH, CHANNEL),
    (M, 3, None, AUTH, APP),
    (M, 10, None, AUTH, CHANNEL),
    (M, 10, 1404170, AUTH, CHANNEL),
    *((M, 200, subcode, AUTH, APP) for subcode in (None, 2018028, 2018027)),
    (M, 200, 2534041, AUTH, CHANNEL),
    *((M, code, None, AUTH, CHANNEL) for code in (201, 230, 299)),
    (M, 100, 33, AUTH, CHANNEL),
    (M, 10, 1893063, POLICY, CHANNEL),
    (M, 368, None, POLICY, CHANNEL),
    (M, 2022, None, POLICY, CHANNEL),
    (M, 100, 2534029, POLICY, CHANNEL),
    (M, 551, None, PERMANENT, RECIPIENT),
    (M, 551, 1545041, PERMANENT, RECIPIENT),
    (M, 200, 1545041, PERMANENT, RECIPIENT),
    *((M, 10, subcode, PERMANENT, RECIPIENT) for subcode in (2018108, 1893015, 2018278, 2018065, 2534022)),
    *((M, 100, subcode, PERMANENT, RECIPIENT) for subcode in (2018001, 2018218, 2534014, 2534037)),
    *((M, code, None, PERMANENT, RECIPIENT) for code in (2018218, 2018300, 2018321, 2018171)),
    *((M, 10, subcode, PERMANENT, RECIPIENT) for subcode in (2018300, 2018321, 2018171)),
    *((M, 100, subcode, PERMANENT, MESSAGE) for subcode in (None, 2018014, 2018008, 2018047, 2018074, 2018109)),
    *((M, 100, subcode, PERMANENT, MESSAGE) for subcode in (2018164, 2018294, 2018320, 2018328, 2018180)),
    (M, 506, None, PERMANENT, MESSAGE),
    (W, 0, None, AUTH, CHANNEL),
    (W, 3, None, AUTH, APP),
    (W, 100, 33, AUTH, CHANNEL),
    *((W, code, None, AUTH, CHANNEL) for code in (10, 33, 190, 200, 299, 131005, 131045)),
    (W, 131031, None, AUTH, ACCOUNT),
    *((W, code, None, AUTH, CHANNEL) for code in (133000, 133005, 133006, 133008, 133009, 133010, 133015)),
    (W, 4, None, RATE_LIMIT, APP),
    *((W, code, None, RATE_LIMIT, ACCOUNT) for code in (80007, 80008)),
    *((W, code, None, RATE_LIMIT, CHANNEL) for code in (130429, 133016, 131208)),
    (W, 130429, 2494055, RATE_LIMIT, CHANNEL),
    (W, 131056, None, RATE_LIMIT, RECIPIENT),
    (W, 132069, None, RATE_LIMIT, TEMPLATE),
    *((W, code, None, POLICY, CHANNEL) for code in (131048, 131037)),
    *((W, code, None, POLICY, ACCOUNT) for code in (368, 131042, 131064, 134011)),
    *((W, code, None, POLICY, TEMPLATE) for code in (131063, 132007, 132015, 132016, 132068)),
    *((W, code, None, PERMANENT, RECIPIENT) for code in (130472, 130497, 131021, 131026, 131030, 131047)),
    *((W, code, None, PERMANENT, RECIPIENT) for code in (131049, 131050, 131062, 137000)),
    *((W, code, None, PERMANENT, RECIPIENT) for code in (131020, 131041, 131059, 131201, 131202, 131204, 131207)),
    *((W, code, None, PERMANENT, RECIPIENT) for code in range(131209, 131216)),
    *((W, code, None, PERMANENT, MESSAGE) for code in (100, 131008, 131009, 131051, 131052, 131053, 131055)),
    *((W, code, None, PERMANENT, MESSAGE) for code in (132005, 132008, 132012, 135000)),
    *((W, code, None, PERMANENT, TEMPLATE) for code in (132000, 132001, 134100, 134102)),
    (W, 131057, None, TRANSIENT, CHANNEL),
    (W, 134101, None, TRANSIENT, TEMPLATE),
]

DOUBTFUL: list[Expected] = [
    *((M, code, None, AMBIGUOUS, CHANNEL) for code in (1, 2, -1, -2)),
    (M, 1, 1357046, AMBIGUOUS, MESSAGE),
    (M, 1200, None, AMBIGUOUS, MESSAGE),
    (M, 1, 99, AUTH, CHANNEL),
    (M, 613, 2018338, RATE_LIMIT, RECIPIENT),
    *((W, code, None, AMBIGUOUS, CHANNEL) for code in (1, 2, 131000, 131016, 133004)),
]

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
