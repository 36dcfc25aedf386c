import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pombo.domain.channels import ChannelKind
from pombo.domain.outcomes import Accepted, ErrorClass, Failed, Outcome, Retry, Uncertain
from pombo.meta.answers import read_answer, read_usage

MESSENGER, WHATSAPP = ChannelKind.MESSENGER, ChannelKind.WHATSAPP


def refusal(code: object, subcode: object = None, **others: object) -> bytes:
    error = {"message": "(#x) No.", "type": "OAuthException", "code": code, "fbtrace_id": "BLBz/WZt8dN", **others}
    return json.dumps({"error": error | ({} if subcode is None else {"error_subcode": subcode})}).encode()


@pytest.mark.parametrize(
    ("kind", "body", "provider_id"),
    [
        (MESSENGER, b'{"recipient_id":"4711","message_id":"m_AG5Hz2U"}', "m_AG5Hz2U"),
        (MESSENGER, b'{"message_id":"m_1","attachment_id":"5","recipient_id":null}', "m_1"),
        (
            WHATSAPP,
            b'{"messaging_product":"whatsapp","contacts":[{"input":"+16505551234","wa_id":"16505551234"}],'
            b'"messages":[{"id":"wamid.HBgL","message_status":"accepted"}]}',
            "wamid.HBgL",
        ),
        (WHATSAPP, b'{"messages":[{"id":"wamid.1","message_status":"held_for_quality_assessment"}]}', "wamid.1"),
    ],
)
def test_an_answer_with_an_id_is_accepted(kind: ChannelKind, body: bytes, provider_id: str) -> None:
    assert read_answer(kind, 200, body) == Accepted(provider_id)


@pytest.mark.parametrize("kind", ChannelKind)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"OK",
        b"{}",
        b"[]",
        b"null",
        b'{"message_id":""}',
        b'{"message_id":5}',
        b'{"message_id":"a\\u0000b"}',
        b'{"message_id":"m_1"',
        b'{"message_id":"\xff"}',
        b'{"messages":[]}',
        b'{"messages":[{}]}',
        b'{"messages":[{"id":""}]}',
        b'{"messages":{"id":"wamid.1"}}',
        b'{"success":true}',
        b'{"recipient_id":"4711"}',
        b'{"message_id":"%s","messages":[{"id":"%s"}]}' % (b"m" * 601, b"m" * 601),
        b'{"error":"no"}',
        b'{"error":{"message":"no code"}}',
        b"[" * 10_000,
    ],
)
def test_a_200_that_cannot_be_read_is_uncertain(kind: ChannelKind, body: bytes) -> None:
    outcome = read_answer(kind, 200, body)
    assert isinstance(outcome, Uncertain)
    assert outcome.error.title == "HTTP 200 without an answer that can be read"


@pytest.mark.parametrize("status", [200, 400, 403, 429, 500, 503])
@pytest.mark.parametrize(
    ("kind", "code", "subcode", "outcome", "error_class"),
    [
        (MESSENGER, 613, None, Retry, ErrorClass.RATE_LIMIT),
        (MESSENGER, 190, 463, Retry, ErrorClass.AUTH),
        (MESSENGER, 10, 1893063, Retry, ErrorClass.POLICY),
        (MESSENGER, 10, 2018278, Failed, ErrorClass.PERMANENT),
        (MESSENGER, 100, 2018001, Failed, ErrorClass.PERMANENT),
        (MESSENGER, 1, 1357046, Uncertain, ErrorClass.AMBIGUOUS),
        (MESSENGER, 2, None, Uncertain, ErrorClass.AMBIGUOUS),
        (MESSENGER, 1, 99, Uncertain, ErrorClass.AUTH),
        (WHATSAPP, 130429, None, Retry, ErrorClass.RATE_LIMIT),
        (WHATSAPP, 131057, None, Retry, ErrorClass.TRANSIENT),
        (WHATSAPP, 131026, None, Failed, ErrorClass.PERMANENT),
        (WHATSAPP, 131000, None, Uncertain, ErrorClass.AMBIGUOUS),
        (WHATSAPP, 424242, None, Uncertain, ErrorClass.AMBIGUOUS),
    ],
)
def test_the_code_decides_and_not_the_http_status(
    status: int, kind: ChannelKind, code: int, subcode: int | None, outcome: type[Outcome], error_class: ErrorClass
) -> None:
    read = read_answer(kind, status, refusal(code, subcode, is_transient=True))
    assert type(read) is outcome
    assert not isinstance(read, Accepted)
    assert (read.error.code, read.error.subcode, read.error.error_class) == (code, subcode or 0, error_class)
    assert read.error.title == "(#x) No."


@pytest.mark.parametrize(
    "body", [b"", b"<html>Bad gateway</html>", b'{"message_id":"m_1"}', b"null", b'{"error":null}']
)
@pytest.mark.parametrize("status", [100, 201, 302, 400, 404, 500, 502])
def test_without_a_readable_error_nothing_is_certain(status: int, body: bytes) -> None:
    outcome = read_answer(MESSENGER, status, body)
    assert isinstance(outcome, Uncertain)
    assert outcome.error.title == f"HTTP {status} without an answer that can be read"


@pytest.mark.parametrize("code", ["190", 190.5, 2**31, -(2**31) - 1, 10**30, None, True])
def test_a_code_that_is_none_is_uncertain(code: object) -> None:
    assert isinstance(read_answer(MESSENGER, 400, refusal(code)), Uncertain)


def test_a_title_is_fit_to_be_stored() -> None:
    outcome = read_answer(MESSENGER, 400, refusal(100, message="a\x00b\nc" + "x" * 1000))
    assert isinstance(outcome, Failed)
    assert outcome.error.title == "abc" + "x" * 297


answers = st.recursive(
    st.sampled_from([None, True, 1, 190, -1, 1.5, 10**40, "", "wamid.1"]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["message_id", "messages", "id", "error", "code", "error_subcode", "message"]),
            inner,
            max_size=4,
        ),
    ),
)


@given(kind=st.sampled_from(ChannelKind), status=st.sampled_from([200, 400, 500]), answer=answers)
def test_no_answer_raises(kind: ChannelKind, status: int, answer: object) -> None:
    read_answer(kind, status, json.dumps(answer).encode())


@given(kind=st.sampled_from(ChannelKind), status=st.sampled_from([200, 400, 500]), body=st.binary(max_size=60))
def test_no_bytes_raise(kind: ChannelKind, status: int, body: bytes) -> None:
    assert isinstance(read_answer(kind, status, body), Uncertain)


@pytest.mark.parametrize(
    ("headers", "percent"),
    [
        ({}, None),
        ({"x-app-usage": '{"call_count":28,"total_time":25,"total_cputime":31}'}, 31),
        ({"x-app-usage": "{}"}, 0),
        (
            {
                "x-app-usage": '{"call_count":28,"total_time":25,"total_cputime":25}',
                "x-business-use-case-usage": '{"1":[{"type":"pages","call_count":95,"total_cputime":20,"total_time":20,'
                '"estimated_time_to_regain_access":0},{"type":"messenger","call_count":7}],"2":[{"total_time":96.5}]}',
            },
            96.5,
        ),
        ({"x-business-use-case-usage": '{"1":[]}'}, None),
        ({"x-app-usage": "not json"}, None),
        ({"x-app-usage": '{"call_count":"28"}'}, None),
        ({"x-app-usage": '{"call_count":28}', "x-business-use-case-usage": "[]"}, 28),
    ],
)
def test_usage_is_that_of_the_limit_nearest_to_its_end(headers: dict[str, str], percent: float | None) -> None:
    assert read_usage(headers) == percent
