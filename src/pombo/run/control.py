"""`pombo run …` and `pombo panic`: the same requests as the API's, to the database itself."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Literal

import typer

from pombo.campaigns.cancelling import CancelDuty
from pombo.campaigns.figures import FiguresDuty
from pombo.campaigns.pauses import PauseDuty
from pombo.domain.ids import RunId, WorkspaceId
from pombo.run.errors import CommandFailed
from pombo.run.send import run_figures
from pombo.store import accounts, halts, run_control, runs, workers_view
from pombo.store.database import Connection, Database
from pombo.store.runs import RunState

Action = Literal["pause", "resume", "cancel"]

_ACTIONS: dict[Action, Callable[[Connection, WorkspaceId, list[int]], Awaitable[list[RunId]]]] = {
    "pause": run_control.pause_runs,
    "resume": run_control.resume_runs,
    "cancel": run_control.cancel_runs,
}
# The states in which an action has had its effect, and the one that it passes through.
_DONE: dict[Action, frozenset[RunState]] = {
    "pause": run_control.RESUMABLE,
    "resume": run_control.PAUSABLE,
    "cancel": frozenset({RunState.CANCELLING, RunState.CANCELLED}),
}
_PASSING = frozenset({RunState.PAUSING, RunState.CANCELLING})
_POLL_S = 0.1


async def list_runs(database: Database, workspace: str, limit: int, as_json: bool) -> None:
    """Raises NotFound."""
    async with database.borrow() as connection:
        workspace_id = await accounts.find_workspace(connection, workspace)
        found = [
            (run, name, await run_figures(connection, workspace_id, run.id))
            for run, name in await runs.list_latest(connection, workspace_id, limit)
        ]
    if as_json:
        rows = [
            {"runId": run.id, "campaignId": run.campaign_id, "campaign": name, **asdict(figures),
             "pauseReason": run.pause_reason}
            for run, name, figures in found
        ]  # fmt: skip
        typer.echo(json.dumps(rows))
        return
    for run, name, figures in found:
        reason = f"  ({run.pause_reason})" if run.pause_reason else ""
        typer.echo(f"{run.id:>6}  {run.state:<10}  {figures.done:>11,} of {figures.total:<11,}  {name}{reason}")
    if not found:
        typer.echo("No runs yet: `pombo send --help`.")


async def act(database: Database, workspace: str, run_id: int, action: Action, *, wait: bool, as_json: bool) -> None:
    """Raises NotFound, or CommandFailed when the run is beyond it."""
    async with database.transaction() as connection:
        workspace_id = await accounts.find_workspace(connection, workspace)
        await _ACTIONS[action](connection, workspace_id, [run_id])
        run = await runs.get_run(connection, workspace_id, RunId(run_id))
    if run is None:
        raise CommandFailed(f"There is no run {run_id} in workspace {workspace!r}: `pombo run list` shows all.")
    if run.state not in _DONE[action]:
        raise CommandFailed(f"Run {run_id} is {run.state}: it is too late to {action} it.")
    state: str = run.state
    while wait and state in _PASSING:
        await asyncio.sleep(_POLL_S)
        await _work_where_no_worker_does(database)
        async with database.borrow() as connection:
            found = await run_figures(connection, workspace_id, run.id)
        state = found.status
        if state == RunState.CANCELLING and 0 < found.uncertain == found.total - found.done:
            break  # perhaps for long: these wait for evidence
    async with database.borrow() as connection:
        found = await run_figures(connection, workspace_id, run.id)
    if as_json:
        typer.echo(json.dumps({"runId": run_id, **asdict(found)}))
    else:
        uncertain = f", {found.uncertain:,} are in doubt" if found.uncertain else ""
        typer.echo(f"Run {run_id} is {found.status}: {found.done:,} of {found.total:,} are settled{uncertain}.")


async def panic(database: Database, workspace: str, *, release: bool, wait: bool, as_json: bool) -> None:
    """Raises NotFound."""
    async with database.transaction() as connection:
        workspace_id = await accounts.find_workspace(connection, workspace)
        if release:
            await halts.release(connection, workspace_id)
        halt = None if release else await halts.halt(connection, workspace_id)
    while wait and halt is not None and halt.halted_at is None:
        await asyncio.sleep(_POLL_S)
        await _work_where_no_worker_does(database)
        async with database.borrow() as connection:
            halt = await halts.get_halt(connection, workspace_id)
    state = "released" if halt is None else "halting" if halt.halted_at is None else "halted"
    if as_json:
        typer.echo(json.dumps({"state": state}))
    elif halt is None:
        typer.echo(f"Workspace {workspace!r} sends again; runs that were paused one by one are still paused.")
    else:
        typer.echo(f"Workspace {workspace!r} is {state}: `pombo panic --release` lets everything go on.")


async def _work_where_no_worker_does(database: Database) -> None:
    async with database.borrow() as connection:
        if await workers_view.count_live_workers(connection):
            return
    await PauseDuty(database).run_once()
    await CancelDuty(database).run_once()
    await FiguresDuty(database).run_once()
