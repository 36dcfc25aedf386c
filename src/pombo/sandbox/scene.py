"""One act of one person, with all that a webhook must tell of it, and what the webhook's builder gives back."""

from typing import Any, Literal, NamedTuple

from pombo.sandbox.accounts import Channel
from pombo.sandbox.acts import Act
from pombo.sandbox.media import Media
from pombo.sandbox.people import Person
from pombo.sandbox.threads import Choice


class BadActError(Exception):
    """The channel has no such thing; its text is the answer."""


class Scene(NamedTuple):
    channel: Channel
    person_id: str
    person: Person
    act: Act
    new_id: str
    """Of the message, if the act is one."""
    at: float
    about: str
    """The message that it is about; empty where there is none."""
    quoted: str | None
    choice: Choice | None
    media: Media | None
    media_url: str


class Told(NamedTuple):
    """`item` is the Messenger event or the WhatsApp change's value; `said` the words that stay in the thread."""

    field: str
    item: dict[str, Any]
    is_message: bool = False
    said: str | None = None
    holder: Literal["messaging", "standby", "changes"] | None = None
