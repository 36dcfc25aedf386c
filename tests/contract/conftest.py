"""A sandbox of its own for each test, with one app, one Page and one WhatsApp number, and a receiver of webhooks."""

from collections.abc import AsyncIterator

import pytest

from tests.sandbox_server import AppHandle, ChannelHandle, SandboxHandle, running_sandbox
from tests.webhook_receiver import WebhookReceiver, running_receiver


@pytest.fixture
async def sandbox() -> AsyncIterator[SandboxHandle]:
    async with running_sandbox() as handle:
        yield handle


@pytest.fixture
async def app(sandbox: SandboxHandle) -> AppHandle:
    return await sandbox.add_app()


@pytest.fixture
async def page(sandbox: SandboxHandle, app: AppHandle) -> ChannelHandle:
    return await sandbox.add_page(app)


@pytest.fixture
async def phone(sandbox: SandboxHandle, app: AppHandle) -> ChannelHandle:
    return await sandbox.add_phone(app)


@pytest.fixture
async def receiver(sandbox: SandboxHandle, app: AppHandle) -> AsyncIterator[WebhookReceiver]:
    """Already the app's callback for both kinds of webhook."""
    async with running_receiver() as running:
        await sandbox.set_webhook(app, running.url)
        yield running
