"""Seeded randomness that does not depend on the order in which requests arrive.

A decision is a hash of the seed and of what it is about (channel, recipient, send key), so a run with other timing
still gives the same messages the same errors and the same fates.
"""

from hashlib import blake2b
from struct import unpack

_UNIT_32 = 1 / 2**32
_UNIT_64 = 1 / 2**64


class Chance:
    def __init__(self, seed: int) -> None:
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Takes any integer of up to 64 bits."""
        self.seed = seed
        self._key = seed.to_bytes(8, "big", signed=True)

    def roll(self, about: str) -> float:
        """A number in [0, 1), always the same for the same text."""
        digest = blake2b(about.encode("utf-8", "surrogatepass"), digest_size=8, key=self._key).digest()
        return int.from_bytes(digest, "big") * _UNIT_64

    def rolls(self, about: str) -> tuple[float, float, float, float]:
        """Four independent numbers for the price of one hash."""
        digest = blake2b(about.encode("utf-8", "surrogatepass"), digest_size=16, key=self._key).digest()
        first, second, third, fourth = unpack(">IIII", digest)
        return first * _UNIT_32, second * _UNIT_32, third * _UNIT_32, fourth * _UNIT_32
