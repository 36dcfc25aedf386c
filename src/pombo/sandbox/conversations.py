"""The Conversations API of Pages: the list of threads, one thread, one message. Two calls a second a Page."""

import base64
import binascii
from datetime import UTC, datetime
from typing import Any

from pombo.sandbox.accounts import Channel
from pombo.sandbox.errors import MetaError
from pombo.sandbox.field_tree import Tree, Wanted, parse_fields
from pombo.sandbox.media import Media
from pombo.sandbox.people import full_name, in_window
from pombo.sandbox.reply import Reply, json_reply
from pombo.sandbox.threads import Thread, ThreadMessage
from pombo.sandbox.world import World

_PAGE_SIZE = 25
# Meta does not say how many; a hundred is what clients ask for without complaint.
_MAX_PAGE_SIZE = 100
_DEFAULT_THREAD = parse_fields("id,updated_time")
_DEFAULT_MESSAGE = parse_fields("id,created_time")


def list_threads(world: World, channel: Channel, query: dict[str, str]) -> Reply:
    """The newest first. A cursor names the thread after which a page begins, and does not live for long."""
    now = _count_call(world, channel)
    if query.get("platform", "messenger") != "messenger":
        return json_reply({"data": []})
    threads = [thread for thread in channel.threads.values() if thread.messages]
    if (person_id := query.get("user_id")) is not None:
        threads = [thread for thread in threads if thread.person_id == person_id]
    threads.sort(key=_position, reverse=True)
    if after := query.get("after"):
        mark = _read_cursor(after, now, channel.settings.cursor_life_s)
        threads = [thread for thread in threads if _position(thread) < mark]
    size = _limit(query.get("limit"))
    wanted = parse_fields(query["fields"]) if query.get("fields") else _DEFAULT_THREAD
    page = threads[:size]
    _check_amount(channel, page, wanted)
    answer: dict[str, Any] = {"data": [_thread(world, channel, thread, wanted) for thread in page]}
    if page:
        cursors = {"before": _cursor(page[0], now), "after": _cursor(page[-1], now)}
        answer["paging"] = {"cursors": cursors}
        if len(threads) > size:
            base = world.urls.base_url
            answer["paging"]["next"] = f"{base}/{channel.id}/conversations?limit={size}&after={cursors['after']}"
    return json_reply(answer)


def read_thread(world: World, channel: Channel, thread: Thread, edge: str, query: dict[str, str]) -> Reply:
    """The thread with the wanted `fields`, or its edge `messages`."""
    _count_call(world, channel)
    wanted = parse_fields(query["fields"]) if query.get("fields") else None
    if edge == "messages":
        return json_reply(_messages(world, channel, thread, Wanted(query, wanted or _DEFAULT_MESSAGE)))
    return json_reply(_thread(world, channel, thread, wanted or _DEFAULT_THREAD))


def read_message(
    world: World, channel: Channel, thread: Thread, message: ThreadMessage, query: dict[str, str]
) -> Reply:
    _count_call(world, channel)
    if message not in thread.readable():
        raise MetaError("messenger", 9000001)
    wanted = parse_fields(query["fields"]) if query.get("fields") else _DEFAULT_MESSAGE
    return json_reply(_message(world, channel, thread, message, wanted))


def _count_call(world: World, channel: Channel) -> float:
    now = world.clock.now()
    channel.book.conversation_calls_at.append(now)
    if not channel.conversation_calls.take(now):
        raise MetaError("messenger", 613)
    return now


def _check_amount(channel: Channel, page: list[Thread], wanted: Tree) -> None:
    most = channel.settings.most_messages_a_call
    if most is not None and "messages" in wanted:
        size = _limit(wanted["messages"].arguments.get("limit"))
        if sum(min(size, len(thread.messages)) for thread in page) > most:
            message = "Please reduce the amount of data you're asking for, then retry your request"
            raise MetaError("messenger", 1, message=message, status=500)


def _position(thread: Thread) -> tuple[float, str]:
    return thread.updated, thread.id


