"""`pombo up`: the place is opened, migrated and kept in partitions, then the roles run under a supervisor."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import typer
import uvloop

from pombo.run.lifecycle import stop_on_signals
from pombo.run.place import Place, open_place
from pombo.run.ports import check_free
from pombo.run.reload import Reload, first_of
from pombo.run.supervisor import Role, Supervisor
from pombo.sending.worker import worker_name
from pombo.settings import Settings
from pombo.store import partitions, schema, workers_view
from pombo.store.database import away, close, connect
from pombo.store.errors import DatabaseUnavailable
from pombo.telemetry import log

SANDBOX_PORT = 3200
# How soon a killed database server is noticed.
_LOOK_S = 1.0
# A worker ends what it does in 18 s at most, and begins anew within some more; the next one does not wait for longer.
_RELOAD_S = 30.0
_RELOAD_LOOK_S = 0.1


def migrate_embedded(settings: Settings, place: Place) -> None:
    """The embedded database follows this Pombo by itself; a server of one's own waits for `pombo migrate`."""
    if settings.external_database_url() is None:
        schema.migrate(place.database_url)
        asyncio.run(partitions.create(place.database_url, settings.partition_days_ahead))


def roles(settings: Settings, workers: int | None, sandbox: bool) -> list[Role]:
    """In the order in which they stop."""
    found = [Role("worker", count=workers if workers is not None else os.cpu_count() or 1), Role("api")]
    if sandbox:
        found.append(Role("sandbox", ("--port", str(SANDBOX_PORT))))
    return found


@contextmanager
def prepared(settings: Settings) -> Iterator[Place]:
    with open_place(settings) as place:
        migrate_embedded(settings, place)
        yield place


def run(settings: Settings, workers: int | None, sandbox: bool) -> None:
    """Raises CommandFailed when a port is taken: a second `pombo up`, most often."""
    check_free("API", "PORT", settings.host, settings.port)
    if sandbox:
        check_free("sandbox", "`pombo sandbox --port`, run apart,", "127.0.0.1", SANDBOX_PORT)
    with prepared(settings) as place:
        environment = place.environment()
        if sandbox:
            environment["GRAPH_API_URL"] = f"http://127.0.0.1:{SANDBOX_PORT}"
        supervisor = Supervisor(roles(settings, workers, sandbox), environment)

        async def supervise() -> None:
            stop = stop_on_signals()
            typer.echo(f"Pombo starts: API at http://{settings.host}:{settings.port}, Ctrl-C stops.", err=True)
            keeping = asyncio.create_task(keep_database(place, stop))
            reloading = asyncio.create_task(reload_workers(place, supervisor, Reload(settings, stop), stop))
            await supervisor.run(stop)
            await asyncio.gather(keeping, reloading)

        uvloop.run(supervise())


async def keep_database(place: Place, stop: asyncio.Event) -> None:
    """Starts the embedded server again when it was killed."""
    while place.server is not None and not stop.is_set():
        try:
            if await asyncio.to_thread(place.server.revive):
                log.error("database_started_again")
        except DatabaseUnavailable as error:
            log.error("database_not_started", reason=str(error))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_S):
                await stop.wait()


async def reload_workers(place: Place, supervisor: Supervisor, reload: Reload, stop: asyncio.Event) -> None:
    """At SIGHUP passes it on to one worker after another, so that the others serve its channels meanwhile."""
    while not stop.is_set():
        async with first_of(stop, reload.wanted) as awaited:
            await awaited.wait()
        reload.wanted.clear()
        for child in supervisor.children("worker"):
            if stop.is_set():
                return
            before = await _registered(place, child.pid)
            child.send_signal(signal.SIGHUP)
            try:
                async with asyncio.timeout(_RELOAD_S):
                    while child.returncode is None and not stop.is_set():
                        if await _registered(place, child.pid) > before:
                            break
                        await asyncio.sleep(_RELOAD_LOOK_S)
            except TimeoutError:
                log.error("worker_not_reloaded", pid=child.pid)
            else:
                log.info("worker_reloaded", pid=child.pid)


async def _registered(place: Place, pid: int) -> int:
    """The newest id of that process' worker, 0 when there is none, or nobody to ask."""
    try:
        connection = await connect(place.database_url, "pombo_worker", "pombo up")
    except DatabaseUnavailable:
        return 0
    try:
        with away():
            return await workers_view.newest_worker(connection, worker_name(pid))
    except DatabaseUnavailable:
        return 0
    finally:
        await close(connection)
