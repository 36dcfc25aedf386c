"""Routing and tokens: from a request to the endpoint that answers it."""

import logging
import re
from collections.abc import Awaitable
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

import msgspec

from pombo.sandbox import conversations, files, messenger, nodes, whatsapp
from pombo.sandbox.accounts import Channel
from pombo.sandbox.batch import missing_token, run_batch
from pombo.sandbox.connection import Request
from pombo.sandbox.errors import MetaError, unknown_object
from pombo.sandbox.files import Download
from pombo.sandbox.forms import Upload, is_form, is_multipart, parse_form, parse_multipart, unfold
from pombo.sandbox.management import Management
from pombo.sandbox.reply import Reply, json_reply
from pombo.sandbox.template_desk import template_from
from pombo.sandbox.world import Simulation

_log = logging.getLogger(__name__)

# Page-scoped ids are long; shorter numbers are no one's.
_PSID = re.compile(r"\d{8,}", re.ASCII)
_VERSION = re.compile(r"v\d+\.\d+", re.ASCII)
# Senders use few targets (one a channel), so parsed ones are kept; whoever asks for countless others starts it afresh.
_MAX_ROUTES = 10_000


class _Route(NamedTuple):
    """`/v26.0/<node>/<edge>?<query>`; both parts are empty at the root."""

    node: str
    edge: str
    query: dict[str, str]
    token: str | None


