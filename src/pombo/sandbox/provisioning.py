"""Making accounts through the management API: what its bodies look like, and what they become."""

import itertools
from typing import Annotated, Any, Literal

import msgspec

from pombo.sandbox.accounts import (
    PAGE_FIELDS,
    Account,
    App,
    Callback,
    Channel,
    ChannelSettings,
    Template,
    WebhookObject,
)
from pombo.sandbox.acts import Act
from pombo.sandbox.people import Person, Standing
from pombo.sandbox.scene import BadActError
from pombo.sandbox.templates import shape_of
from pombo.sandbox.threads import ThreadMessage
from pombo.sandbox.world import World

Id = str | int
"""Meta's ids are digits; a caller may send them as numbers."""


class BadRequestError(Exception):
    """A management request that makes no sense; its text is the answer."""


class AppSpec(msgspec.Struct, forbid_unknown_fields=True):
    app_id: Id
    app_secret: str
    verify_token: str
    name: str = "Sandbox app"


class PageSpec(msgspec.Struct, forbid_unknown_fields=True):
    page_id: Id
    app_id: Id
    access_token: str
    name: str = "Sandbox Page"
    subscribed_fields: tuple[str, ...] = PAGE_FIELDS
    settings: dict[str, Any] = {}


class PhoneNumberSpec(msgspec.Struct, forbid_unknown_fields=True):
    """Several numbers may share a WhatsApp account (`waba_id`), and a system user's token."""

    phone_number_id: Id
    waba_id: Id
    app_id: Id
    access_token: str
    display_phone_number: str = ""
    verified_name: str = "Sandbox number"
    settings: dict[str, Any] = {}


class TemplateSpec(msgspec.Struct, forbid_unknown_fields=True):
    """Parameters are counted in `components`, written as Meta has them; or given by number for a plain body.

    `pacing`: "hold" answers held_for_quality_assessment, "drop" also fails the message later with 132015.
    """

    waba_id: Id
    name: str
    language: str = "en_US"
    category: Literal["MARKETING", "UTILITY", "AUTHENTICATION"] = "MARKETING"
    status: str = "APPROVED"
    components: list[dict[str, Any]] = []
    body_parameters: int | None = None
    header_parameters: int | None = None
    pacing: Literal["none", "hold", "drop"] = "none"


class WebhookSpec(msgspec.Struct, forbid_unknown_fields=True):
    """Without `object` the callback is for both Pages and WhatsApp; without a URL it is taken away."""

    app_id: Id
    callback_url: str | None
    object: WebhookObject | None = None
    verify: bool = False


class PersonSpec(msgspec.Struct, forbid_unknown_fields=True):
    """`last_inbound_ago_s`: how many seconds ago the person last wrote; missing, the channel's policy decides."""

    id: Id
    standing: Standing = "reachable"
    last_inbound_ago_s: float | None = None
    name: str | None = None
    user_id: str | None = None
    hides_number: bool = False


class PeopleSpec(msgspec.Struct, forbid_unknown_fields=True):
    channel: Id
    people: list[PersonSpec]


class ScriptSpec(msgspec.Struct, forbid_unknown_fields=True):
    """What one person does, one thing after the other."""

    channel: Id
    person: Id
    events: list[Act]


class ThreadsSpec(msgspec.Struct, forbid_unknown_fields=True):
    """`count` people from `first_person` on, who last wrote `newest_ago_s` ago and `apart_s` before each other."""

    channel: Id
    count: Annotated[int, msgspec.Meta(ge=1, le=100_000)]
    messages: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 4
    first_person: int = 20_000_000_001
    newest_ago_s: float = 60.0
    apart_s: float = 60.0


class SetupSpec(msgspec.Struct, forbid_unknown_fields=True):
    """Everything at once, in the order in which one thing needs the other."""

    apps: list[AppSpec] = []
    pages: list[PageSpec] = []
    phone_numbers: list[PhoneNumberSpec] = []
    templates: list[TemplateSpec] = []
    webhooks: list[WebhookSpec] = []
    people: list[PeopleSpec] = []


_template_ids = itertools.count(1_000_000_000_000_001)


def settings_from(base: ChannelSettings, changes: dict[str, Any]) -> ChannelSettings:
    """Raises BadRequestError for a name or a value that does not fit."""
    try:
        return msgspec.convert({**msgspec.structs.asdict(base), **changes}, ChannelSettings)
    except msgspec.ValidationError as error:
        raise BadRequestError(f"settings: {error}") from error


