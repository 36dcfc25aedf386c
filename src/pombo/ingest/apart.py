"""Transactions of ingest, each tried again by itself."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from pombo.store.database import TRY_AGAIN, Connection, Database
from pombo.telemetry import log

_Done = TypeVar("_Done")

# A deadlock takes the server a second to notice; as many in a row are no accident.
_TRIES = 5


async def apart(database: Database, work: Callable[[Connection], Awaitable[_Done]], *settings: str) -> _Done:
    """`work` in a transaction of its own, which begins with these settings, until nobody is in its way.

    What others have committed before stays. Raises one of `TRY_AGAIN` in the end, or DatabaseUnavailable.
    """

    async def once() -> _Done:
        async with database.transaction(*settings) as connection:
            return await work(connection)

    for _ in range(_TRIES - 1):
        try:
            return await once()
        except TRY_AGAIN as error:
            log.info("ingest_tries_again", reason=type(error).__name__)
    return await once()
