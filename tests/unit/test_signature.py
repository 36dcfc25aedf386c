import pytest

from pombo.meta.signature import sign, verify

OLD, NEW = b"the old secret", b"the new secret"
BODY = rb'{"object":"page","entry":[{"id":"1","text":"\u00e4\u00f6\u00e5"}]}'


def test_a_signature_is_that_of_rfc_4231() -> None:
    """Test case 2 of the RFC."""
    digest = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert sign(b"Jefe", b"what do ya want for nothing?") == f"sha256={digest}"


def test_the_secret_that_signed_is_named() -> None:
    assert verify([OLD], sign(OLD, BODY), BODY) == 0
    assert verify([NEW, OLD], sign(OLD, BODY), BODY) == 1


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "sha256=",
        sign(OLD, BODY).removeprefix("sha256="),
        sign(OLD, BODY).replace("sha256", "sha1"),
        sign(OLD, BODY)[:-1],
        sign(OLD, BODY) + "0",
        sign(OLD, BODY).upper(),
        sign(OLD, BODY + b" "),
        sign(b"", BODY),
        "sha256=é",
    ],
)
def test_any_other_header_verifies_nothing(header: str | None) -> None:
    assert verify([NEW, OLD, b""], header, BODY) is None


def test_without_a_secret_nothing_verifies() -> None:
    assert verify([], sign(OLD, BODY), BODY) is None


def test_a_body_written_anew_does_not_verify() -> None:
    assert verify([OLD], sign(OLD, BODY), BODY.decode("unicode-escape").encode()) is None
