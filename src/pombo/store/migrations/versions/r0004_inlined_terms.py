"""The terms of search, computed faster."""

from pathlib import Path

from alembic import op

from pombo.store.migrations.script import run_script

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    run_script(op.get_bind(), Path(__file__).with_name("0004_inlined_terms.sql"))
