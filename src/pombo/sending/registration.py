"""A worker's place in the table of workers: registered, renewed by heartbeats, registered anew when one came too late.

Heartbeats have a loop and a connection of their own: whatever else takes long must not make a worker look dead.
"""

import asyncio
import os

from pombo.domain.ids import WorkerId
from pombo.sending.identity import Identity, clock
from pombo.store import leases
from pombo.store.database import Connection
from pombo.telemetry import log


class Registration:
    """One per worker; `worker_id` is 0 until it is registered."""

    def __init__(self, url: str, name: str, lease_s: float, *, transient: bool) -> None:
        self._url = url
        self._name = name
        self._lease_s = lease_s
        self._transient = transient
        self._identities: list[Identity] = []
        """The present one, last, and former ones of which something is not over yet."""
        self.lost = asyncio.Event()
        """Set when the lease has ended: `register` makes a new identity."""
        self.lost.set()

    @property
    def worker_id(self) -> WorkerId:
        return self._identities[-1].worker_id if self._identities else WorkerId(0)

    @property
    def identity(self) -> Identity:
        return self._identities[-1]

    async def beat(self, connection: Connection) -> None:
        """Renews the lease four times as often as it ends. Raises DatabaseUnavailable."""
        while True:
            if not self.lost.is_set() and not await self._renew(connection):
                log.warning("worker_expired", worker=self.worker_id)
                self.lost.set()
            await asyncio.sleep(self._lease_s / 4)

    async def register(self, connection: Connection) -> Identity:
        """A new identity, once the former is lost."""
        asked_at = clock()
        worker_id = await leases.register(connection, self._name, os.getpid(), self._lease_s, transient=self._transient)
        identity = await Identity.assume(self._url, worker_id)
        identity.renewed(asked_at, self._lease_s)
        self._identities.append(identity)
        self.lost.clear()
        log.info("worker_registered", worker=worker_id)
        return identity

    async def release_former(self) -> None:
        """Those of which nothing is to come any more."""
        over = [identity for identity in self._identities[:-1] if not identity.open]
        self._identities = [identity for identity in self._identities if identity not in over]
        for identity in over:
            await identity.release()

    async def release_all(self) -> None:
        """At the end, when nothing of any is to come."""
        for identity in self._identities:
            await identity.release()

    async def _renew(self, connection: Connection) -> bool:
        identity, asked_at = self._identities[-1], clock()
        if not await leases.heartbeat(connection, identity.worker_id, self._lease_s):
            return False
        identity.renewed(asked_at, self._lease_s)
        return True
