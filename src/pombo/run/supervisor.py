"""`pombo up`: one command that runs every role as a process of its own, and starts again what ends by itself.

Stopping goes against the stream: first the workers (they write their outcomes), then the API (which takes webhooks
until then), then the rest, then the embedded database.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pombo.run.lifecycle import SUPERVISOR_VARIABLE
from pombo.telemetry import log

# A worker needs up to 18 s to give what is in flight its chance and to write the outcomes; see pombo.sending.worker.
_STOP_S = {"worker": 22.0, "api": 4.0, "sandbox": 2.0}
_LONGEST_PAUSE_S = 30.0
# A role that ran for so long did not fail at its start: it is begun again at once.
_STEADY_S = 60.0


@dataclass(slots=True)
class Role:
    name: str
    """worker, api or sandbox: the command it runs."""
    arguments: Sequence[str] = ()
    count: int = 1


@dataclass(slots=True)
class Supervisor:
    roles: Sequence[Role]
    environment: dict[str, str]
    log: Path | None = None
    """Where the roles' output goes; None: where the supervisor's goes."""
    _children: dict[str, list[asyncio.subprocess.Process]] = field(default_factory=dict)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set and all children have ended."""
        watchers = [
            asyncio.create_task(self._keep(role, number)) for role in self.roles for number in range(role.count)
        ]
        await stop.wait()
        self._stop.set()
        for role in self.roles:
            await self._end(role.name)
        await asyncio.gather(*watchers)

    def children(self, name: str) -> list[asyncio.subprocess.Process]:
        """The running processes of a role."""
        return [child for child in self._children.get(name, ()) if child.returncode is None]

    async def _keep(self, role: Role, number: int) -> None:
        clock = asyncio.get_running_loop().time
        pause = 1.0
        while not self._stop.is_set():
            started = clock()
            try:
                process = await self._spawn(role)
            except OSError as error:
                log.error("role_not_started", name=role.name, number=number, reason=str(error))
                await self._pause(_LONGEST_PAUSE_S)
                continue
            if self._stop.is_set():
                _signal(process, signal.SIGTERM)
            children = self._children.setdefault(role.name, [])
            children.append(process)
            code = await process.wait()
            children.remove(process)
            if self._stop.is_set():
                return
            log.error("role_ended", name=role.name, number=number, code=code)
            pause = 1.0 if clock() - started > _STEADY_S else min(pause * 2, _LONGEST_PAUSE_S)
            await self._pause(pause)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()

    async def _spawn(self, role: Role) -> asyncio.subprocess.Process:
        output = None if self.log is None else self.log.open("ab")
        try:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "pombo",
                role.name,
                *role.arguments,
                env={**os.environ, **self.environment, SUPERVISOR_VARIABLE: str(os.getpid())},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C reaches the supervisor alone, which stops the roles in their order.
                start_new_session=True,
            )
        finally:
            if output is not None:
                output.close()

    async def _end(self, name: str) -> None:
        children = list(self._children.get(name, ()))
        for child in children:
            _signal(child, signal.SIGTERM)
        if not children:
            return
        waits = [asyncio.create_task(child.wait()) for child in children]
        _, late = await asyncio.wait(waits, timeout=_STOP_S[name])
        if late:
            log.error("role_killed", name=name, count=len(late))
            for child in children:
                _signal(child, signal.SIGKILL)
            await asyncio.wait(late)


def _signal(child: asyncio.subprocess.Process, number: signal.Signals) -> None:
    if child.returncode is None:
        child.send_signal(number)
