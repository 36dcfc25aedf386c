"""`pombo run …`: looks at runs, pauses, resumes and cancels them; and `pombo panic`."""

from typing import TYPE_CHECKING, Annotated

import typer

from pombo.run.command import (
    DEFAULT_WORKSPACE,
    ExistingWorkspaceOption,
    JsonOption,
    WaitOption,
    prepare,
    with_database,
)

if TYPE_CHECKING:
    from pombo.run.control import Action

run_app = typer.Typer(no_args_is_help=True, help="Runs: look at them, pause, resume and cancel them.")

RunArgument = Annotated[int, typer.Argument(metavar="RUN", min=1, help="The run's id: `pombo run list` shows it.")]


@run_app.command("list")
def run_list(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 20,
    workspace: ExistingWorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """List the latest runs and how far they are."""
    from pombo.run import control

    with_database(prepare("cli"), lambda _, database: control.list_runs(database, workspace, limit, as_json))


@run_app.command("pause")
def run_pause(
    run: RunArgument,
    wait: WaitOption = False,
    workspace: ExistingWorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Pause a run: once it is `paused`, no further send starts."""
    _control(run, "pause", wait, workspace, as_json)


@run_app.command("resume")
def run_resume(
    run: RunArgument,
    workspace: ExistingWorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Let a paused run go on."""
    _control(run, "resume", False, workspace, as_json)


@run_app.command("cancel")
def run_cancel(
    run: RunArgument,
    wait: WaitOption = False,
    workspace: ExistingWorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Cancel what a run has not sent yet. This cannot be undone."""
    _control(run, "cancel", wait, workspace, as_json)


def _control(run: int, action: "Action", wait: bool, workspace: str, as_json: bool) -> None:
    from pombo.run import control

    with_database(
        prepare("cli"), lambda _, database: control.act(database, workspace, run, action, wait=wait, as_json=as_json)
    )


def panic(
    release: Annotated[bool, typer.Option("--release", help="Let everything go on.")] = False,
    wait: WaitOption = False,
    workspace: ExistingWorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Stop everything of a workspace at once, also what begins later, until it is released."""
    from pombo.run import control

    with_database(
        prepare("cli"),
        lambda _, database: control.panic(database, workspace, release=release, wait=wait, as_json=as_json),
    )
