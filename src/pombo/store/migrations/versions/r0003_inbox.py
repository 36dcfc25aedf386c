"""Conversations, their messages, agents, and the log of events that browsers follow."""

from pathlib import Path

from alembic import op

from pombo.store.migrations.script import run_script

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    for name in ("0003_inbox.sql", "0003_search.sql"):
        run_script(op.get_bind(), Path(__file__).with_name(name))
