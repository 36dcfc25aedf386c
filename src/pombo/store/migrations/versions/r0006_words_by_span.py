"""Words of messages are filed by spans of time, so that a search reads no long list for each rare one."""

from pathlib import Path

from alembic import op

from pombo.store.migrations.script import run_script

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    run_script(op.get_bind(), Path(__file__).with_name("0006_words_by_span.sql"))
