import pytest

from pombo.meta.transport import Answer
from pombo.meta.transport.results import ends_with_connection, final_head

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"


def answer(raw: bytes) -> Answer:
    return Answer(200, b"", False, 0.0, raw)


def test_the_headers_that_matter_are_found_whatever_their_case_and_padding() -> None:
    raw = HEAD + b'X-App-Usage:{"call_count":28}\r\nx-business-use-case-usage: \t{} \r\nRETRY-AFTER: 3\r\n\r\n'

    assert answer(raw).headers == {
        "x-app-usage": '{"call_count":28}',
        "x-business-use-case-usage": "{}",
        "retry-after": "3",
    }


def test_nothing_is_found_where_nothing_is() -> None:
    assert answer(HEAD + b"X-Other: 1\r\n\r\n").headers == {}


def test_of_a_header_that_comes_twice_the_first_counts() -> None:
    assert answer(HEAD + b"Retry-After: 1\r\nRetry-After: 2\r\n\r\n").headers == {"retry-after": "1"}


def test_a_body_cannot_pass_for_a_header() -> None:
    assert answer(HEAD + b"\r\nbody\r\nRetry-After: 1\r\n\r\n").headers == {}


def test_a_header_whose_name_only_ends_alike_is_another_header() -> None:
    assert answer(HEAD + b"Not-Retry-After: 1\r\n\r\n").headers == {}


def test_the_head_of_an_interim_answer_is_not_the_answers() -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nRetry-After: 9\r\n\r\n"

    assert answer(b"\r\n" + interim + b"\r\n" + interim + HEAD + b"Retry-After: 1\r\n\r\n").headers == {
        "retry-after": "1"
    }


@pytest.mark.parametrize(
    "raw", [b"", b"\r\n", HEAD, b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\nH"]
)
def test_an_incomplete_head_is_none(raw: bytes) -> None:
    assert final_head(raw) == b""
    assert not ends_with_connection(raw)


def test_only_an_answer_without_framing_ends_with_its_connection() -> None:
    assert ends_with_connection(b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\nbody\r\nContent-Length: 1\r\n\r\n")
    assert not ends_with_connection(HEAD + b"\r\n")
    assert not ends_with_connection(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
