"""Classes, doubts with an end, pausing and cancelling, suppressions."""

from pathlib import Path

from alembic import op

from pombo.store.migrations.script import run_script

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    run_script(op.get_bind(), Path(__file__).with_name("0002_none_lost_none_twice.sql"))
