"""A process of a measured system: started, talked to by JSON lines, and ended by its own id."""

import asyncio
import contextlib
import json
import os
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import IO, Any

from bench.processes import family, peak_rss_mb

_END_S = 15.0
_TAIL = 2000


class ChildFailed(Exception):
    """The process ended; the message has the end of what it wrote to stderr."""


class Child:
    def __init__(self, process: asyncio.subprocess.Process, title: str, errors: IO[bytes]) -> None:
        self._process = process
        self._title = title
        self._errors = errors
        self._said: asyncio.Queue[bytes] = asyncio.Queue()
        self.pid = process.pid

    def processes(self) -> set[int]:
        return family(self.pid)

    def peak_rss_mb(self) -> float:
        return peak_rss_mb(self.processes())

    def tell(self, document: Mapping[str, Any]) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(document).encode() + b"\n")

    async def listen(self) -> None:
        """Takes what the process says off its pipe, so that it never waits for a listener."""
        assert self._process.stdout
        while line := await self._process.stdout.readline():
            self._said.put_nowait(line)
        self._said.put_nowait(b"")

    async def hear(self, name: str, timeout_s: float) -> Any:
        """The value of `name` in the next document that has it. Raises ChildFailed."""
        try:
            async with asyncio.timeout(timeout_s):
                while line := await self._said.get():
                    document = json.loads(line)
                    if name in document:
                        return document[name]
        except TimeoutError:
            raise ChildFailed(f"{self._title} did not say {name!r} within {timeout_s:.0f} s.\n{self.tail()}") from None
        except json.JSONDecodeError:
            raise ChildFailed(f"{self._title} said {line!r}.\n{self.tail()}") from None
        await self._process.wait()
        raise ChildFailed(f"{self._title} ended with {self._process.returncode}.\n{self.tail()}")

    async def fail_when_ended(self) -> None:
        """Never returns. Raises ChildFailed."""
        await self._process.wait()
        raise ChildFailed(f"{self._title} ended with {self._process.returncode}.\n{self.tail()}")

    def tail(self) -> str:
        self._errors.flush()
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - _TAIL))
        return self._errors.read().decode(errors="replace").strip()

    async def end(self) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            try:
                async with asyncio.timeout(_END_S):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()


@asynccontextmanager
async def child(
    title: str, command: Sequence[str], environment: Mapping[str, str], *, talks: bool = True
) -> AsyncIterator[Child]:
    """One that does not talk may write what it likes to stdout; it is kept with stderr."""
    with tempfile.TemporaryFile() as errors:
        process = await asyncio.create_subprocess_exec(
            *command,
            env={**os.environ, **environment},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE if talks else errors,
            stderr=errors,
        )
        started = Child(process, title, errors)
        listening = asyncio.create_task(started.listen()) if talks else None
        try:
            yield started
        finally:
            await started.end()
            if listening:
                await listening
