"""Where Meta's webhooks arrive: `GET` is the handshake, `POST` stores the body durably and only then answers 200.

A raw ASGI callable, because Meta sends three webhooks for each message that leaves: a framework's route takes three
times the CPU. Nothing is parsed here. Whoever signed is known by the secret that fits, and the body is logged for that
app's workspace; what is in it is for ingest to find out.

All webhooks that wait go to the database in one statement, then get their 200; the next batch forms meanwhile, for some
milliseconds. So one commit serves many, and a webhook that comes alone waits for nothing but its own. With the database
away the answer is 503: Meta tries again, Messenger for an hour, WhatsApp for days.
"""

import asyncio
import hmac
import json
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any
from urllib.parse import parse_qs

from pombo.api.errors import database_unavailable
from pombo.meta import signature
from pombo.store import accounts, webhooks
from pombo.store.database import Database
from pombo.store.errors import DatabaseUnavailable
from pombo.store.secrets import SecretBox
from pombo.store.webhooks import SignedWebhook
from pombo.telemetry import log

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

PATHS = frozenset({"/webhook", "/api/webhooks/whatsapp/status"})

# Meta's largest is 3 MB (1,000 updates in one POST); a megabyte to spare.
_MAX_BODY = 4 * 1024 * 1024
# Bodies that wait for the database at most; beyond, 503 is kinder than swapping.
_MAX_WAITING = 128 * 1024 * 1024
# One statement's rows and bytes: enough that the commit no longer matters, small enough to take milliseconds.
_BATCH_ROWS = 1000
_BATCH_BYTES = 16 * 1024 * 1024
# A batch of a few costs the server, and ingest with its bell, about the same as one of ten: while so few wait, the next
# begins so much later than the last. One that comes alone never waits.
_FEW, _GAP_S = 10, 0.004
# A secret that was taken away is good for so long at most; also costs one query in that time.
_KEYRING_AGE_S = 10.0
# What fits no key looks again at the database, at most so often: a new app works within this time, and a flood of
# forgeries costs one query a second.
_KEYRING_GAP_S = 1.0
# Where a body says whom it is about, and how many of those are remembered.
_ID, _ID_WITHIN = re.compile(rb'"id"\s*:\s*"(\d{1,32})"'), 300
_MOST_FITTED = 10_000
# Requests that may wait for that look; a flood of forgeries is refused at once beyond it.
_MAX_DOUBTFUL = 100
# Between two log lines of one kind: neither a flood of forgeries nor Meta's tries while the database is away shall fill
# the disk as well.
_LOG_GAP_S = 1.0


class Counts:
    """What became of POSTs since the process started."""

    __slots__ = ("batches", "not_stored", "refused", "stored", "too_large", "unavailable")

    def __init__(self) -> None:
        self.stored = self.batches = self.not_stored = self.refused = self.too_large = self.unavailable = 0


