"""The people at the other end. Nobody needs to be registered: whoever is not is reachable, in a window by default."""

from hashlib import blake2b
from typing import Literal

import msgspec

WINDOW = 24 * 3600.0
"""The standard window after a person's last message, in seconds."""
HUMAN_AGENT_WINDOW = 7 * 24 * 3600.0
"""How long the HUMAN_AGENT tag reaches on Messenger."""

Standing = Literal["reachable", "unknown", "blocked", "opted_out"]

_FIRST_NAMES = ("Ana", "Bruno", "Carla", "Davi", "Elena", "Fábio", "Giulia", "Hugo", "Inês", "João", "Karin", "Luís")
_LAST_NAMES = ("Almeida", "Barros", "Costa", "Duarte", "Esteves", "Ferreira", "Gomes", "Lima", "Moreira", "Nunes")


class Person(msgspec.Struct, frozen=True, gc=False):
    """`unknown`: nobody on Messenger or WhatsApp; `blocked`: blocks this channel; `opted_out`: stopped marketing.

    `last_inbound` is in seconds since the epoch, None where the channel's window policy decides. `name` and `user_id`
    (WhatsApp's business-scoped one) are made up where they are None. Of whoever hides the number, WhatsApp tells the
    user id only.
    """

    standing: Standing = "reachable"
    last_inbound: float | None = None
    name: str | None = None
    user_id: str | None = None
    hides_number: bool = False


NOBODY_SPECIAL = Person()


def in_window(person: Person, now: float, *, policy: Literal["open", "closed"], length: float = WINDOW) -> bool:
    if person.last_inbound is None:
        return policy == "open"
    return now - person.last_inbound < length


def name_of(person_id: str, person: Person) -> tuple[str, str]:
    """First and last name; made-up ones are always the same for the same id."""
    if person.name is not None:
        first, _, last = person.name.partition(" ")
        return first, last
    number = _number(person_id)
    return _FIRST_NAMES[number % len(_FIRST_NAMES)], _LAST_NAMES[number // 97 % len(_LAST_NAMES)]


def full_name(person_id: str, person: Person) -> str:
    return " ".join(name_of(person_id, person)).strip()


def user_id_of(person_id: str, person: Person) -> str:
    """WhatsApp's business-scoped user id."""
    if "." in person_id:
        return person_id
    return person.user_id or f"BR.{_number(person_id):020}"


def _number(person_id: str) -> int:
    return int.from_bytes(blake2b(person_id.encode(), digest_size=8).digest(), "big")
