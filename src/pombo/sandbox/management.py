"""The management API under `/sandbox/`: accounts, people, faults, time, webhooks, the ledger. No token: it is local.

Bodies are JSON; every answer is JSON; what makes no sense is a 400 with a sentence.
"""

import secrets
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl, quote, unquote

import msgspec

from pombo.sandbox.connection import Request
from pombo.sandbox.faults import Fault, Installed
from pombo.sandbox.ledger import peak
from pombo.sandbox.poster import Poster
from pombo.sandbox.provisioning import (
    AppSpec,
    BadRequestError,
    PageSpec,
    PeopleSpec,
    PhoneNumberSpec,
    Provisioning,
    ScriptSpec,
    SetupSpec,
    TemplateSpec,
    ThreadsSpec,
    WebhookSpec,
    settings_from,
)
from pombo.sandbox.pump import PumpSettings
from pombo.sandbox.reply import Reply, json_reply
from pombo.sandbox.world import Simulation

T = TypeVar("T")

_MAX_PAGE = 10_000
_HANDSHAKE_TIMEOUT = 5.0


class _Reset(msgspec.Struct, forbid_unknown_fields=True):
    keep_accounts: bool = False


class _Seed(msgspec.Struct, forbid_unknown_fields=True):
    seed: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class _Clock(msgspec.Struct, forbid_unknown_fields=True):
    """`frozen` stops or releases the clock, then `advance_s` moves it. Released, it follows the machine's again."""

    frozen: bool | None = None
    advance_s: float = 0.0


class _Flush(msgspec.Struct, forbid_unknown_fields=True):
    timeout_ms: float = 10_000.0
    hurry: bool = False