class Sandbox:
    """The simulated Graph API and, beside it, the management API."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._routes: dict[bytes, _Route] = {}
        self._bearers: dict[bytes, str] = {}
        self._management = Management(simulation)

    def handle(self, request: Request) -> Reply | Awaitable[Reply]:
        try:
            if request.is_management:
                answer = self._management.handle(request)
                return answer if isinstance(answer, Reply) else self._shielded(request, answer)
            token = self._bearer(request.authorization) if request.authorization else None
            return self._dispatch(
                request.method, request.target, token, request.content_type, request.body, in_batch=False
            )
        except MetaError as error:
            return error.reply()
        except Exception:
            return _failure(request)

    async def _shielded(self, request: Request, answer: Awaitable[Reply]) -> Reply:
        try:
            return await answer
        except Exception:
            return _failure(request)

    def _dispatch(
        self, method: bytes, target: bytes, token: str | None, content_type: bytes, body: bytes, *, in_batch: bool
    ) -> Reply:
        route = self._routes.get(target) or self._parse(target)
        if route.token is not None:
            token = route.token
        if is_multipart(content_type):
            return self._upload(method, route, token, content_type, body)
        form = _form(body) if body and is_form(content_type, body) else None
        if route.edge == "messages" and method == b"POST":
            return self._send(route.node, token, body, form, in_batch=in_batch)
        if route.edge == "" and route.node in ("", "me") and method == b"POST" and not in_batch:
            parameters = _parameters(body, form)
            return run_batch(parameters, token or _text(parameters.get("access_token")), self._dispatch_item)
        parameters = _parameters(body, form) if method == b"POST" else {}
        token = token or _text(parameters.get("access_token"))
        return self._read(method, route, token, parameters)

    def _dispatch_item(
        self, method: bytes, target: bytes, token: str | None, content_type: bytes, body: bytes
    ) -> Reply:
        """One item of a batch; a token of its own goes before the batch's."""
        try:
            own = _form(body).get("access_token") if body else None
            return self._dispatch(method, target, own or token, content_type, body, in_batch=True)
        except MetaError as error:
            return error.reply()

    def _send(self, node: str, token: str | None, body: bytes, form: dict[str, str] | None, *, in_batch: bool) -> Reply:
        channel = self._simulation.world.accounts.channels.get(node)
        if channel is not None and channel.kind == "whatsapp":
            whatsapp_request = whatsapp.parse(body, form)
            if channel.token != token:
                self._authorize(node, token or whatsapp_request.access_token, "POST")
            try:
                return whatsapp.send(self._simulation.world.desk, channel, whatsapp_request, in_batch=in_batch)
            except MetaError as error:
                return _refusal(channel, error)
        messenger_request = messenger.parse(body, form)
        if channel is None or channel.token != token:
            channel = self._authorize(node, token or messenger_request.access_token, "POST")
        if channel.kind != "messenger":
            raise unknown_object(node, "POST")
        try:
            return messenger.send(self._simulation.world.desk, channel, messenger_request, in_batch=in_batch)
        except MetaError as error:
            return _refusal(channel, error)

    def _authorize(self, node: str, token: str | None, method: str) -> Channel:
        """The channel, if the token opens it. Raises what Meta answers otherwise."""
        accounts = self._simulation.world.accounts
        channel = accounts.channels.get(node)
        self._check_token(token, channel)
        assert token is not None
        if node == "me":
            pages = [mine for mine in accounts.channels_of(token) if mine.kind == "messenger"]
            if len(pages) == 1:
                return pages[0]
        if channel is None or channel.token != token:
            raise unknown_object(node, method)
        return channel

    def _check_token(self, token: str | None, channel: Channel | None) -> None:
        if token is None:
            raise missing_token()
        if not self._simulation.world.accounts.knows_token(token):
            raise MetaError("messenger" if channel is None else channel.kind, 190)

    def _upload(self, method: bytes, route: _Route, token: str | None, content_type: bytes, body: bytes) -> Reply:
        try:
            form, upload = parse_multipart(content_type, body)
            fields = unfold(form)
        except (ValueError, msgspec.DecodeError) as error:
            raise MetaError("messenger", 100, message=f"(#100) {error}") from error
        return self._store(method, route, token or _text(fields.get("access_token")), fields, upload)

    def _store(
        self, method: bytes, route: _Route, token: str | None, fields: dict[str, Any], upload: Upload | None
    ) -> Reply:
        world = self._simulation.world
        channel = self._authorize(route.node, token, method.decode())
        match (method, channel.kind, route.edge):
            case (b"POST", "whatsapp", "media"):
                return files.upload_to_number(world, channel, fields, upload)
            case (b"POST", "messenger", "message_attachments"):
                return files.upload_to_page(world, channel, fields, upload)
            case (b"POST", _, "messages"):
                # Meta takes files with a message; here they are uploaded first.
                raise MetaError(channel.kind, 100, message="(#100) The sandbox takes no files with a message.")
        raise unknown_object(f"{route.node}/{route.edge}", method.decode())

    def _read_object(self, verb: str, route: _Route, token: str | None) -> Reply:
        """What is neither an account nor a channel: a person, a thread, a message, a medium."""
        world = self._simulation.world
        self._check_token(token, None)
        assert token is not None
        node = route.node
        mine = {channel.id: channel for channel in world.accounts.channels_of(token)}
        if route.edge == "" and verb in ("GET", "DELETE"):
            reply = files.read_media(world, verb, node, token)
            if reply is not None:
                return reply
        if verb == "GET":
            thread = world.threads.find(node)
            if thread is not None and thread.channel_id in mine and route.edge in ("", "messages"):
                return conversations.read_thread(world, mine[thread.channel_id], thread, route.edge, route.query)
            found = world.threads.find_message(node)
            if found is not None and found[0].channel_id in mine and route.edge == "":
                return conversations.read_message(world, mine[found[0].channel_id], *found, route.query)
            pages = [channel for channel in mine.values() if channel.kind == "messenger"]
            if pages and route.edge == "" and _PSID.fullmatch(node):
                return files.read_profile(world, pages[0], node, route.query)
        raise unknown_object(f"{node}/{route.edge}".rstrip("/"), verb)

    def _read(self, method: bytes, route: _Route, token: str | None, parameters: dict[str, Any]) -> Reply:
        verb = method.decode()
        account = self._simulation.world.accounts.accounts.get(route.node)
        if account is not None:
            self._check_token(token, None)
            if not self._simulation.world.accounts.may_see_account(token or "", account):
                raise unknown_object(route.node, verb)
            match (verb, route.edge):
                case ("GET", ""):
                    return nodes.read_account(account, route.query)
                case ("GET", "phone_numbers"):
                    numbers = [
                        mine for mine in self._simulation.world.accounts.channels.values() if mine.account is account
                    ]
                    return nodes.list_phone_numbers(numbers, route.query)
                case ("GET", "message_templates"):
                    return nodes.list_templates(account, route.query)
                case ("POST", "message_templates"):
                    return self._simulation.world.templates.create(account, template_from(parameters))
                case ("DELETE", "message_templates"):
                    return self._simulation.world.templates.delete(account, route.query.get("name", ""))
                case ("GET" | "POST" | "DELETE", "subscribed_apps"):
                    return nodes.account_subscriptions(method, account)
        elif verb == "GET" and route.node in ("attachments", "pictures", "whatsapp_business"):
            return files.download(self._simulation.world, Download(route.node, route.edge, route.query, token))
        elif route.node != "me" and route.node not in self._simulation.world.accounts.channels:
            return self._read_object(verb, route, token)
        else:
            channel = self._authorize(route.node, token, verb)
            match (verb, route.edge):
                case ("GET", ""):
                    return nodes.read_channel(channel, route.query)
                case ("POST", "message_attachments") if channel.kind == "messenger":
                    return self._store(method, route, token, parameters, None)
                case ("GET", "conversations") if channel.kind == "messenger":
                    return conversations.list_threads(self._simulation.world, channel, route.query)
                case ("GET" | "POST" | "DELETE", "subscribed_apps") if channel.account is not None:
                    return nodes.account_subscriptions(method, channel.account)
                case ("GET" | "POST" | "DELETE", "subscribed_apps"):
                    return nodes.page_subscriptions(method, channel, {**route.query, **parameters})
        raise unknown_object(f"{route.node}/{route.edge}".rstrip("/"), verb)

    def _parse(self, target: bytes) -> _Route:
        path, _, query_string = target.decode("latin-1").partition("?")
        parts = [unquote(part) for part in path.split("/") if part]
        if parts and _VERSION.fullmatch(parts[0]):
            parts = parts[1:]
        query = dict(parse_qsl(query_string, keep_blank_values=True))
        # A path with more parts than any endpoint has ends up as an edge that nobody knows.
        node = parts[0] if parts else ""
        route = _Route(node, "/".join(parts[1:]), query, query.get("access_token") or None)
        if len(self._routes) >= _MAX_ROUTES:
            self._routes.clear()
        self._routes[target] = route
        return route

    def _bearer(self, authorization: bytes) -> str | None:
        token = self._bearers.get(authorization)
        if token is None:
            scheme, _, rest = authorization.decode("latin-1").partition(" ")
            token = rest.strip() if scheme.lower() in ("bearer", "oauth") else ""
            if len(self._bearers) >= _MAX_ROUTES:
                self._bearers.clear()
            self._bearers[authorization] = token
        return token or None


def _failure(request: Request) -> Reply:
    """A defect of the sandbox itself; called while its exception is being handled."""
    _log.exception("the sandbox failed to answer %r", request.target)
    return json_reply({"error": {"message": "The sandbox failed; its log says why.", "code": 1}}, 500)


def _refusal(channel: Channel, error: MetaError) -> Reply:
    """A refusal takes as long as an acceptance, and tells the channel's usage just as well."""
    reply = error.reply()
    reply.headers = channel.usage_headers
    reply.delay = channel.latency
    return reply


def _form(body: bytes) -> dict[str, str]:
    try:
        return parse_form(body)
    except UnicodeDecodeError as error:
        raise MetaError("messenger", 100, message="(#100) The body is not UTF-8.") from error


def _parameters(body: bytes, form: dict[str, str] | None) -> dict[str, Any]:
    if form is not None:
        return dict(form)
    try:
        return msgspec.json.decode(body or b"{}", type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MetaError("messenger", 100, message=f"(#100) The request is not valid JSON: {error}") from error


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
