"""A page of the Conversations API as the events that webhooks would have brought."""

from datetime import datetime
from typing import Any, NamedTuple

from pombo.domain.channels import ChannelKind
from pombo.domain.events import Person, ThreadMessage
from pombo.meta.json_parts import Json, an_id, maybe_id, part, parts, text

_KIND = ChannelKind.MESSENGER
_TIME = "%Y-%m-%dT%H:%M:%S%z"


class HistoryPage(NamedTuple):
    messages: list[ThreadMessage]
    updated: list[datetime | None]
    """When each thread was last written in."""
    after: str | None
    """Of the next page; None on the last."""

    @property
    def reached_at(self) -> datetime | None:
        """Of the thread that was silent for longest."""
        return min(filter(None, self.updated), default=None)

    def count_before(self, at: datetime) -> int:
        """How many of the threads were last written in before that."""
        return sum(updated is None or updated < at for updated in self.updated)


def read_page(page_id: str, said: dict[str, Any]) -> HistoryPage:
    """`page_id` is Meta's id of the Page. What cannot be read of a thread is left out."""
    messages: list[ThreadMessage] = []
    updated: list[datetime | None] = []
    for thread in parts(said, "data"):
        updated.append(_moment(thread.get("updated_time")))
        person = _person(page_id, thread)
        if person is not None:
            found = (_message(page_id, person, one) for one in parts(part(thread, "messages"), "data"))
            messages += [message for message in found if message is not None]
    paging = part(said, "paging")
    after = text(part(paging, "cursors"), "after") if text(paging, "next") else None
    return HistoryPage(messages, updated, after)


def _person(page_id: str, thread: Json) -> Person | None:
    for participant in parts(part(thread, "participants"), "data"):
        if (found := maybe_id(participant.get("id"))) is not None and found != page_id:
            return Person(found, name=text(participant, "name"))
    return None


def _message(page_id: str, person: Person, message: Json) -> ThreadMessage | None:
    """None for those of which Meta gives no more than that they exist."""
    at = _moment(message.get("created_time"))
    sender = text(part(message, "from"), "id")
    if at is None or sender is None:
        return None
    try:
        mid = an_id(message.get("id"))
    except ValueError:
        return None
    words = text(message, "message") or None
    attachments = [_attachment(one) for one in parts(part(message, "attachments"), "data")]
    kind = attachments[0]["type"] if attachments else "text" if words is not None else "unsupported"
    content = {"attachments": attachments} if attachments else {}
    own = sender == page_id
    return ThreadMessage(
        _KIND, page_id, mid, person, at, "app" if own else "contact", kind, words, content, None, opens_window=not own
    )


def _attachment(given: Json) -> Json:
    """As the webhook's attachments are kept; `type` by the kind of file."""
    mime_type = text(given, "mime_type") or ""
    kind = mime_type.partition("/")[0]
    shown: Json = {"type": kind if kind in ("image", "video", "audio") else "file"}
    url = text(part(given, "image_data"), "url") or text(part(given, "video_data"), "url") or text(given, "file_url")
    for name, value in (("url", url), ("mimeType", mime_type or None), ("fileName", text(given, "name"))):
        if value is not None:
            shown[name] = value
    return shown


def _moment(given: object) -> datetime | None:
    try:
        return datetime.strptime(given, _TIME) if isinstance(given, str) else None  # noqa: DTZ007  (the format has %z)
    except ValueError:
        return None