class Provisioning:
    def __init__(self, world: World) -> None:
        self._world = world
        self._accounts = world.accounts

    def add_app(self, spec: AppSpec) -> None:
        app_id = str(spec.app_id)
        app = self._accounts.apps.get(app_id)
        if app is None:
            self._accounts.apps[app_id] = App(app_id, spec.app_secret, spec.verify_token, spec.name)
        else:
            app.secret, app.verify_token, app.name = spec.app_secret, spec.verify_token, spec.name

    def add_page(self, spec: PageSpec) -> None:
        channel_id = str(spec.page_id)
        if self._accounts.accounts.get(channel_id) is not None:
            raise BadRequestError(f"{channel_id} is already a WhatsApp account")
        self._accounts.add_channel(
            Channel(
                kind="messenger",
                id=channel_id,
                app=self._app(spec.app_id),
                token=spec.access_token,
                name=spec.name,
                account=None,
                display_phone_number="",
                settings=settings_from(ChannelSettings(), spec.settings),
                book=self._world.ledger.book("messenger", channel_id),
                threads=self._world.threads.of_channel(channel_id),
                subscribed_fields=frozenset(spec.subscribed_fields),
            )
        )

    def add_phone_number(self, spec: PhoneNumberSpec) -> None:
        channel_id, account_id = str(spec.phone_number_id), str(spec.waba_id)
        app = self._app(spec.app_id)
        if channel_id == account_id or account_id in self._accounts.channels:
            raise BadRequestError(f"{account_id} is already a channel and cannot be a WhatsApp account")
        account = self._accounts.accounts.setdefault(account_id, Account(account_id, app))
        self._accounts.add_channel(
            Channel(
                kind="whatsapp",
                id=channel_id,
                app=app,
                token=spec.access_token,
                name=spec.verified_name,
                account=account,
                display_phone_number=spec.display_phone_number or f"1555{channel_id[-7:]:0>7}",
                settings=settings_from(ChannelSettings(), spec.settings),
                book=self._world.ledger.book("whatsapp", channel_id),
                threads=self._world.threads.of_channel(channel_id),
            )
        )

    def add_template(self, spec: TemplateSpec) -> None:
        account = self._accounts.accounts.get(str(spec.waba_id))
        if account is None:
            raise BadRequestError(f"there is no WhatsApp account {spec.waba_id}: add a phone number of it first")
        parameters, names = shape_of(spec.components)
        for component, count in (("body", spec.body_parameters), ("header", spec.header_parameters)):
            if count is not None:
                parameters[component] = count
        old = account.templates.get((spec.name, spec.language))
        if old is not None and old.status != spec.status:
            self._world.templates.changed(account, old, spec.status)
        account.templates[spec.name, spec.language] = Template(
            id=str(next(_template_ids)) if old is None else old.id,
            name=spec.name,
            language=spec.language,
            category=spec.category,
            status=spec.status,
            parameters=parameters,
            names=names,
            components=spec.components,
            pacing=spec.pacing,
        )

    def set_webhook(self, spec: WebhookSpec) -> None:
        app = self._app(spec.app_id)
        objects: tuple[WebhookObject, ...] = (
            ("page", "whatsapp_business_account") if spec.object is None else (spec.object,)
        )
        for webhook_object in objects:
            if spec.callback_url is None:
                app.callbacks.pop(webhook_object, None)
            else:
                app.callbacks[webhook_object] = Callback(spec.callback_url, app.verify_token)

    def set_people(self, spec: PeopleSpec) -> None:
        channel = self._channel(spec.channel)
        now = self._world.clock.now()
        for person in spec.people:
            ago = person.last_inbound_ago_s
            channel.people[str(person.id)] = Person(
                person.standing, None if ago is None else now - ago, person.name, person.user_id, person.hides_number
            )

    def script(self, spec: ScriptSpec) -> list[dict[str, Any]]:
        """What each of the person's events will be: type, id and time."""
        channel = self._channel(spec.channel)
        try:
            return self._world.customers.perform(channel, str(spec.person), spec.events)
        except (BadActError, ValueError) as error:
            raise BadRequestError(str(error)) from error

    def add_threads(self, spec: ThreadsSpec) -> None:
        """Made-up threads, as if the people had written in the past; nobody is told of them."""
        channel = self._channel(spec.channel)
        now = self._world.clock.now()
        threads = self._world.threads
        for number in range(spec.count):
            person_id = str(spec.first_person + number)
            thread = threads.open(channel.id, person_id)
            newest = now - spec.newest_ago_s - number * spec.apart_s
            for place in range(spec.messages):
                at = newest - (spec.messages - 1 - place) * 60
                inbound = (spec.messages - 1 - place) % 2 == 0
                text = f"{'Question' if inbound else 'Answer'} {place + 1} of {person_id}"
                threads.add(thread, ThreadMessage(threads.new_id(channel.kind), at, inbound, text))
            person = channel.person(person_id)
            channel.people[person_id] = msgspec.structs.replace(person, last_inbound=newest)

    def set_up(self, spec: SetupSpec) -> None:
        for app in spec.apps:
            self.add_app(app)
        for page in spec.pages:
            self.add_page(page)
        for phone_number in spec.phone_numbers:
            self.add_phone_number(phone_number)
        for template in spec.templates:
            self.add_template(template)
        for webhook in spec.webhooks:
            self.set_webhook(webhook)
        for people in spec.people:
            self.set_people(people)

    def _channel(self, channel_id: Id) -> Channel:
        channel = self._accounts.channels.get(str(channel_id))
        if channel is None:
            raise BadRequestError(f"there is no channel {channel_id}")
        return channel

    def _app(self, app_id: Id) -> App:
        app = self._accounts.apps.get(str(app_id))
        if app is None:
            raise BadRequestError(f"there is no app {app_id}")
        return app
