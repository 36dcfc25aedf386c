"""Search computed faster; direct messages in threads; numbers that change hands; unread by arrival."""

from pathlib import Path

from alembic import op

from pombo.store.migrations.script import run_script

revision = "0004"
down_revision = "0003"

_SCRIPTS = (
    "0004_inlined_terms.sql",
    "0004_search_by_density.sql",
    "0004_direct_in_doubt.sql",
    "0004_claimed_numbers.sql",
    "0004_unread_by_arrival.sql",
)


def upgrade() -> None:
    for name in _SCRIPTS:
        run_script(op.get_bind(), Path(__file__).with_name(name))
