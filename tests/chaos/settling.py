"""Bringing an installation to rest after its mishaps, as life would: nobody decides, traffic goes on."""

import asyncio

from pombo.upkeep.kept_receipts import KeptReceipts
from tests.chaos.installation import Installation

_TRAFFIC_S = 1.0
_UNSENT = """SELECT (SELECT count(*) FROM outbox WHERE state <> 'u')
                  + (SELECT count(*) FROM runs WHERE NOT expanded)"""


async def sent(installation: Installation) -> None:
    """Until nothing waits and nothing is in flight: every message is settled or in doubt."""

    async def holds() -> bool:
        return not await installation.value(_UNSENT)

    await installation.until("every message was sent, or is in doubt", holds)


async def settled(installation: Installation, but: int = 0) -> None:
    """Until no message is in doubt, but for those of one channel.

    What was never accepted is sent again once later messages prove that it is safe.
    """
    await sent(installation)

    async def holds() -> bool:
        if await installation.value(_UNSENT):
            return False
        if not await installation.value("SELECT count(*) FROM outbox WHERE channel_id <> $1", but):
            return True
        await installation.send(len(installation.channels))
        await asyncio.sleep(_TRAFFIC_S)
        return False

    await installation.until("every doubt was settled", holds)


async def told(installation: Installation) -> None:
    """Until all webhooks of the sandbox were answered with 200 and applied."""
    await installation.sandbox.flush(timeout_ms=60_000)

    async def holds() -> bool:
        return not await installation.value(
            "SELECT (SELECT count(*) FROM webhook_queue) + (SELECT count(*) FROM run_deltas)"
        )

    await installation.until("all webhooks are applied and counted", holds)
    # What a crash left between a commit and the look at what was kept: workers look at it once a minute.
    await KeptReceipts().run_once(installation.database)


async def rested(installation: Installation, but: int = 0) -> None:
    """All of it, one after the other; doubts of the channel `but` may remain."""
    await installation.calm()
    await installation.hurry()
    await settled(installation, but)
    await told(installation)


async def all_held(installation: Installation) -> None:
    """Until whatever is in doubt is held, though traffic goes on."""
    await sent(installation)

    async def nobody_can_send_it_any_more() -> bool:
        return not await installation.value("SELECT count(*) FROM doubts WHERE ended_at IS NULL")

    await installation.until("of every doubt nothing can leave any more", nobody_can_send_it_any_more)
    await installation.send(len(installation.channels))

    async def holds() -> bool:
        return not await installation.value(f"SELECT ({_UNSENT}) + (SELECT count(*) FROM doubts WHERE held IS NULL)")

    await installation.until("every doubt is held", holds)
