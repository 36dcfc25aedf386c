"""Data of events are kept as the text they are."""

from pathlib import Path

from alembic import op

from pombo.store.migrations.script import run_script

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    run_script(op.get_bind(), Path(__file__).with_name("0007_events_as_text.sql"))
