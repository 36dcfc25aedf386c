"""The simulation's parts, wired together: what a reset throws away, and what outlives it."""

from pombo.sandbox.accounts import Accounts
from pombo.sandbox.chance import Chance
from pombo.sandbox.clock import Clock
from pombo.sandbox.connection import Traffic
from pombo.sandbox.faults import Faults
from pombo.sandbox.ledger import Ledger
from pombo.sandbox.pump import Pump, PumpSettings
from pombo.sandbox.submission import Submission

DEFAULT_SEED = 1


class World:
    """Everything that a reset throws away."""

    def __init__(self, clock: Clock, seed: int = DEFAULT_SEED, pump_settings: PumpSettings | None = None) -> None:
        self.clock = clock
        self.chance = Chance(seed)
        self.ledger = Ledger()
        self.accounts = Accounts()
        self.faults = Faults()
        self.pump = Pump(clock, self.ledger, self.accounts, pump_settings or PumpSettings())
        self.desk = Submission(clock, self.chance, self.ledger, self.faults, self.pump)

    def adopt_accounts(self, other: "World") -> None:
        """Take over the other world's accounts; every limit and every channel's book starts afresh."""
        self.accounts.apps.update(other.accounts.apps)
        self.accounts.accounts.update(other.accounts.accounts)
        for channel in other.accounts.channels.values():
            channel.book = self.ledger.book(channel.kind, channel.id)
            channel.configure(channel.settings)
            self.accounts.add_channel(channel)


class Simulation:
    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.traffic = Traffic()
        self.world = World(clock)

    async def reset(self, *, keep_accounts: bool) -> None:
        """Forget everything: messages, faults, limits, webhooks on their way and, unless kept, the accounts."""
        old = self.world
        self.world = World(self.clock, old.chance.seed, old.pump.settings)
        if keep_accounts:
            self.world.adopt_accounts(old)
        self.traffic.forget()
        await old.pump.close()
