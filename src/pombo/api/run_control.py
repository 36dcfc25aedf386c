"""Pausing, resuming and cancelling a run: asked for here, carried out by the workers. Asking twice changes nothing."""

from typing import Annotated

from fastapi import APIRouter, Path

from pombo.api.errors import ApiError
from pombo.api.run_shapes import RunShape, show_run
from pombo.api.runs import run_not_found
from pombo.api.shapes import Given, Id, Workspace
from pombo.domain.ids import RunId, WorkspaceId
from pombo.store import figures, run_control, runs
from pombo.store.database import Connection
from pombo.store.runs import Run, RunState

router = APIRouter(prefix="/api/runs", tags=["runs"])

InPath = Annotated[Id, Path(alias="runId")]

# What is left to say of a run that cannot be paused, resumed or cancelled any more.
_ENDINGS = {
    RunState.COMPLETED: "is completed: all of its messages are settled.",
    RunState.FAILED: "has failed: it sends nothing any more.",
    RunState.CANCELLING: "is being cancelled, which cannot be undone; send to those who are left as a new run.",
    RunState.CANCELLED: "was cancelled, which cannot be undone; send to those who are left as a new run.",
}


@router.post("/{runId}/pause", status_code=202)
async def pause_run(run_id: InPath, workspace: Workspace, given: Given) -> RunShape:
    """`pausing` within milliseconds, `paused` when every worker has acknowledged: from then on no further send starts.

    What is in flight then still gets its answer.
    """
    async with given.database.tenant(workspace) as connection:
        await run_control.pause_runs(connection, workspace, [run_id])
        run = await _find(connection, workspace, run_id)
        if run.state not in run_control.RESUMABLE:
            raise _impossible("run_not_pausable", run)
        return await _show(connection, run)


@router.post("/{runId}/resume", status_code=202)
async def resume_run(run_id: InPath, workspace: Workspace, given: Given) -> RunShape:
    """Goes on at once, whether the pause was complete or not."""
    async with given.database.tenant(workspace) as connection:
        await run_control.resume_runs(connection, workspace, [run_id])
        run = await _find(connection, workspace, run_id)
        if run.state not in run_control.PAUSABLE:
            raise _impossible("run_not_resumable", run)
        return await _show(connection, run)


@router.post("/{runId}/cancel", status_code=202)
async def cancel_run(run_id: InPath, workspace: Workspace, given: Given) -> RunShape:
    """What waits is cancelled; what is in flight or in doubt ends as it does. `cancelled` when all is settled."""
    async with given.database.tenant(workspace) as connection:
        await run_control.cancel_runs(connection, workspace, [run_id])
        run = await _find(connection, workspace, run_id)
        if run.state not in (RunState.CANCELLING, RunState.CANCELLED):
            raise _impossible("run_not_cancellable", run)
        return await _show(connection, run)


async def _find(connection: Connection, workspace_id: WorkspaceId, run_id: int) -> Run:
    run = await runs.get_run(connection, workspace_id, RunId(run_id))
    if run is None:
        raise run_not_found(run_id)
    return run


async def _show(connection: Connection, run: Run) -> RunShape:
    return show_run(run, await figures.run_figures(connection, run.workspace_id, run.id))


def _impossible(code: str, run: Run) -> ApiError:
    return ApiError(code, f"Run {run.id} {_ENDINGS[run.state]}")
