"""The terms of search, computed faster; direct messages in threads."""

from pathlib import Path

from alembic import op

from pombo.store.migrations.script import run_script

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    for name in ("0004_inlined_terms.sql", "0004_search_by_density.sql", "0004_direct_in_doubt.sql"):
        run_script(op.get_bind(), Path(__file__).with_name(name))
