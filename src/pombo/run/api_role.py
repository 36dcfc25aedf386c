"""`pombo api`: HTTP and the webhook receiver, on uvicorn."""

import asyncio
import contextlib
import socket
from functools import partial

import uvicorn
from starlette.types import ASGIApp

from pombo.api.app import create_app
from pombo.api.services import Services
from pombo.api.socket_protocol import SocketProtocol
from pombo.api.sockets import MOST_FRAME_BYTES
from pombo.api.webhooks import WebhookReceiver
from pombo.realtime.service import RealTime, RealTimeOptions
from pombo.run.cron import one_batch
from pombo.run.lifecycle import database_when_there, spare_the_collector, stop_on_signals, stop_with_supervisor
from pombo.run.media import media_files
from pombo.run.place import Place
from pombo.run.ports import listen
from pombo.settings import Settings
from pombo.store.database import Database
from pombo.telemetry import log

# Requests under way at a stop are given so long; Meta sends a webhook again that got no answer.
_GRACE_S = 3
# Meta opens many connections at once; a queue too short for them costs a second each.
_BACKLOG = 2048
# A client that takes nothing of what it is sent for so long is cut off by the kernel; connections inherit it. Otherwise
# a browser that was closed for reading too slowly would keep its connection for as long as it likes.
_SILENCE_MS = 30_000


async def run_api(settings: Settings, place: Place) -> None:
    """Until a signal. Raises SchemaError, or CommandFailed when the port cannot be had."""
    stop = stop_on_signals()
    async with database_when_there(place.database_url, "pombo api", stop) as database:
        if database is not None:
            await _serve(settings, place, database, stop)


async def _serve(settings: Settings, place: Place, database: Database, stop: asyncio.Event) -> None:
    listener = listen("API", "PORT", settings.host, settings.port, _BACKLOG)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENCE_MS)
    receiver = WebhookReceiver(database, place.box)
    realtime = RealTime(database, RealTimeOptions(sockets_per_workspace=settings.max_websockets))
    process_batch = partial(one_batch, settings, place, database)
    files = media_files(settings)
    app = create_app(Services(database, settings, place.box, receiver, realtime, process_batch, files))
    server = ApiServer(app)
    spare_the_collector()
    watching = asyncio.create_task(stop_with_supervisor(stop))
    served = asyncio.Event()
    telling = asyncio.create_task(realtime.run(served))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    stopped = asyncio.create_task(stop.wait())
    try:
        # `telling` ends before it is told to only by a bug, which its result then shows.
        await asyncio.wait([serving, telling, stopped], return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await serving
    finally:
        stopped.cancel()
        watching.cancel()
        await receiver.close()
        served.set()
        await telling
        log.info("api_stopped")


class ApiServer(uvicorn.Server):
    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="uvloop",
                http="httptools",
                ws=SocketProtocol,
                ws_max_size=MOST_FRAME_BYTES,
                # Compressing each frame for each browser would cost more than all the rest.
                ws_per_message_deflate=False,
                lifespan="off",
                access_log=False,
                log_level="warning",
                server_header=False,
                timeout_graceful_shutdown=_GRACE_S,
            )
        )

    def capture_signals(self) -> contextlib.AbstractContextManager[None]:  # type: ignore[override]
        """Signals are the role's, so that a supervisor's end and a signal take the same way."""
        return contextlib.nullcontext()