def _thread(world: World, channel: Channel, thread: Thread, wanted: Tree) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, asked in wanted.items():
        match name:
            case "link":
                found[name] = f"/{channel.id}/inbox/{thread.id}/"
            case "updated_time":
                found[name] = _time(thread.updated)
            case "unread_count":
                found[name] = thread.unread
            case "message_count":
                found[name] = len(thread.messages)
            case "snippet":
                found[name] = thread.messages[-1].text or "" if thread.messages else ""
            case "participants" | "senders":
                found[name] = {"data": [_person(channel, thread.person_id), _page(channel)]}
            case "can_reply":
                person, policy = channel.person(thread.person_id), channel.settings.window
                found[name] = in_window(person, world.clock.now(), policy=policy)
            case "is_owner":
                found[name] = True
            case "messages":
                found[name] = _messages(world, channel, thread, asked)
    return {**found, "id": thread.id}


def _messages(world: World, channel: Channel, thread: Thread, asked: Wanted) -> dict[str, Any]:
    """All are listed; of those that cannot be read any more only id and time."""
    size = _limit(asked.arguments.get("limit"))
    after = asked.arguments.get("after")
    listed = list(thread.newest_first())
    start = 0
    if after is not None:
        start = next((place + 1 for place, message in enumerate(listed) if message.id == _decode(after)), -1)
        if start < 0:
            raise _bad_cursor()
    page = listed[start : start + size]
    readable = {message.id for message in thread.readable()}
    answer: dict[str, Any] = {
        "data": [
            _message(world, channel, thread, message, asked.fields or _DEFAULT_MESSAGE)
            if message.id in readable
            else _message(world, channel, thread, message, _DEFAULT_MESSAGE)
            for message in page
        ]
    }
    if page:
        answer["paging"] = {"cursors": {"before": _encode(page[0].id), "after": _encode(page[-1].id)}}
        if start + size < len(listed):
            base, mark = world.urls.base_url, _encode(page[-1].id)
            answer["paging"]["next"] = f"{base}/{thread.id}/messages?limit={size}&after={mark}"
    return answer


def _message(world: World, channel: Channel, thread: Thread, message: ThreadMessage, wanted: Tree) -> dict[str, Any]:
    person, page = _person(channel, thread.person_id), _page(channel)
    found: dict[str, Any] = {}
    for name in wanted:
        match name:
            case "created_time":
                found[name] = _time(message.at)
            case "from":
                found[name] = person if message.is_inbound else page
            case "to":
                found[name] = {"data": [page if message.is_inbound else person]}
            case "message":
                found[name] = message.text or ""
            case "attachments" if message.attachments:
                files = [world.media.find(media_id) for media_id in message.attachments]
                found[name] = {"data": [_attachment(world, channel, media) for media in files if media is not None]}
            case "reply_to" if message.reply_to is not None:
                found[name] = {"mid": message.reply_to}
    return {**found, "id": message.id}


def _attachment(world: World, channel: Channel, media: Media) -> dict[str, Any]:
    url = world.urls.of(channel, media)
    told: dict[str, Any] = {
        "id": media.id,
        "mime_type": media.mime_type,
        "name": media.filename,
        "size": len(media.content),
    }
    match media.mime_type.partition("/")[0]:
        case "image":
            told["image_data"] = {"width": 48, "height": 48, "url": url, "preview_url": url, "image_type": 1}
        case "video":
            told["video_data"] = {"width": 48, "height": 48, "length": 1, "url": url, "preview_url": url}
        case _:
            told["file_url"] = url
    return told


def _person(channel: Channel, person_id: str) -> dict[str, str]:
    name = full_name(person_id, channel.person(person_id))
    return {"name": name, "email": f"{person_id}@facebook.com", "id": person_id}


def _page(channel: Channel) -> dict[str, str]:
    return {"name": channel.name, "email": f"{channel.id}@facebook.com", "id": channel.id}


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S+0000")


def _limit(given: str | None) -> int:
    try:
        return min(_MAX_PAGE_SIZE, max(1, int(given or _PAGE_SIZE)))
    except ValueError:
        raise MetaError("messenger", 100, message="(#100) limit must be a number.") from None


def _cursor(thread: Thread, now: float) -> str:
    return _encode(f"{now}:{thread.updated!r}:{thread.id}")


def _read_cursor(cursor: str, now: float, life: float) -> tuple[float, str]:
    try:
        issued, updated, thread_id = _decode(cursor).split(":")
        if now - float(issued) > life:
            raise _bad_cursor()
        return float(updated), thread_id
    except ValueError:
        raise _bad_cursor() from None


def _bad_cursor() -> MetaError:
    return MetaError("messenger", 100, message="(#100) Invalid cursor.")


def _encode(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decode(cursor: str) -> str:
    try:
        return base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise _bad_cursor() from None