class Management:
    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._endpoints: dict[tuple[str, str], Callable[[bytes, dict[str, str]], Reply | Awaitable[Reply]]] = {
            ("GET", ""): self._index,
            ("GET", "stats"): self._stats,
            ("GET", "ledger"): lambda body, query: json_reply(self._simulation.world.ledger.totals()),
            ("GET", "ledger/messages"): self._messages,
            ("GET", "ledger/peak"): self._peak,
            ("GET", "faults"): self._faults,
            ("POST", "faults"): self._add_faults,
            ("DELETE", "faults"): self._remove_faults,
            ("POST", "apps"): lambda body, _: self._make(body, AppSpec, lambda maker: maker.add_app),
            ("POST", "pages"): lambda body, _: self._make(body, PageSpec, lambda maker: maker.add_page),
            ("POST", "phone-numbers"): lambda body, _: self._make(
                body, PhoneNumberSpec, lambda maker: maker.add_phone_number
            ),
            ("POST", "templates"): lambda body, _: self._make(body, TemplateSpec, lambda maker: maker.add_template),
            ("PUT", "people"): lambda body, _: self._make(body, PeopleSpec, lambda maker: maker.set_people),
            ("POST", "customers/script"): self._script,
            ("POST", "customers/threads"): lambda body, _: self._make(
                body, ThreadsSpec, lambda maker: maker.add_threads
            ),
            ("GET", "actions"): self._actions,
            ("POST", "setup"): self._set_up,
            ("PATCH", "channels"): self._configure_all,
            ("GET", "channels"): self._channels,
            ("PUT", "webhooks"): self._set_webhooks,
            ("POST", "webhooks/flush"): self._flush,
            ("PUT", "pump"): self._configure_pump,
            ("PUT", "seed"): self._seed,
            ("PUT", "clock"): self._set_clock,
            ("POST", "reset"): self._reset,
        }

    def handle(self, request: Request) -> Reply | Awaitable[Reply]:
        target, _, query_string = request.target.decode("latin-1").partition("?")
        path = target.removeprefix("/sandbox").strip("/")
        query = dict(parse_qsl(query_string, keep_blank_values=True))
        method = request.method.decode()
        try:
            if endpoint := self._endpoints.get((method, path)):
                answer = endpoint(request.body, query)
                return answer if isinstance(answer, Reply) else _refusing(answer)
            if method == "GET" and path.startswith("ledger/keys/"):
                key = unquote(path.removeprefix("ledger/keys/"))
                return json_reply({"key": key, "messages": self._simulation.world.ledger.with_key(key)})
            if method == "PATCH" and path.startswith("channels/"):
                return self._configure(path.removeprefix("channels/"), request.body)
        except BadRequestError as error:
            return _bad_request(str(error))
        return json_reply({"error": {"message": f"The sandbox has no {method} /sandbox/{path}."}}, 404)

    def _index(self, body: bytes, query: dict[str, str]) -> Reply:
        return json_reply({"endpoints": [f"{method} /sandbox/{path}".rstrip("/") for method, path in self._endpoints]})

    def _stats(self, body: bytes, query: dict[str, str]) -> Reply:
        traffic = self._simulation.traffic
        world = self._simulation.world
        return json_reply(
            {
                "requests": traffic.requests,
                "connections_opened": traffic.connections_opened,
                "connections_open": traffic.connections_open,
                "requests_on_reused": traffic.requests_on_reused,
                "webhooks": world.pump.stats,
                "seed": world.chance.seed,
                "now": world.clock.now(),
            }
        )

    def _messages(self, body: bytes, query: dict[str, str]) -> Reply:
        limit = min(_MAX_PAGE, max(1, _integer(query, "limit", 1000)))
        messages = self._simulation.world.ledger.page(
            query.get("channel"), _integer(query, "after", -1), limit, query.get("recipient")
        )
        after = messages[-1]["number"] if len(messages) == limit else None
        return json_reply({"messages": messages, "after": after})

    def _peak(self, body: bytes, query: dict[str, str]) -> Reply:
        book = self._simulation.world.ledger.books.get(query.get("channel", ""))
        window_ms = _integer(query, "window_ms", 1000)
        if book is None or window_ms <= 0:
            raise BadRequestError("channel must name a channel, and window_ms must be above 0")
        window = window_ms / 1000
        return json_reply(
            {
                "channel": book.channel_id,
                "window_ms": window_ms,
                "calls": peak(book.calls_at, window),
                "conversation_calls": peak(book.conversation_calls_at, window),
                "accepted": peak(self._simulation.world.ledger.acceptance_times(book), window),
            }
        )

    def _faults(self, body: bytes, query: dict[str, str]) -> Reply:
        return json_reply({"faults": [_fault(installed) for installed in self._simulation.world.faults.listing()]})

    def _add_faults(self, body: bytes, query: dict[str, str]) -> Reply:
        installed = self._simulation.world.faults.install(_one_or_many(body, Fault))
        return json_reply({"faults": [_fault(one) for one in installed]}, 201)

    def _remove_faults(self, body: bytes, query: dict[str, str]) -> Reply:
        self._simulation.world.faults.remove_all()
        return json_reply({"faults": []})

    def _make(self, body: bytes, spec_type: type[T], choose: Callable[[Provisioning], Callable[[T], None]]) -> Reply:
        add = choose(Provisioning(self._simulation.world))
        specs = _one_or_many(body, spec_type)
        for spec in specs:
            add(spec)
        return json_reply({"count": len(specs)}, 201)

    def _script(self, body: bytes, query: dict[str, str]) -> Reply:
        maker = Provisioning(self._simulation.world)
        specs = _one_or_many(body, ScriptSpec)
        return json_reply({"people": [{"person": str(s.person), "events": maker.script(s)} for s in specs]}, 201)

    def _actions(self, body: bytes, query: dict[str, str]) -> Reply:
        channel = self._simulation.world.accounts.channels.get(query.get("channel", ""))
        if channel is None:
            raise BadRequestError("channel must name a channel")
        return json_reply({"actions": list(channel.actions)})

    def _set_up(self, body: bytes, query: dict[str, str]) -> Reply:
        Provisioning(self._simulation.world).set_up(_read(body, SetupSpec))
        return json_reply({"count": 1}, 201)

    def _channels(self, body: bytes, query: dict[str, str]) -> Reply:
        channels = self._simulation.world.accounts.channels.values()
        return json_reply(
            {
                "channels": [
                    {
                        "id": channel.id,
                        "kind": channel.kind,
                        "name": channel.name,
                        "app_id": channel.app.id,
                        "settings": channel.settings,
                    }
                    for channel in channels
                ]
            }
        )

    def _configure(self, channel_id: str, body: bytes) -> Reply:
        channel = self._simulation.world.accounts.channels.get(channel_id)
        if channel is None:
            raise BadRequestError(f"there is no channel {channel_id}")
        channel.configure(settings_from(channel.settings, _read(body, dict[str, Any])))
        return json_reply({"id": channel.id, "settings": channel.settings})

    def _configure_all(self, body: bytes, query: dict[str, str]) -> Reply:
        changes = _read(body, dict[str, Any])
        channels = self._simulation.world.accounts.channels.values()
        changed = [(channel, settings_from(channel.settings, changes)) for channel in channels]
        for channel, settings in changed:
            channel.configure(settings)
        return json_reply({"count": len(changed)})

    async def _set_webhooks(self, body: bytes, query: dict[str, str]) -> Reply:
        specs = _one_or_many(body, WebhookSpec)
        for spec in specs:
            if spec.verify and spec.callback_url is not None:
                await self._shake_hands(spec)
            Provisioning(self._simulation.world).set_webhook(spec)
        return json_reply({"count": len(specs)})

    async def _shake_hands(self, spec: WebhookSpec) -> None:
        """Meta's check of a callback: it must give the challenge back for the right verify token."""
        app = self._simulation.world.accounts.apps.get(str(spec.app_id))
        if app is None or spec.callback_url is None:
            raise BadRequestError(f"there is no app {spec.app_id}")
        challenge = str(secrets.randbelow(2**31))
        joint = "&" if "?" in spec.callback_url else "?"
        url = (
            f"{spec.callback_url}{joint}hub.mode=subscribe&hub.challenge={challenge}"
            f"&hub.verify_token={quote(app.verify_token, safe='')}"
        )
        poster = Poster()
        try:
            answer = await poster.request("GET", url, {}, b"", _HANDSHAKE_TIMEOUT)
        except OSError as error:
            raise BadRequestError(f"the callback did not answer: {error}") from error
        finally:
            poster.close()
        if answer.status != 200 or answer.body != challenge.encode():
            raise BadRequestError(f"the callback failed verification: it answered {answer.status}")

    async def _flush(self, body: bytes, query: dict[str, str]) -> Reply:
        wish = _read(body or b"{}", _Flush)
        pump = self._simulation.world.pump
        done = await pump.flush(wish.timeout_ms / 1000, hurry=wish.hurry)
        return json_reply({"done": done, "webhooks": pump.stats})

    def _configure_pump(self, body: bytes, query: dict[str, str]) -> Reply:
        pump = self._simulation.world.pump
        changes = _read(body, dict[str, Any])
        try:
            settings = msgspec.convert({**msgspec.structs.asdict(pump.settings), **changes}, PumpSettings)
        except msgspec.ValidationError as error:
            raise BadRequestError(f"pump: {error}") from error
        pump.configure(settings)
        return json_reply(settings)

    def _seed(self, body: bytes, query: dict[str, str]) -> Reply:
        self._simulation.world.chance.reseed(_read(body, _Seed).seed)
        return json_reply({"seed": self._simulation.world.chance.seed})

    def _set_clock(self, body: bytes, query: dict[str, str]) -> Reply:
        wish = _read(body, _Clock)
        clock = self._simulation.clock
        if wish.advance_s < 0:
            raise BadRequestError("the clock only moves forward")
        if wish.frozen is True:
            clock.freeze()
        elif wish.frozen is False:
            clock.run()
        clock.advance(wish.advance_s)
        self._simulation.world.pump.look()
        return json_reply({"now": clock.now(), "frozen": clock.is_frozen})

    async def _reset(self, body: bytes, query: dict[str, str]) -> Reply:
        await self._simulation.reset(keep_accounts=_read(body or b"{}", _Reset).keep_accounts)
        return json_reply({"reset": True})


async def _refusing(answer: Awaitable[Reply]) -> Reply:
    try:
        return await answer
    except BadRequestError as error:
        return _bad_request(str(error))


def _bad_request(message: str) -> Reply:
    return json_reply({"error": {"message": message}}, 400)


def _read(body: bytes, wanted: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=wanted)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise BadRequestError(str(error)) from error


def _one_or_many(body: bytes, wanted: type[T]) -> list[T]:
    return _read(body, list[wanted]) if body.lstrip()[:1] == b"[" else [_read(body, wanted)]  # type: ignore[valid-type]


def _integer(query: dict[str, str], name: str, default: int) -> int:
    try:
        return int(query.get(name, default))
    except ValueError:
        raise BadRequestError(f"{name} must be a whole number") from None


def _fault(installed: Installed) -> dict[str, Any]:
    return {"number": installed.number, "count": installed.count, **msgspec.structs.asdict(installed.fault)}
