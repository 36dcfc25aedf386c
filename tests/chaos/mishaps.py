"""What befalls an installation: each once, with what a service manager or an operator does about it."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

from tests.chaos.installation import Installation

Mishap = Callable[[Installation], Awaitable[None]]


def _one(installation: Installation) -> int:
    return installation.chance.randrange(len(installation.workers))


async def a_while(installation: Installation, longest_s: float = 0.5) -> None:
    await asyncio.sleep(installation.chance.uniform(0.0, longest_s))


async def one_worker_is_killed(installation: Installation) -> None:
    worker = installation.workers[_one(installation)]
    await worker.kill()
    await a_while(installation)
    await worker.start()


async def all_workers_are_killed(installation: Installation) -> None:
    await asyncio.gather(*(worker.kill() for worker in installation.workers))
    await a_while(installation)
    await asyncio.gather(*(worker.start() for worker in installation.workers))


async def has_lost_all_channels(installation: Installation, was: set[int]) -> None:
    """Until the channels of these workers have new owners, and what they had in flight is in doubt."""

    async def holds() -> bool:
        held = await installation.value(
            """SELECT (SELECT count(*) FROM channel_leases WHERE worker_id = ANY ($1))
                    + (SELECT count(*) FROM intents WHERE worker_id = ANY ($1))""",
            list(was),
        )
        return held == 0

    await installation.until(f"workers {was} lost their channels", holds)


async def identities(installation: Installation, worker: int) -> set[int]:
    """What a worker's process is called in the database."""
    pid = installation.workers[worker].pid
    return {row["id"] for row in await installation.fetch("SELECT id FROM workers WHERE pid = $1", pid)}


async def registered(installation: Installation, worker: int) -> set[int]:
    """Its identities, once it has channels of its own."""

    async def holds() -> bool:
        return await installation.value(
            """SELECT count(*) FROM channel_leases l JOIN workers w ON w.id = l.worker_id
               WHERE w.pid = $1 AND w.expires_at > now()""",
            installation.workers[worker].pid,
        )

    await installation.until(f"worker {worker} has channels", holds)
    return await identities(installation, worker)


async def a_worker_is_stopped_for_longer_than_its_lease(installation: Installation) -> None:
    worker = _one(installation)
    known = await registered(installation, worker)
    installation.workers[worker].freeze()
    await has_lost_all_channels(installation, known)
    await a_while(installation)
    installation.workers[worker].thaw()


async def a_worker_is_stopped_right_before_it_writes(installation: Installation) -> None:
    """Between the look at its deadline and the first byte, and until others hold its message because it may live.

    It wakes up in a world that has gone on without it, and writes the message.
    """
    worker, file = (number := _one(installation)), installation.stop_file(number)
    known = await registered(installation, worker)
    file.touch()

    async def has_stopped() -> bool:
        return not file.exists()

    await installation.until(f"worker {worker} has stopped itself", has_stopped)
    await has_lost_all_channels(installation, known)

    in_doubt = "SELECT message_id FROM doubts WHERE worker_id = ANY ($1)"
    messages = [row["message_id"] for row in await installation.fetch(in_doubt, known)]

    async def are_held_or_settled() -> bool:
        return not await installation.value(
            """SELECT count(*) FROM outbox o LEFT JOIN doubts d ON d.message_id = o.id
               WHERE o.id = ANY ($1) AND d.held IS DISTINCT FROM 'worker_may_live'""",
            messages,
        )

    await installation.until("its messages are held or settled", are_held_or_settled)
    installation.workers[worker].thaw()


async def a_worker_is_cut_off_from_the_database(installation: Installation) -> None:
    """For longer than its lease, while Meta's answers reach it."""
    worker = _one(installation)
    known = await registered(installation, worker)
    line = installation.database_lines[worker]
    line.silence()
    await has_lost_all_channels(installation, known)
    await a_while(installation)
    # The network comes back, or a firewall has forgotten its connections meanwhile.
    line.speak(forget=installation.chance.random() < 0.5)


async def the_database_is_killed(installation: Installation) -> None:
    server = installation.server
    assert server is not None
    # An immediate shutdown lets go of everything, and a killed postmaster takes its children with it.
    os.kill(server.pid, installation.chance.choice([signal.SIGQUIT, signal.SIGKILL]))
    await a_while(installation)

    async def runs_again() -> bool:
        return await asyncio.to_thread(server.revive)

    await installation.until("the database was started again", runs_again)


async def the_api_is_killed_before_it_says_200(installation: Installation) -> None:
    """A webhook is stored, its 200 is not sent: Meta sends it again, to another API."""
    line, dying = installation.webhook_line, installation.apis[-1]
    present = line.upstream
    await installation.another_api()
    line.upstream, next_one = present, line.upstream
    about_to_answer = asyncio.Event()

    def swallow() -> bool:
        about_to_answer.set()
        return True

    line.swallow_answer = swallow
    # While the other API was starting, all webhooks of what was sent before may have come.
    await installation.send(len(installation.channels))
    async with asyncio.timeout(installation.scale.patience_s):
        await about_to_answer.wait()
    await dying.kill()
    line.swallow_answer, line.upstream = None, next_one
