"""One role of Pombo's as a process of its own, which may be killed, stopped and started again at any moment."""

import asyncio
import os
import signal
import sys
from pathlib import Path


class Role:
    def __init__(self, name: str, variables: dict[str, str], log: Path, directory: Path) -> None:
        self.name = name
        """The command: worker or api."""
        self.kills = 0
        self._variables = variables
        self._log = log
        self._directory = directory
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "pombo",
                self.name,
                env={**os.environ, **self._variables},
                cwd=self._directory,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def kill(self) -> None:
        """SIGKILL, also of one that is stopped."""
        if self.runs:
            assert self._process is not None
            self._process.kill()
            await self._process.wait()
            self.kills += 1

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self.runs, f"the {self.name} has ended by itself: {self.log_end()}"
        assert self._process is not None
        self._process.send_signal(number)

    def log_end(self, size: int = 3000) -> str:
        return self._log.read_text(errors="replace")[-size:]