class Pace:
    """Says when another log line may be written."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last = float("-inf")

    def allows(self) -> bool:
        now = self._clock()
        if now - self._last < _LOG_GAP_S:
            return False
        self._last = now
        return True


class Unavailable(Exception):
    """Not stored; the sender shall try again."""


class WebhookReceiver:
    """ASGI application for `PATHS`; call `close` after the server has stopped taking requests."""

    def __init__(self, database: Database, box: SecretBox, clock: Callable[[], float] = time.monotonic) -> None:
        self.counts = Counts()
        self._keyring = Keyring(database, box, clock)
        self._intake = Intake(database, self.counts, clock)
        self._refusals = Pace(clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["method"] == "POST":
                await self._take(scope, receive, send)
            elif scope["method"] == "GET":
                await self._shake_hands(scope, send)
            else:
                await _refuse(send, 405, "method_not_allowed", "Webhooks come by POST, Meta's handshake by GET.")
        except Unavailable:
            self.counts.unavailable += 1
            await database_unavailable().response()(scope, receive, send)

    async def close(self) -> None:
        """Returns when all that waited was stored (or refused)."""
        await self._intake.close()

    async def _shake_hands(self, scope: Scope, send: Send) -> None:
        query = parse_qs(scope["query_string"].decode("latin-1"))
        mode, token, challenge = (query.get(f"hub.{name}", [""])[0] for name in ("mode", "verify_token", "challenge"))
        if mode == "subscribe" and token and await self._keyring.knows_token(token):
            await _answer(send, 200, challenge.encode(), b"text/plain; charset=utf-8")
        else:
            log.warning("webhook_handshake_refused")
            await _refuse(send, 403, "wrong_verify_token", "No Meta app of Pombo's has this verify token.")

    async def _take(self, scope: Scope, receive: Receive, send: Send) -> None:
        header = next((value for name, value in scope["headers"] if name == b"x-hub-signature-256"), None)
        if header is None:
            self._tell_refused("missing")
            await _refuse(send, 401, "signature_missing", "The header X-Hub-Signature-256 is missing.")
            return
        try:
            body = await _read(scope, receive)
        except _TooLarge:
            self.counts.too_large += 1
            await _refuse(send, 413, "body_too_large", f"A webhook has at most {_MAX_BODY} bytes.")
            return
        if body is None:
            return
        owners = await self._keyring.owners(header.decode("latin-1"), body)
        if not owners:
            self._tell_refused("wrong")
            await _refuse(send, 403, "signature_wrong", "No app secret known here makes this signature.")
            return
        await self._intake.store([SignedWebhook(workspace_id, app_id, body) for workspace_id, app_id in owners])
        await _answer(send, 200, b"", b"text/plain; charset=utf-8")

    def _tell_refused(self, signature: str) -> None:
        self.counts.refused += 1
        if self._refusals.allows():
            log.warning("webhook_refused", signature=signature, refused=self.counts.refused)


class Keyring:
    """All Meta apps' secrets and verify tokens, in clear, as of a few seconds ago.

    Two workspaces may have registered the same Meta app: a webhook of its belongs to both.
    """

    def __init__(self, database: Database, box: SecretBox, clock: Callable[[], float]) -> None:
        self._database = database
        self._box = box
        self._clock = clock
        self._secrets: list[bytes] = []
        self._owners: dict[bytes, list[tuple[int, int]]] = {}
        # The secret that fitted last, by what the body is about: with hundreds of apps not all of them are tried.
        self._fitted: dict[bytes, bytes] = {}
        self._tokens: list[bytes] = []
        self._loaded_at = float("-inf")
        self._loading: asyncio.Task[None] | None = None
        self._doubtful = 0
        self._failures = 0
        self._failure_lines = Pace(clock)

    async def owners(self, header: str, body: bytes) -> Sequence[tuple[int, int]]:
        """The (workspace, app) pairs whose secret made the signature; none for a forgery. Raises Unavailable."""
        arrived = self._clock()
        if arrived - self._loaded_at > _KEYRING_AGE_S:
            await self._load()
        found = self._match(header, body)
        if not found and await self._look_again(arrived):
            found = self._match(header, body)
        return found

    async def knows_token(self, token: str) -> bool:
        """Raises Unavailable."""
        arrived = self._clock()
        if arrived - self._loaded_at > _KEYRING_AGE_S:
            await self._load()
        wanted = token.encode()
        return self._has(wanted) or (await self._look_again(arrived) and self._has(wanted))

    def _has(self, wanted: bytes) -> bool:
        # Every token is compared, so that the time tells nothing.
        return sum([hmac.compare_digest(wanted, token) for token in self._tokens]) > 0

    def _match(self, header: str, body: bytes) -> Sequence[tuple[int, int]]:
        about = _account_of(body)
        likely = self._fitted.get(about)
        if likely in self._owners and signature.verify([likely], header, body) is not None:
            return self._owners[likely]
        index = signature.verify(self._secrets, header, body)
        if index is None:
            return ()
        secret = self._secrets[index]
        if len(self._fitted) >= _MOST_FITTED:
            self._fitted.clear()
        self._fitted[about] = secret
        return self._owners[secret]

    async def _look_again(self, arrived: float) -> bool:
        """Waits for keys loaded after `arrived`; False when too many wait for that already."""
        if self._doubtful >= _MAX_DOUBTFUL:
            return False
        self._doubtful += 1
        try:
            while self._loaded_at < arrived:
                pause = self._loaded_at + _KEYRING_GAP_S - self._clock()
                if pause > 0:
                    await asyncio.sleep(pause)
                else:
                    await self._load()
        finally:
            self._doubtful -= 1
        return True

    async def _load(self) -> None:
        """One load at a time serves all who wait."""
        if self._loading is None:
            self._loading = asyncio.create_task(self._fetch())
        await asyncio.shield(self._loading)

    async def _fetch(self) -> None:
        began = self._clock()
        try:
            async with self._database.borrow() as connection:
                apps = await accounts.list_apps(connection, self._box)
        except Exception as error:
            self._failures += 1
            if self._failure_lines.allows():
                # A database that is away needs no trace; a secret that cannot be opened does.
                trace = not isinstance(error, DatabaseUnavailable)
                log.warning("webhook_keys_unavailable", reason=str(error), failures=self._failures, exc_info=trace)
            raise Unavailable from error
        finally:
            self._loading = None
        owners: dict[bytes, list[tuple[int, int]]] = {}
        for app in apps:
            for secret in dict.fromkeys(app.app_secrets):
                owners.setdefault(secret.encode(), []).append((app.workspace_id, app.id))
        self._secrets = list(owners)
        self._owners = owners
        self._tokens = [app.verify_token.encode() for app in apps]
        self._loaded_at = began


class Intake:
    """Micro-batches to the webhook log: what waits is stored together, what comes meanwhile waits for the next."""

    def __init__(self, database: Database, counts: Counts, clock: Callable[[], float]) -> None:
        self._database = database
        self._counts = counts
        self._away_lines, self._failure_lines = Pace(clock), Pace(clock)
        self._waiting: list[tuple[Sequence[SignedWebhook], asyncio.Future[None]]] = []
        self._waiting_bytes = 0
        self._writer: asyncio.Task[None] | None = None
        self._closed = False

    async def store(self, copies: Sequence[SignedWebhook]) -> None:
        """Returns when all copies of one webhook are durable. Raises Unavailable: then none need be."""
        if self._closed or self._waiting_bytes > _MAX_WAITING:
            raise Unavailable
        stored = asyncio.get_running_loop().create_future()
        self._waiting.append((copies, stored))
        self._waiting_bytes += _size(copies)
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        await stored

    async def close(self) -> None:
        self._closed = True
        if self._writer is not None:
            await self._writer

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                batch = self._next()
                try:
                    # One batch after the other on it: to give it back costs a round trip, for which no answer waits.
                    async with self._database.borrow() as connection:
                        while batch:
                            began = loop.time()
                            await webhooks.append(connection, [copy for copies, _ in batch for copy in copies])
                            self._counts.batches += 1
                            self._counts.stored += len(batch)
                            self._finish(batch, None)
                            if len(self._waiting) < _FEW:
                                await asyncio.sleep(began + _GAP_S - loop.time())
                            batch = self._next()
                except Exception as error:
                    # Whatever it was, these are not known to be stored, and Meta will send them again. None, if only
                    # giving the connection back has failed.
                    if batch:
                        self._counts.not_stored += len(batch)
                        self._tell(error)
                        self._finish(batch, Unavailable())
        finally:
            self._writer = None

    def _tell(self, error: Exception) -> None:
        count = self._counts.not_stored
        if isinstance(error, DatabaseUnavailable):
            if self._away_lines.allows():
                log.warning("webhooks_not_stored", reason=str(error), webhooks=count)
        elif self._failure_lines.allows():
            log.error("webhook_storing_failed", webhooks=count, exc_info=error)

    def _next(self) -> list[tuple[Sequence[SignedWebhook], asyncio.Future[None]]]:
        size = count = 0
        for copies, _ in self._waiting[:_BATCH_ROWS]:
            if count and size >= _BATCH_BYTES:
                break
            size += _size(copies)
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        self._waiting_bytes -= size
        return batch

    def _finish(
        self, batch: Sequence[tuple[Sequence[SignedWebhook], asyncio.Future[None]]], error: Unavailable | None
    ) -> None:
        for _, stored in batch:
            if stored.done():
                continue
            if error is None:
                stored.set_result(None)
            else:
                stored.set_exception(error)


class _TooLarge(Exception):
    """The body exceeds the limit."""


def _account_of(body: bytes) -> bytes:
    """The first id in it: the Page's or the account's. Only a hint, as nothing is known to be Meta's yet."""
    first = _ID.search(body, 0, _ID_WITHIN)
    return b"" if first is None else first[1]


def _size(copies: Sequence[SignedWebhook]) -> int:
    return len(copies[0].body)


async def _read(scope: Scope, receive: Receive) -> bytes | None:
    """The whole body; None when the client went away before its end. Raises _TooLarge."""
    for name, value in scope["headers"]:
        if name == b"content-length" and int(value) > _MAX_BODY:
            raise _TooLarge
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body: bytes = message.get("body", b"")
        if len(body) > _MAX_BODY:
            raise _TooLarge
        return body
    chunks = bytearray()
    while True:
        if message["type"] == "http.disconnect":
            return None
        chunks += message.get("body", b"")
        if len(chunks) > _MAX_BODY:
            raise _TooLarge
        if not message.get("more_body"):
            return bytes(chunks)
        message = await receive()


async def _refuse(send: Send, status: int, code: str, message: str) -> None:
    body = json.dumps({"error": {"code": code, "message": message, "details": None}}).encode()
    await _answer(send, status, body, b"application/json")


async def _answer(send: Send, status: int, body: bytes, content_type: bytes) -> None:
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    if status == 413:
        # The rest of the body is not read.
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
