"""Finds half surrogate pairs in JSON as it streams by: the parser would turn each into a question mark, unseen."""

import re

_HEX = rb"[0-9a-fA-F]"
_HIGH, _LOW = rb"[dD][89abAB]" + _HEX * 2, rb"[dD][c-fC-F]" + _HEX * 2
# Everything but a half pair, as far as it goes: other bytes, other escapes, whole pairs.
_FINE = re.compile(
    rb"(?:[^\\]|\\[^u]|\\u(?![dD][89a-fA-F])" + _HEX + rb"{4}|\\u" + _HIGH + rb"\\u" + _LOW + rb")*+", re.DOTALL
)
# The longest thing that may be cut in two by the end of a piece: a pair.
_PAIR = len(rb"\ud83d\ude00")


class SurrogateCheck:
    def __init__(self) -> None:
        self._carried = b""

    def passes(self, data: bytes) -> bool:
        """Whether `data`, after all that came before, is free of half pairs. What its end cuts in two is told next."""
        if not self._carried and b"\\" not in data:
            return True
        data = self._carried + data
        match = _FINE.match(data)
        assert match is not None
        self._carried = data[match.end() :]
        return len(self._carried) < _PAIR

    def passed(self) -> bool:
        """Whether all of it was, now that no more comes."""
        return not self._carried
