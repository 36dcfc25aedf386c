import pytest
from hypothesis import given
from hypothesis import strategies as st

from pombo.campaigns.surrogates import SurrogateCheck


def _passes(data: bytes, piece: int) -> bool:
    check = SurrogateCheck()
    pieces = [data[start : start + piece] for start in range(0, len(data), piece)]
    return all(check.passes(each) for each in pieces) and check.passed()


@pytest.mark.parametrize("piece", range(1, 16))
@pytest.mark.parametrize(
    ("data", "fine"),
    [
        (rb"\ud83d\ude00", True),
        (rb"a\uD83D\uDE00b\u00e9\n\\", True),
        (rb"\\ud83d", True),
        (rb"\\\\ude00", True),
        (rb"\u0041", True),
        (rb"\ud83d", False),
        (rb"\ud83dx", False),
        (rb"\ud83d\n", False),
        (rb"\ud83d\ud83d\ude00", False),
        (rb"\ude00", False),
        (rb"\ud83d\ude00\ude00", False),
        (rb"\\\ud83d", False),
    ],
)
def test_half_pairs_are_found_however_the_text_is_cut(data: bytes, fine: bool, piece: int) -> None:
    assert _passes(data, piece) is fine


@given(
    st.lists(st.sampled_from([rb"\ud83d", rb"\ude00", rb"\\", rb"\n", rb"\u00e9", b"x", "é".encode()])),
    st.integers(1, 9),
)
def test_the_result_is_that_of_decoding_each_escape(parts: list[bytes], piece: int) -> None:
    high = False
    fine = True
    for part in parts:
        if part == rb"\ude00":
            fine, high = fine and high, False
        else:
            fine, high = fine and not high, part == rb"\ud83d"
    assert _passes(b"".join(parts), piece) is (fine and not high)
