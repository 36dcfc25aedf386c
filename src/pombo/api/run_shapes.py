"""Runs and their figures, as answers show them."""

from datetime import UTC, datetime, timedelta

from pydantic import Field

from pombo.api.shapes import Shape
from pombo.store.figures import Figures
from pombo.store.runs import Run, RunState, Source


class RunSummary(Shape):
    id: int
    campaign_id: int
    status: RunState
    pause_reason: str | None = Field(description="Why the run was paused; null when a person did so.")
    source: Source = Field(
        description="staged: the recipients of its request; contacts: all of the channels' contacts."
    )
    channel_ids: list[int]
    planned_at: datetime
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class RunTotals(Shape):
    """Cumulative: a read message counts in accepted, delivered and read."""

    total: int = Field(description="Recipients without rejects and without the duplicates found so far.")
    duplicates: int
    rejected: int
    pending: int = Field(description="Not yet handed to Meta, or to be tried again.")
    processing: int = Field(description="Handed to Meta, no answer yet.")
    accepted: int
    delivered: int
    read: int
    failed: int = Field(description="Never accepted by Meta.")
    undelivered: int = Field(description="Accepted, then reported as failed; a part of accepted.")
    uncertain: int = Field(description="In doubt now: perhaps accepted, so never sent again blindly.")
    held: int = Field(description="A part of uncertain: in doubt for longer than the grace; see /api/doubts.")
    cancelled: int
    sent_twice: int
    replied: int = Field(description="Recipients who answered, each counted once.")
    clicked: int = Field(description="Recipients who tapped a button of the message; they count as replied, too.")


class RunShape(RunSummary):
    expanded: bool = Field(description="Whether all recipients are queued; until then duplicates may still be found.")
    totals: RunTotals
    progress: float = Field(description="Percent of the messages that are settled.")
    rate_per_second: float
    eta: datetime | None = Field(description="When all is sent, at the rate so far; null when that cannot be told.")


def summarise(run: Run) -> RunSummary:
    return RunSummary(
        id=run.id,
        campaign_id=run.campaign_id,
        status=run.state,
        pause_reason=run.pause_reason,
        source=run.source,
        channel_ids=list(run.channel_ids),
        planned_at=run.planned_at,
        created_at=run.created_at,
        started_at=run.started_at,
        finished_at=run.finished_at,
    )


def show_run(run: Run, figures: Figures) -> RunShape:
    return RunShape(
        **summarise(run).model_dump(),
        expanded=run.expanded,
        totals=show_totals(figures),
        progress=progress(figures),
        rate_per_second=round(figures.rate, 1),
        eta=_eta(run, figures),
    )


def show_totals(figures: Figures) -> RunTotals:
    return RunTotals(
        total=figures.total,
        duplicates=figures.duplicates,
        rejected=figures.rejected,
        pending=figures.waiting,
        processing=figures.in_flight,
        accepted=figures.accepted,
        delivered=figures.delivered,
        read=figures.read,
        failed=figures.failed,
        undelivered=figures.undelivered,
        uncertain=figures.uncertain,
        held=figures.held,
        cancelled=figures.cancelled,
        sent_twice=figures.sent_twice,
        replied=figures.replied,
        clicked=figures.clicked,
    )


def progress(figures: Figures) -> float:
    """Percent, rounded down, so that 100 means all of them."""
    return figures.settled * 1000 // figures.total / 10 if figures.total else 0.0


def _eta(run: Run, figures: Figures) -> datetime | None:
    left = figures.waiting + figures.in_flight
    if run.state is not RunState.PROCESSING or not left or not figures.rate:
        return None
    return datetime.now(UTC) + timedelta(seconds=left / figures.rate)
