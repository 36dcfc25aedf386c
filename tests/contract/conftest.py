"""A receiver of the webhooks of each test's own sandbox."""

from collections.abc import AsyncIterator

import pytest

from tests.sandbox_server import AppHandle, SandboxHandle
from tests.webhook_receiver import WebhookReceiver, running_receiver


@pytest.fixture
async def receiver(sandbox: SandboxHandle, app: AppHandle) -> AsyncIterator[WebhookReceiver]:
    """Already the app's callback for both kinds of webhook."""
    async with running_receiver() as running:
        await sandbox.set_webhook(app, running.url)
        yield running
