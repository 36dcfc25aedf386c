"""The sandbox for tests: started inside the test's own event loop, and spoken to over HTTP by a small typed handle.

    async with running_sandbox() as sandbox:
        app = await sandbox.add_app()
        page = await sandbox.add_page(app)
        ... send to f"{sandbox.base_url}/v26.0/{page.id}/messages" with page.token ...
        assert (await sandbox.ledger())["duplicates"] == 0

`SandboxHandle(base_url)` speaks just as well to a sandbox in another process.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

import httpx

from pombo.sandbox.server import running

_ids = itertools.count(100_000_001)


@dataclass(frozen=True, slots=True)
class AppHandle:
    id: str
    secret: str
    verify_token: str


@dataclass(frozen=True, slots=True)
class ChannelHandle:
    kind: Literal["messenger", "whatsapp"]
    id: str
    token: str
    app: AppHandle
    waba_id: str = ""
    """Empty for a Page."""


class SandboxHandle:
    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        # There is no TLS here, and loading its certificates would take longer than most tests.
        self.http = httpx.AsyncClient(base_url=base_url, timeout=30.0, verify=False, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.http.aclose()

    async def call(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """A management call; its decoded answer. A refusal is an AssertionError with the sandbox's own words."""
        answer = await self.http.request(method, f"/sandbox/{path}", json=body, params=query or None)
        assert answer.is_success, f"{method} /sandbox/{path}: {answer.status_code} {answer.text}"
        return answer.json()

    async def until(self, condition: Callable[[], Awaitable[object]]) -> None:
        """Ask again and again until the condition holds; ten seconds are a failure."""
        async with asyncio.timeout(10):
            while not await condition():
                pass

    # Accounts.

    async def add_app(self, *, secret: str = "", verify_token: str = "") -> AppHandle:
        number = next(_ids)
        app = AppHandle(str(number), secret or f"secret-{number}", verify_token or f"verify-{number}")
        await self.call("POST", "apps", {"app_id": app.id, "app_secret": app.secret, "verify_token": app.verify_token})
        return app

    async def add_page(self, app: AppHandle, **settings: Any) -> ChannelHandle:
        """`settings` are those of a channel: latency_ms, window, delivered_rate, brake_per_second, ..."""
        number = next(_ids)
        page = ChannelHandle("messenger", str(number), f"page-token-{number}", app)
        await self.call(
            "POST",
            "pages",
            {"page_id": page.id, "app_id": app.id, "access_token": page.token, "settings": settings},
        )
        return page

    async def add_phone(self, app: AppHandle, *, waba_id: str = "", token: str = "", **settings: Any) -> ChannelHandle:
        number = next(_ids)
        phone = ChannelHandle(
            "whatsapp", str(number), token or f"phone-token-{number}", app, waba_id or str(next(_ids))
        )
        await self.call(
            "POST",
            "phone-numbers",
            {
                "phone_number_id": phone.id,
                "waba_id": phone.waba_id,
                "app_id": app.id,
                "access_token": phone.token,
                "settings": settings,
            },
        )
        return phone

    async def add_template(self, phone: ChannelHandle, name: str, **more: Any) -> None:
        """`more`: language, category, status, body_parameters, components, pacing."""
        await self.call("POST", "templates", {"waba_id": phone.waba_id, "name": name, **more})

    async def configure(self, channel: ChannelHandle | None = None, **settings: Any) -> None:
        """Change settings of one channel, or of all. Its limits start afresh."""
        await self.call("PATCH", "channels" if channel is None else f"channels/{channel.id}", settings)

    async def set_person(
        self,
        channel: ChannelHandle,
        recipient: str,
        *,
        standing: Literal["reachable", "unknown", "blocked", "opted_out"] = "reachable",
        last_inbound_ago_s: float | None = None,
    ) -> None:
        person = {"id": recipient, "standing": standing, "last_inbound_ago_s": last_inbound_ago_s}
        await self.call("PUT", "people", {"channel": channel.id, "people": [person]})

    async def script(self, channel: ChannelHandle, person: str, *events: dict[str, Any]) -> list[dict[str, Any]]:
        """What one person does, one thing after the other: `{"type": "text", "text": "Hi"}`; type, id, time of each."""
        answer = await self.call(
            "POST", "customers/script", {"channel": channel.id, "person": person, "events": list(events)}
        )
        return answer["people"][0]["events"]

    async def add_threads(self, channel: ChannelHandle, count: int, **more: Any) -> None:
        """`more`: messages, first_person, newest_ago_s, apart_s."""
        await self.call("POST", "customers/threads", {"channel": channel.id, "count": count, **more})

    async def actions(self, channel: ChannelHandle) -> list[dict[str, Any]]:
        """Typing indicators, read receipts and reactions of ours: action, recipient, about."""
        return (await self.call("GET", "actions", None, channel=channel.id))["actions"]

    # Sending, as a client of Meta's would.

    async def post(self, channel: ChannelHandle, body: Any) -> httpx.Response:
        """`POST /{channel}/messages` with the channel's token."""
        headers = {"authorization": f"Bearer {channel.token}"}
        return await self.http.post(f"/v26.0/{channel.id}/messages", json=body, headers=headers)

    async def get(self, channel: ChannelHandle, path: str, **query: Any) -> httpx.Response:
        """A read of the Graph API with the channel's token."""
        headers = {"authorization": f"Bearer {channel.token}"}
        return await self.http.get(f"/v26.0/{path}", params=query or None, headers=headers)

    async def send_text(
        self, channel: ChannelHandle, recipient: str, text: str = "Hello", key: str | None = None
    ) -> httpx.Response:
        return await self.post(channel, text_body(channel, recipient, text, key))

    # Webhooks, time, faults.

    async def set_webhook(self, app: AppHandle, url: str | None, *, verify: bool = False, **more: Any) -> None:
        """`more`: object = "page" or "whatsapp_business_account"; both without it."""
        await self.call("PUT", "webhooks", {"app_id": app.id, "callback_url": url, "verify": verify, **more})

    async def flush(self, *, hurry: bool = True, timeout_ms: float = 10_000) -> None:
        """Wait until every webhook was answered with 200; `hurry` skips their delays."""
        answer = await self.call("POST", "webhooks/flush", {"hurry": hurry, "timeout_ms": timeout_ms})
        assert answer["done"], answer

    async def configure_pump(self, **settings: Any) -> None:
        """tick_ms, max_updates, connections, timeout_ms, time_scale (of retries)."""
        await self.call("PUT", "pump", settings)

    async def add_faults(self, *faults: dict[str, Any]) -> list[dict[str, Any]]:
        """`{"kind": "error", "code": 2, "when": "after", "rate": 0.01, "channel": page.id}` and the like."""
        return (await self.call("POST", "faults", list(faults)))["faults"]

    async def faults(self) -> list[dict[str, Any]]:
        return (await self.call("GET", "faults"))["faults"]

    async def clear_faults(self) -> None:
        await self.call("DELETE", "faults")

    async def seed(self, seed: int) -> None:
        await self.call("PUT", "seed", {"seed": seed})

    async def freeze_clock(self) -> None:
        await self.call("PUT", "clock", {"frozen": True})

    async def advance_clock(self, seconds: float) -> None:
        await self.call("PUT", "clock", {"advance_s": seconds})

    async def reset(self, *, keep_accounts: bool = False) -> None:
        await self.call("POST", "reset", {"keep_accounts": keep_accounts})

    # What happened.

    async def ledger(self) -> dict[str, Any]:
        """accepted, unique_keys, duplicates, without_key, delivered, read, failed, and the same by channel."""
        return await self.call("GET", "ledger")

    async def messages(
        self, channel: ChannelHandle | None = None, recipient: str | None = None
    ) -> list[dict[str, Any]]:
        """All records in the order of acceptance: channel, recipient, key, provider_id, accepted_at, state, final."""
        query = {"limit": 10_000} | ({} if channel is None else {"channel": channel.id})
        query |= {} if recipient is None else {"recipient": recipient}
        found: list[dict[str, Any]] = []
        after: int | None = -1
        while after is not None:
            page = await self.call("GET", "ledger/messages", None, after=after, **query)
            found += page["messages"]
            after = page["after"]
        return found

    async def with_key(self, key: str) -> list[dict[str, Any]]:
        return (await self.call("GET", f"ledger/keys/{key}"))["messages"]

    async def peak(self, channel: ChannelHandle, window_ms: int) -> dict[str, Any]:
        """The most `calls` and `accepted` messages in any span of this length."""
        return await self.call("GET", "ledger/peak", None, channel=channel.id, window_ms=window_ms)

    async def stats(self) -> dict[str, Any]:
        """requests, connections_opened, requests_on_reused, webhooks {updates_pending, updates_delivered, ...}."""
        return await self.call("GET", "stats")


def text_body(channel: ChannelHandle, recipient: str, text: str = "Hello", key: str | None = None) -> dict[str, Any]:
    """The body of a plain text with a send key, for either kind of channel."""
    if channel.kind == "messenger":
        message = {"text": text} if key is None else {"text": text, "metadata": key}
        return {"recipient": {"id": recipient}, "messaging_type": "UPDATE", "message": message}
    body = {"messaging_product": "whatsapp", "to": recipient, "type": "text", "text": {"body": text}}
    return body if key is None else {**body, "biz_opaque_callback_data": key}


@asynccontextmanager
async def running_sandbox() -> AsyncIterator[SandboxHandle]:
    async with running() as sandbox, SandboxHandle(sandbox.base_url) as handle:
        yield handle
