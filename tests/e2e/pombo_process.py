"""`pombo` commands as real processes, in a directory of their own."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

_READY_S = 60.0
# What the service promises; see `pombo up --help`.
STOP_S = 30.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Installation:
    """One data directory, and the settings that its commands get."""

    directory: Path
    environment: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def variables(self) -> dict[str, str]:
        """The environment of its commands."""
        inherited = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH")}
        return {
            **inherited,
            "POMBO_DATA_DIR": str(self.directory / "data"),
            "PORT": str(self.port),
            "LOG_LEVEL": "warning",
            **self.environment,
        }

    def run(
        self, *arguments: str, stdin: str | None = None, status: int = 0, timeout: float = 60.0, output: str = ""
    ) -> str:
        """What the command prints (of a failing one, on stderr unless said otherwise); it must end with `status`."""
        ended = subprocess.run(
            [sys.executable, "-m", "pombo", *arguments],
            env=self.variables(),
            cwd=self.directory,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert ended.returncode == status, f"{arguments}: {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
        return ended.stdout if status == 0 or output == "stdout" else ended.stderr

    @contextmanager
    def up(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """`pombo up`, ready to answer; stopped by SIGTERM if it still runs at the end."""
        with (self.directory / "up.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "pombo", "up", *arguments],
                env=self.variables(),
                cwd=self.directory,
                stdout=log,
                stderr=log,
            )
        try:
            await_answer(process, f"{self.url}/health")
            yield process
        except AssertionError:
            sys.stderr.write((self.directory / "up.log").read_text(errors="replace")[-5000:])
            raise
        finally:
            if process.poll() is None:
                stop(process)


def await_answer(process: subprocess.Popen[bytes], url: str) -> None:
    """Until a GET is answered with 200; an AssertionError when the process ends or is not ready in time."""
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert not process_wait(process, 0.05), f"the process for {url} ended with {process.returncode}"
    raise AssertionError(f"{url} does not answer after {_READY_S} s")


def process_wait(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether it ended within that time."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def stop(process: subprocess.Popen[bytes]) -> float:
    """SIGTERM; how long it took to end, which is a failure above what is promised."""
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process_wait(process, STOP_S), "still running 30 s after SIGTERM"
    assert process.returncode == 0, process.returncode
    return time.monotonic() - began
