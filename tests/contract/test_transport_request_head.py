import pytest

from pombo.meta.transport import RequestHead


def test_a_request_is_its_head_its_length_and_its_body() -> None:
    head = RequestHead("POST", "/v26.0/42/messages?x=1", "graph.example", {"Authorization": "Bearer secret"})

    assert head.with_body("é".encode()) == (
        b"POST /v26.0/42/messages?x=1 HTTP/1.1\r\nHost: graph.example\r\nAccept-Encoding: identity\r\n"
        b"Authorization: Bearer secret\r\nContent-Length: 2\r\n\r\n\xc3\xa9"
    )


def test_a_request_without_body_announces_none() -> None:
    head = RequestHead("GET", "/v26.0/me", "graph.example")

    assert head.bodiless == b"GET /v26.0/me HTTP/1.1\r\nHost: graph.example\r\nAccept-Encoding: identity\r\n\r\n"


def test_an_empty_body_has_a_length_of_nothing() -> None:
    assert RequestHead("POST", "/", "h").with_body(b"").endswith(b"\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize("method", ["", "PO ST", "POST\r\n", "HEAD"])
def test_a_method_that_cannot_be_sent_is_refused(method: str) -> None:
    with pytest.raises(ValueError, match="method"):
        RequestHead(method, "/", "h")


@pytest.mark.parametrize("target", ["", "v26.0", "/a b", "/a\r\nX: y", "/é", "http://other/"])
def test_a_target_that_could_leave_its_line_is_refused(target: str) -> None:
    with pytest.raises(ValueError, match="target"):
        RequestHead("GET", target, "h")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X", "s3cret\r\nY: b"),
        ("X", "s3cret\0"),
        ("X", "s3crét"),
        ("X:", "s3cret"),
        ("", "s3cret"),
        ("X Y", "s3cret"),
        ("X\n", "s3cret"),
    ],
)
def test_a_header_that_could_leave_its_line_is_refused_without_showing_its_value(name: str, value: str) -> None:
    with pytest.raises(ValueError, match="not a valid header") as refusal:
        RequestHead("GET", "/", "h", {name: value})
    assert "s3c" not in str(refusal.value)


@pytest.mark.parametrize("host", ["a\r\nX: y", "a\n"])
def test_a_host_that_could_leave_its_line_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="Host"):
        RequestHead("GET", "/", host)


@pytest.mark.parametrize("name", ["Host", "content-length", "Transfer-Encoding", "Connection", "accept-encoding"])
def test_headers_that_belong_to_the_transport_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="set by the transport"):
        RequestHead("POST", "/", "h", {name: "1"})
