"""People's events become contacts, conversations and their messages: the use case behind every inbox.

One transaction, under the locks of the channels concerned, in which each step finds its rows as they are by then:

    who it is (made, merged) ─▶ what is new in the thread ─▶ edits, revocations, reactions shown
    ─▶ conversations brought up to date ─▶ signals ─▶ events for browsers

Which campaigns they answer is found afterwards (`answering`), so that no browser waits for it.

Nothing depends on the order of events or on how often they come. A message is there once by Meta's id; a change holds
if it is the latest; times and names are maxima by Meta's clock; counters come from rows that were new. What needs its
message and comes first is kept (`message_changes`). Events for browsers are written for rows that changed.
"""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from pombo.domain.channels import ChannelKind
from pombo.domain.events import MessageChange, PersonSignal, Preference, SamePerson, ThreadMessage
from pombo.domain.opt_out import OptWords
from pombo.domain.phones import is_group
from pombo.ingest.gathering import PersonEvent, Place
from pombo.ingest.people import sightings
from pombo.store import (
    contact_profiles,
    inbox_events,
    inbox_people,
    inbox_threads,
    media,
    message_changes,
    preferences,
    signals,
)
from pombo.store.database import Connection
from pombo.store.inbox_people import Profile
from pombo.store.inbox_threads import NewMessage
from pombo.store.message_changes import Change
from pombo.store.preferences import Wish
from pombo.store.signals import Signal

Heard = tuple[Place, PersonEvent, int]
"""An event with its contact."""

_encode = msgspec.json.Encoder(order="sorted").encode

# Of an emoji in a signal's key: no index holds a key of more than 2,700 bytes.
_EMOJI = 64


class Shown(NamedTuple):
    of_apps: set[tuple[int, int, str]]
    """(workspace, channel, Meta's id) of what other programs sent, new or not."""
    answering: set[tuple[int, int, int]]
    """(workspace, channel, contact) who may have answered a campaign: by what they said, or as whom they are known."""
    inserted: int = 0
    """How many messages were new."""


async def converse(
    connection: Connection,
    said: Sequence[tuple[Place, PersonEvent]],
    words: OptWords,
    *,
    news_since: datetime | None = None,
) -> Shown:
    """In a transaction that is `KEPT_AND_REPEATABLE` and has locked the channels (`inbox_people.locking`); its caller
    then sees to what follows.

    Of a channel's past, only what was written at `news_since` or later is news: the rest leaves nothing unread, opens
    no conversation again and signals nobody.
    """
    people = await inbox_people.resolve(connection, sightings(said))
    heard: list[Heard] = [
        (place, event, contact) for (place, event), contact in zip(said, people.contacts, strict=True)
    ]
    profiles = _profiles(heard)
    noted = await inbox_people.note_profiles(connection, profiles)
    changed = people.changed | noted.keys()
    decided = await preferences.note(connection, _wishes(heard, words))
    await preferences.suppress(connection, decided | people.changed | people.identified)
    changed |= decided

    conversations = await inbox_threads.open_conversations(
        connection, {(*place, contact) for place, event, contact in heard if isinstance(event, ThreadMessage)}
    )
    inserted = await inbox_threads.insert_messages(connection, _messages(heard, conversations))
    await media.want_attachments(connection, [(row.workspace_id, row.id) for row in inserted if row.has_attachments])
    # Whose row did not change had it changed, and was asked for, by what came before.
    settled = {(one.workspace_id, one.contact_id) for one in profiles} - {key for key in noted if noted[key]}
    await contact_profiles.want(connection, _nameless(heard) - settled)
    await message_changes.keep(connection, _changes(heard))

    news = [row for row in inserted if news_since is None or row.at >= news_since]
    touched = {(row.workspace_id, row.conversation_id) for row in inserted}
    targets = {(*place, event.provider_id) for place, event, _ in heard if isinstance(event, MessageChange)}
    targets |= {(row.workspace_id, row.channel_id, row.provider_id) for row in inserted if row.has_changes}
    shown = await message_changes.show(connection, targets)

    touched |= {(one.workspace_id, one.conversation_id) for one in shown}
    channel_of = {(place.workspace_id, contact): place.channel_id for place, _, contact in heard}
    channel_of |= {(workspace, contact): channel for workspace, channel, contact in people.former_holders}
    others = {
        (w, channel_of[w, contact], contact)
        for w, contact in changed - conversations.keys()
        if (w, contact) in channel_of
    }
    conversations |= await inbox_threads.find_conversations(connection, others)
    touched |= {(key[0], conversations[key]) for key in changed & conversations.keys()}
    written = [row for row in news if row.author == "contact"]
    await inbox_threads.touch(connection, touched, written)
    if news_since is not None:
        unread = {(row.workspace_id, row.conversation_id) for row in written}
        await inbox_threads.close_old(connection, touched - unread)
    told = {(row.workspace_id, row.channel_id, row.provider_id) for row in news}
    await signals.append(
        connection,
        _signals(
            (place, event, contact)
            for place, event, contact in heard
            if not isinstance(event, ThreadMessage) or (*place, event.provider_id) in told
        ),
    )

    created = [(row.workspace_id, row.id, row.conversation_id) for row in inserted]
    updated = {(one.workspace_id, one.id) for one in shown} - {(workspace, id) for workspace, id, _ in created}
    await inbox_events.append(connection, created=created, updated=sorted(updated), conversations=sorted(touched))
    return Shown(
        {
            (*place, event.provider_id)
            for place, event, _ in heard
            if isinstance(event, ThreadMessage) and event.author == "app"
        },
        {(*place, contact) for place, event, contact in heard if _may_answer(event)},
        len(inserted),
    )


