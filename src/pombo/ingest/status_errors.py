"""What an error in a status means beyond its message: for the person, for campaigns and for channels.

Many errors come only so, after the message was accepted. They mean what they mean in a direct answer, where
`pombo.sending.consequences` heeds them; workers learn of it from the tables.
"""

from collections.abc import Iterable, Sequence

from pombo.domain.outcomes import SendError
from pombo.domain.reactions import Reaction, reaction_to
from pombo.ingest.gathering import Failure
from pombo.store import channels, consequences, suppressions, undelivered
from pombo.store.channels import Stop
from pombo.store.consequences import RunPause
from pombo.store.database import Connection
from pombo.store.suppressions import Suppression
from pombo.store.undelivered import Undelivered
from pombo.telemetry import log

_Heeded = tuple[Failure, Undelivered]


async def heed(connection: Connection, failures: Sequence[Failure]) -> None:
    """In the transaction that moves the receipts, before they move: each message is heeded once, when it fails.

    What was started or resumed after the error stays so.
    """
    wide = {failure.receipt: failure for failure in failures if _concerns_others(failure.error)}
    if not wide:
        return
    news = [(wide[found.receipt], found) for found in await undelivered.news(connection, list(wide))]
    if people := _people(news):
        await suppressions.suppress(connection, people)
        await suppressions.withdraw(connection, people)
    for pause in _pauses(news):
        for run_id in await consequences.pause_for(connection, pause):
            log.warning("run_paused_by_error", workspace_id=pause.workspace_id, run_id=run_id, code=pause.code)
    for stop in _stops(news):
        for _, channel_id in await channels.stop_channels(connection, [stop]):
            log.error("channel_stopped", channel=channel_id, code=int(stop.code), subcode=0, scope=stop.scope.value)


def _concerns_others(error: SendError) -> bool:
    return error.opt_out or reaction_to(error) in (Reaction.STOP, Reaction.PAUSE_RUNS)


def _people(news: Iterable[_Heeded]) -> list[Suppression]:
    """Under the address that was sent to, and the one that Meta gives: the next campaign may have either."""
    people: dict[tuple[int, str], Suppression] = {}
    for failure, found in news:
        if failure.error.opt_out:
            workspace_id, error = failure.receipt.workspace_id, failure.error
            for recipient in {found.recipient, failure.recipient or found.recipient}:
                people[workspace_id, recipient] = Suppression(
                    workspace_id, failure.kind, recipient, error.words, error.full_code
                )
    return list(people.values())


def _pauses(news: Iterable[_Heeded]) -> list[RunPause]:
    """The latest of each run and template; a direct message pauses the campaigns with its template."""
    pauses: dict[tuple[int, int, int, tuple[str, str] | None], RunPause] = {}
    for failure, found in _in_time(news):
        if reaction_to(failure.error) is Reaction.PAUSE_RUNS:
            place = failure.receipt.workspace_id, failure.receipt.channel_id
            pauses[*place, found.run_id, found.template] = RunPause(
                *place, found.run_id, found.template, failure.error.full_code, _why(failure), failure.receipt.at
            )
    return list(pauses.values())


def _stops(news: Iterable[_Heeded]) -> list[Stop]:
    """The latest of each channel."""
    stops: dict[tuple[int, int], Stop] = {}
    for failure, _ in _in_time(news):
        if reaction_to(failure.error) is Reaction.STOP:
            place = failure.receipt.workspace_id, failure.receipt.channel_id
            error = failure.error
            stops[place] = Stop(*place, None, error.scope, error.full_code, _why(failure), failure.receipt.at)
    return list(stops.values())


def _in_time(news: Iterable[_Heeded]) -> list[_Heeded]:
    return sorted(news, key=lambda heeded: heeded[0].receipt.at)


def _why(failure: Failure) -> str:
    return f"{failure.error.words} {failure.error.next_step}"
