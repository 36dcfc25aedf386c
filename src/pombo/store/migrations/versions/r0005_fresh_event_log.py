"""Browsers that resume over revision 0004 begin with a snapshot."""

from pathlib import Path

from alembic import op

from pombo.store.migrations.script import run_script

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    run_script(op.get_bind(), Path(__file__).with_name("0005_fresh_event_log.sql"))
