"""The people at the other end come alive: what they do, when it happens, and which webhooks tell of it.

An act happens at its time whether or not anybody is told: then the window opens, the thread grows, a person opts out.
Its webhook is another matter, since faults make it late, double, disordered or lost.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from pombo.sandbox import messenger_acts, whatsapp_acts
from pombo.sandbox.accounts import Channel
from pombo.sandbox.acts import Act
from pombo.sandbox.chance import Chance
from pombo.sandbox.clock import Clock
from pombo.sandbox.faults import INBOUND, Faults
from pombo.sandbox.media import DEFAULT_TYPES, INBOUND_LIFE, Media, MediaShelf, decoded, made_up
from pombo.sandbox.media_urls import MediaUrls
from pombo.sandbox.notices import of_channel
from pombo.sandbox.pump import Planned, Pump
from pombo.sandbox.scene import Scene, Told
from pombo.sandbox.threads import Choice, Thread, ThreadMessage, Threads

_MEDIA_ACTS = frozenset(("image", "video", "audio", "file", "sticker"))
_SILENT = frozenset(("read", "new_number", "opt_out", "other_app", "unsend", "edit", "raw"))
"""Acts that open no window."""


class Customers:
    def __init__(
        self,
        clock: Clock,
        chance: Chance,
        faults: Faults,
        pump: Pump,
        threads: Threads,
        media: MediaShelf,
        urls: MediaUrls,
        last_sent: Callable[[Channel, str], str | None],
    ) -> None:
        """`last_sent` gives the id of the last message that was sent to a person."""
        self._clock = clock
        self._chance = chance
        self._faults = faults
        self._pump = pump
        self._threads = threads
        self._media = media
        self._urls = urls
        self._last_sent = last_sent
        self._acts_of: dict[tuple[str, str], int] = {}

    def perform(
        self, channel: Channel, person_id: str, acts: list[Act], start: float | None = None, about: str = ""
    ) -> list[dict[str, Any]]:
        """Plan the acts, from `start` on; returns type, id and time of each. Raises BadActError, with nothing planned.

        `about` is what chance goes by; without it, it is how many acts of the person there were before.
        """
        now = self._clock.now() if start is None else start
        previous: str | None = None
        scenes = []
        for act in acts:
            now += act.after_ms / 1000
            scene = self._scene(channel, person_id, act, now, previous)
            told = (messenger_acts if channel.kind == "messenger" else whatsapp_acts).tell(scene)
            if told.is_message:
                previous = scene.new_id
            scenes.append((scene, told))
        self._pump.plan(self._planned(channel, person_id, scenes, about))
        return [{"type": scene.act.type, "id": scene.new_id, "at": scene.at} for scene, _ in scenes]

    # --- what an act refers to --------------------------------------------------------------------------------------

    def _scene(self, channel: Channel, person_id: str, act: Act, at: float, previous: str | None) -> Scene:
        thread = channel.threads.get(person_id)
        about = act.message_id or self._fitting(channel, person_id, act, thread, previous) or ""
        quoted = self._last_sent(channel, person_id) if act.reply_to == "last" else act.reply_to
        new_id = self._threads.new_id(channel.kind)
        media = self._file(channel, act, new_id) if act.type in _MEDIA_ACTS else None
        url = "" if media is None else self._urls.of(channel, media)
        choice = _choice(channel, act, thread) if act.type == "tap" else None
        return Scene(channel, person_id, channel.person(person_id), act, new_id, at, about, quoted, choice, media, url)

    def _fitting(
        self, channel: Channel, person_id: str, act: Act, thread: Thread | None, previous: str | None
    ) -> str | None:
        """The message that an act is about unless it says so: its own last one to edit, else ours."""
        if act.type not in ("edit", "unsend"):
            return self._last_sent(channel, person_id)
        own = None if thread is None else thread.last(is_inbound=True)
        return previous or (None if own is None else own.id)

    def _file(self, channel: Channel, act: Act, about: str) -> Media:
        spec = act.media
        mime_type = spec.mime_type or DEFAULT_TYPES[act.type]
        given = spec.content_base64
        content = made_up(mime_type, spec.size, about) if given is None else decoded(given)
        return self._media.add(channel.id, mime_type, content, spec.filename or "", life=INBOUND_LIFE)

    # --- when ---------------------------------------------------------------------------------------------------------

    def _planned(self, channel: Channel, person_id: str, scenes: list[tuple[Scene, Told]], about: str) -> list[Planned]:
        strikes = []
        if self._faults.any_for_webhooks:
            before = self._acts_of.get((channel.id, person_id), 0)
            self._acts_of[channel.id, person_id] = before + len(scenes)
            name = "\x1f".join(("inbound", about or f"{channel.id} {person_id} {before}"))
            strikes = self._faults.strike_webhooks(self._chance, channel.id, person_id, name)
            strikes = [strike for strike in strikes if strike.installed.concerns(INBOUND)]
        times = [[scene.at] for scene, _ in scenes]
        for strike in strikes:
            match strike.fault.kind:
                case "webhook_drop":
                    times = [[] for _ in times]
                case "webhook_late":
                    times = [[at + strike.delay for at in each] for each in times]
                case "webhook_duplicate":
                    times = [each + [at + strike.delay for at in each] for each in times]
                case _:
                    times.reverse()
        return [
            Planned(
                scene.at,
                self._happening(scene, told),
                [(at, of_channel(channel, told.field, told.item, holder=told.holder)) for at in each],
            )
            for (scene, told), each in zip(scenes, times, strict=True)
        ]

    def _happening(self, scene: Scene, told: Told) -> Callable[[], None]:
        def happen() -> None:
            channel, act = scene.channel, scene.act
            if act.type not in _SILENT:
                _change(channel, scene.person_id, last_inbound=scene.at)
            if act.type in ("opt_in", "opt_out"):
                _change(channel, scene.person_id, standing="opted_out" if act.type == "opt_out" else "reachable")
            if act.type == "edit" and (found := self._threads.find_message(scene.about)) is not None:
                found[1].text = act.text
            if told.is_message:
                self._threads.add(
                    self._threads.open(channel.id, scene.person_id),
                    ThreadMessage(
                        scene.new_id,
                        scene.at,
                        act.type != "other_app",
                        told.said,
                        () if scene.media is None else (scene.media.id,),
                        scene.quoted,
                    ),
                )

        return happen


def _choice(channel: Channel, act: Act, thread: Thread | None) -> Choice | None:
    if act.title is not None or act.payload is not None:
        usual = "postback" if channel.kind == "messenger" else "button_reply"
        return Choice(act.tap or usual, act.title or "", act.payload or "")
    if thread is None:
        return None
    offered = (message.choices for message in thread.newest_first() if message.choices)
    return next(offered, (None,))[0]


def _change(channel: Channel, person_id: str, **changes: Any) -> None:
    channel.people[person_id] = msgspec.structs.replace(channel.person(person_id), **changes)
