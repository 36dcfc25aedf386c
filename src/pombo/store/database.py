"""Pools of connections by database role, and what counts as "the database is away".

`app` is held by row-level security: open a `tenant` transaction and see one workspace. `worker` passes it: ingest,
upkeep, webhooks, bulk COPY; and so does `lanes`, for loops that keep their connection, with short statements that
nobody may wait for in vain. `owner` makes and drops partitions.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import asyncpg

from pombo.store import schema
from pombo.store.errors import DatabaseUnavailable

Role = Literal["pombo_owner", "pombo_worker", "pombo_app"]
if TYPE_CHECKING:
    Connection = asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any]
    Pool = asyncpg.Pool[Any]
else:
    # The driver's classes are generic to the type checker alone.
    Connection, Pool = asyncpg.Connection, asyncpg.Pool

# Errors that say nothing of the statement, only that the server was not there to decide it.
AWAY = (
    OSError,
    asyncio.TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    # A standby, or a primary that was demoted: another is the primary now.
    asyncpg.ReadOnlySQLTransactionError,
    # The driver's own state after a connection broke in the middle of something.
    asyncpg.InternalClientError,
    # A wrong password or database name in DATABASE_URL: nothing is there for us.
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)

_GONE = re.compile("clos|released back to the pool")

TRY_AGAIN = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.LockNotAvailableError)
"""Two transactions were in each other's way: the same again, from the start, goes through."""

# A connection attempt that takes longer has failed for its caller.
_CONNECT_TIMEOUT_S = 5.0
# The server ends a session that holds a transaction open and idle, before its locks and its snapshot hurt the lanes.
_IDLE_IN_TRANSACTION = "3s"
# That does not reach a client which fell silent (was stopped, or cut off) between preparing a statement and executing
# it, because its session does not count as idle then. This does, from PostgreSQL 17 on. Ours take a second at most.
_BOUND = "SET LOCAL transaction_timeout = '20s'"
# A connection that is given back, or closed, has to answer within this time.
_GIVE_BACK_S = 2.0
# The loops of a worker that sends take nine, most of them for as long as it runs; made when they are needed.
_LANE_CONNECTIONS = 32
# Whether a connection that only listens still leads anywhere is asked so often.
_PULSE_S = 2.0
_PULSE_TIMEOUT_S = 4.0
_RETRY_S = 0.5


class _Patience(NamedTuple):
    """The server ends a statement after `statement`, of which a client that was silently cut off does not hear: that
    gives up after `command_s`, when the statement is over on the server as well."""

    statement: str
    command_s: float


# A request's caller has given up by then.
_REQUESTS = _Patience("15s", 20.0)
# A statement of the lanes takes a second at most, unless the server is in trouble.
_LANES = _Patience("15s", 18.0)
# Whole imports, pages of history, sweeps of old rows.
_WORK = _Patience("60s", 65.0)
# DDL has its own lock time-outs and may wait for a long reader.
_NONE = _Patience("0", 0.0)


def _settings(role: Role, application: str, patience: _Patience) -> dict[str, str]:
    return {
        "role": role,
        "search_path": "pombo,public",
        "application_name": application,
        "timezone": "UTC",
        "jit": "off",
        "idle_in_transaction_session_timeout": _IDLE_IN_TRANSACTION,
        "statement_timeout": patience.statement,
    }


async def connect(url: str, role: Role, application: str = "pombo") -> Connection:
    """One connection outside any pool. Raises DatabaseUnavailable."""
    settings = _settings(role, application, _NONE if role == "pombo_owner" else _WORK)
    try:
        return await asyncpg.connect(url, timeout=_CONNECT_TIMEOUT_S, server_settings=settings)
    except AWAY as error:
        raise DatabaseUnavailable(f"The database does not answer: {error}") from error


async def close(connection: Connection) -> None:
    """One made by `connect`. Waits for no answer of one that leads nowhere."""
    with contextlib.suppress(TimeoutError):
        await connection.close(timeout=_GIVE_BACK_S)