def rows_of(heard: Sequence[Heard], words: OptWords) -> list[tuple[object, ...]]:
    """All that is handed to the store for these, for whoever wants to see that nothing in them is odd."""
    conversations = {(place.workspace_id, contact): contact for place, _, contact in heard}
    made = (_profiles(heard), _wishes(heard, words), _messages(heard, conversations), _changes(heard), _signals(heard))
    return [tuple(row) for rows in made for row in rows]


def _may_answer(event: PersonEvent) -> bool:
    """It tells what a person said, or by which names they are one: another may be the one that was written to."""
    said = isinstance(event, ThreadMessage) and event.author == "contact"
    return said or isinstance(event, SamePerson) or bool(event.person.others)


def _nameless(heard: Iterable[Heard]) -> set[tuple[int, int]]:
    """Of Pages, whose webhooks bring no names."""
    return {
        (place.workspace_id, contact)
        for place, event, contact in heard
        if event.kind is ChannelKind.MESSENGER
        and event.person.name is None
        and (isinstance(event, ThreadMessage) or _opens_window(event))
    }


def _profiles(heard: Iterable[Heard]) -> list[Profile]:
    """Of each contact the name that is latest by Meta's clock, and the last thing that opened the window."""
    profiles: dict[tuple[int, int], Profile] = {}
    for place, event, contact in heard:
        key = place.workspace_id, contact
        inbound = event.at if _opens_window(event) else None
        named = event.at if event.person.name else None
        new = Profile(*key, named, event.person.name, event.person.username if named else None, inbound)
        old = profiles.get(key)
        if old is not None:
            latest = max((old, new), key=_when_named)
            new = latest._replace(inbound_at=max(filter(None, (old.inbound_at, new.inbound_at)), default=None))
        profiles[key] = new
    return [profile for _, profile in sorted(profiles.items()) if profile.named_at or profile.inbound_at]


def _when_named(profile: Profile) -> tuple[float, str]:
    return profile.named_at.timestamp() if profile.named_at else float("-inf"), profile.name or ""


def _opens_window(event: PersonEvent) -> bool:
    match event:
        case ThreadMessage() | PersonSignal():
            return event.opens_window
        case MessageChange():
            return event.change == "reaction" and event.by == "contact" and event.text is not None
    return False


def _wishes(heard: Iterable[Heard], words: OptWords) -> list[Wish]:
    wishes = []
    for place, event, contact in heard:
        wish: bool | None = None
        if isinstance(event, Preference):
            wish = event.is_welcome
        elif (
            isinstance(event, ThreadMessage)
            and event.author == "contact"
            # One of its members does not speak for a group.
            and not is_group(event.kind, event.person.address)
        ):
            wish = words.wish(event.text)
        if wish is not None:
            wishes.append(Wish(place.workspace_id, contact, event.at, wish))
    return wishes


def _messages(heard: Iterable[Heard], conversations: dict[tuple[int, int], int]) -> list[NewMessage]:
    return [
        NewMessage(
            place.workspace_id,
            conversations[place.workspace_id, contact],
            place.channel_id,
            event.provider_id,
            event.author,
            event.type,
            event.text,
            _json(event.content),
            event.reply_to,
            event.at,
        )
        for place, event, contact in heard
        if isinstance(event, ThreadMessage)
    ]


def _changes(heard: Iterable[Heard]) -> list[Change]:
    return [
        Change(
            *place, event.provider_id, event.change, event.by, event.at, event.number, event.text, _json(event.content)
        )
        for place, event, _ in heard
        if isinstance(event, MessageChange)
    ]


def _signals(heard: Iterable[Heard]) -> list[Signal]:
    made = []
    for place, event, contact in heard:
        signal = _signal(event)
        if signal is not None:
            kind, key, data = signal
            made.append(Signal(*place, contact, kind, key, _json(data), event.at))
    return made


def _signal(event: PersonEvent) -> tuple[str, str, dict[str, object]] | None:
    """Its kind, its key, and what it says."""
    match event:
        case ThreadMessage(author="contact"):
            kind = event.type if event.type in ("postback", "order") else "message"
            data: dict[str, object] = {"type": event.type, "text": event.text, "content": event.content}
            return kind, event.provider_id, data
        case ThreadMessage(author="system"):
            return event.type, event.provider_id, event.content
        case MessageChange(change="reaction", by="contact"):
            key = f"{event.provider_id} {(event.text or '')[:_EMOJI]} {_stamp(event.at)}"
            return "reaction", key, {"providerId": event.provider_id, "emoji": event.text}
        case Preference():
            return "preference", f"{event.person.address} {_stamp(event.at)}", {"isWelcome": event.is_welcome}
        case PersonSignal():
            digest = hashlib.sha256(_encode(event.data)).hexdigest()[:16]
            return event.name, f"{event.person.address} {_stamp(event.at)} {digest}", event.data
    return None


def _stamp(at: datetime) -> str:
    return f"{at.timestamp():.3f}"


def _json(data: object) -> str:
    return _encode(data).decode()
