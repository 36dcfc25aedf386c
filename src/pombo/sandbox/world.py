"""The simulation's parts, wired together: what a reset throws away, and what outlives it."""

from pombo.sandbox.accounts import Accounts
from pombo.sandbox.chance import Chance
from pombo.sandbox.clock import Clock
from pombo.sandbox.connection import Traffic
from pombo.sandbox.customers import Customers
from pombo.sandbox.faults import Faults
from pombo.sandbox.ledger import Ledger
from pombo.sandbox.media import MediaShelf
from pombo.sandbox.media_urls import MediaUrls
from pombo.sandbox.pump import Pump, PumpSettings
from pombo.sandbox.submission import Submission
from pombo.sandbox.template_desk import TemplateDesk
from pombo.sandbox.threads import Threads

DEFAULT_SEED = 1


class World:
    """Everything that a reset throws away."""

    def __init__(
        self, clock: Clock, base_url: str, seed: int = DEFAULT_SEED, pump_settings: PumpSettings | None = None
    ) -> None:
        self.clock = clock
        self.chance = Chance(seed)
        self.ledger = Ledger()
        self.accounts = Accounts()
        self.faults = Faults()
        self.pump = Pump(clock, self.ledger, self.accounts, pump_settings or PumpSettings())
        self.threads = Threads()
        self.media = MediaShelf(clock.now)
        self.urls = MediaUrls(clock, base_url)
        self.templates = TemplateDesk(clock, self.pump)
        self.customers = Customers(
            clock,
            self.chance,
            self.faults,
            self.pump,
            self.threads,
            self.media,
            self.urls,
            lambda channel, person_id: self.ledger.last_sent(channel.book, person_id),
        )
        self.desk = Submission(clock, self.chance, self.ledger, self.faults, self.pump, self.threads, self.customers)

    def adopt_accounts(self, other: "World") -> None:
        """Take over the other world's accounts; every limit and every channel's book starts afresh."""
        self.accounts.apps.update(other.accounts.apps)
        self.accounts.accounts.update(other.accounts.accounts)
        for channel in other.accounts.channels.values():
            channel.book = self.ledger.book(channel.kind, channel.id)
            channel.threads = self.threads.of_channel(channel.id)
            channel.actions.clear()
            channel.configure(channel.settings)
            self.accounts.add_channel(channel)


class Simulation:
    def __init__(self, clock: Clock, base_url: str) -> None:
        """`base_url` is where it will listen: the addresses of media begin with it."""
        self.clock = clock
        self.traffic = Traffic()
        self.world = World(clock, base_url)

    async def reset(self, *, keep_accounts: bool) -> None:
        """Forget everything: messages, faults, limits, webhooks on their way and, unless kept, the accounts."""
        old = self.world
        self.world = World(self.clock, old.urls.base_url, old.chance.seed, old.pump.settings)
        if keep_accounts:
            self.world.adopt_accounts(old)
        self.traffic.forget()
        await old.pump.close()