class Database:
    """All pools of one process. Open with `async with Database.open(url) as database`."""

    def __init__(self, url: str, application: str, app_size: int, worker_size: int) -> None:
        self.url = url
        self._application = application
        self.app: Pool = self._pool("pombo_app", app_size, _REQUESTS, _as_it_is)
        self.worker: Pool = self._pool("pombo_worker", worker_size, _WORK, _as_it_is)
        self.lanes: Pool = self._pool("pombo_worker", _LANE_CONNECTIONS, _LANES)

    def _pool(
        self, role: Role, size: int, patience: _Patience, reset: Callable[[Connection], Awaitable[None]] | None = None
    ) -> Pool:
        return asyncpg.create_pool(
            self.url,
            min_size=0,
            max_size=size,
            timeout=_CONNECT_TIMEOUT_S,
            command_timeout=patience.command_s,
            reset=reset,
            server_settings=_settings(role, self._application, patience),
        )

    @classmethod
    @asynccontextmanager
    async def open(
        cls, url: str, application: str = "pombo", *, app_size: int = 8, worker_size: int = 16
    ) -> AsyncIterator["Database"]:
        """Raises DatabaseUnavailable, or SchemaError when the schema is not the one this Pombo knows."""
        database = cls(url, application, app_size, worker_size)
        async with _opened(database.app), _opened(database.worker), _opened(database.lanes):
            try:
                async with database.borrow() as connection:
                    await schema.check(connection)
            except asyncpg.InvalidParameterValueError as error:
                # "role pombo_worker does not exist": the first migration makes the roles.
                raise schema.missing() from error
            yield database

    @asynccontextmanager
    async def tenant(self, workspace_id: int, *settings: str) -> AsyncIterator[Connection]:
        """A transaction that sees one workspace; it begins with these statements, as `pombo.store.planning` has them.

        Raises DatabaseUnavailable.
        """
        with away():
            async with _of(self.app) as connection:
                sees = f"SET LOCAL pombo.workspace_id = '{int(workspace_id)}'"
                async with _transaction(connection, sees, *_bound(connection), *settings):
                    yield connection

    @asynccontextmanager
    async def borrow(self, *, for_lanes: bool = False) -> AsyncIterator[Connection]:
        """A worker connection, each statement its own transaction. Raises DatabaseUnavailable.

        One of the lanes may be given settings, locks and cursors that last for the session, and no other: they end when
        it is given back.
        """
        with away():
            async with _of(self.lanes if for_lanes else self.worker) as connection:
                yield connection

    @asynccontextmanager
    async def transaction(self, *settings: str, bounded: bool = True) -> AsyncIterator[Connection]:
        """A worker connection in one transaction, which the server ends unless it is over in 20 s.

        One that is not `bounded` must hold no locks that anybody waits for. Raises DatabaseUnavailable.
        """
        async with self.borrow() as connection:
            bound = _bound(connection) if bounded else []
            async with _transaction(connection, *bound, *settings):
                yield connection

    @asynccontextmanager
    async def listen(self, bells: dict[str, Callable[[str], None]]) -> AsyncIterator[Connection]:
        """A connection of its own that calls `bells[name](payload)` on each NOTIFY; ends with DatabaseUnavailable."""
        connection = await connect(self.url, "pombo_worker", self._application)
        try:
            for name, ring in bells.items():
                await connection.add_listener(name, lambda _c, _p, _n, payload, ring=ring: ring(payload))
            yield connection
        finally:
            await close(connection)

    async def keep_listening(self, bells: dict[str, Callable[[str], None]], began: Callable[[], None]) -> None:
        """As `listen`, until cancelled: again whenever the connection is lost, or leads nowhere any more.

        `began` is called each time, for what was rung meanwhile was not heard.
        """
        while True:
            with contextlib.suppress(DatabaseUnavailable):
                async with self.listen(bells) as connection:
                    began()
                    while True:
                        with away():
                            await connection.execute("SELECT", timeout=_PULSE_TIMEOUT_S)
                        await asyncio.sleep(_PULSE_S)
            await asyncio.sleep(_RETRY_S)


async def _as_it_is(connection: Connection) -> None:
    """When a connection is given back, a transaction left open is rolled back by the driver. There is nothing else to
    undo, and to ask for it would be a round trip for each borrower."""


@asynccontextmanager
async def _of(pool: Pool) -> AsyncIterator[Connection]:
    connection = await pool.acquire()
    try:
        yield connection
    except TimeoutError:
        # It may lead nowhere; to give it back would wait for its answer as long again.
        connection.terminate()
        raise
    finally:
        # What was cancelled in the middle of a statement is cancelled on the server too, or else terminated.
        with contextlib.suppress(TimeoutError):
            await pool.release(connection, timeout=_GIVE_BACK_S)


@asynccontextmanager
async def _opened(pool: Pool) -> AsyncIterator[None]:
    async with pool:
        yield
        try:
            async with asyncio.timeout(_GIVE_BACK_S):
                await pool.close()
        except TimeoutError:
            pool.terminate()


@asynccontextmanager
async def atomic(connection: Connection) -> AsyncIterator[None]:
    """A transaction, which the server ends unless it is over in 20 s, or a part of the one that is under way: undone as
    a whole by whatever is raised in it."""
    if not connection.is_in_transaction():
        async with _transaction(connection, *_bound(connection)):
            yield
        return
    await connection.execute("SAVEPOINT part")
    try:
        yield
    except BaseException:
        await _undo(connection, "ROLLBACK TO part; RELEASE part")
        raise
    await connection.execute("RELEASE part")


@asynccontextmanager
async def _transaction(connection: Connection, *settings: str) -> AsyncIterator[None]:
    """In place of the driver's own: this one begins with its settings in a single round trip."""
    try:
        await connection.execute("; ".join(("BEGIN", *settings)))
        yield
        ended = await connection.execute("COMMIT")
    except BaseException:
        # Whatever the driver knows: one that was cancelled in the middle of BEGIN has begun.
        await _undo(connection, "ROLLBACK")
        raise
    if ended != "COMMIT":
        raise RuntimeError("Nothing was committed: an error within the transaction was passed over.")


async def _undo(connection: Connection, statement: str) -> None:
    # On a connection that broke the server undoes it by itself, and what broke it is to be told.
    with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError):
        await connection.execute(statement)


def _bound(connection: Connection) -> list[str]:
    return [_BOUND] if connection.get_server_version()[:2] >= (17, 0) else []


class away:  # noqa: N801  (reads as a word: `with away():`)
    """Turns "the server is not there" of the driver into DatabaseUnavailable."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        # The driver's word for a closed connection or pool is the same as for a wrong call of ours.
        if isinstance(error, AWAY) or (isinstance(error, asyncpg.InterfaceError) and _GONE.search(str(error))):
            raise DatabaseUnavailable(f"The database does not answer: {error}") from error
