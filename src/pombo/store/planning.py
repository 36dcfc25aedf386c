"""Statements that find their rows one by one, whatever the planner believes of the tables' sizes."""

from collections.abc import Iterable
from datetime import date
from typing import Any

from pombo.store.database import Connection

# Planned anew each time, for the tables' sizes of now and only the days named. Otherwise the planner, which knows
# nothing of a table until it is analyzed (today's partition of `deliveries`, say), reads it whole for every row that it
# looks for: 600 times slower at 50,000 rows.
_BY_INDEX = """
SELECT set_config('plan_cache_mode', 'force_custom_plan', true), set_config('enable_seqscan', 'off', true),
       set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
       set_config('synchronous_commit', 'off', true), (now() AT TIME ZONE 'UTC')::date AS today
"""


# A kept plan belongs to the statement's text and the connection, whatever the settings are by then: who runs the same
# statement in another transaction of the same pool must plan it so, too.
KEPT = """
SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off"""
"""For `Database.transaction`: as `plan_by_index`, but the plans are made once. Not for statements that a day narrows to
a few partitions, unless each is found by the same index in all of them."""
IN_ORDER = f"{KEPT}; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off"
"""For `Database.tenant`, to read pages: by an index and in its order, or all rows of a status would be gathered and
sorted whenever the planner takes the table for a small one. So the plan is always the same, and is made once: to make
it takes longer than to read fifty rows by it."""
KEPT_AND_REPEATABLE = f"{KEPT}; SET LOCAL synchronous_commit = off"
"""Which may be lost in a crash: only for what is applied again then."""


async def plan_by_index(connection: Connection) -> date:
    """For the rest of the transaction, which may be lost in a crash: only for what is applied again then.

    Returns today's date in UTC, by the database's clock.
    """
    today: date = await connection.fetchval(_BY_INDEX, column=5)
    return today


def columns(rows: Iterable[tuple[Any, ...]]) -> list[list[Any]]:
    """The arguments of a statement that unnests its rows, of which there must be some."""
    return list(map(list, zip(*rows, strict=True)))
