"""What the server did for a statement: its plan with the rows and pages that it really touched.

Read by `auto_explain`, so that the store's own functions are called as they are: with their settings, their prepared
statements, and the generic plans that the server may turn to after some executions.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from pombo.store.database import Role

# Which superusers alone may set; so before the role.
_EXPLAIN = """
LOAD 'auto_explain';
SET auto_explain.log_min_duration = 0;
SET auto_explain.log_analyze = on;
SET auto_explain.log_buffers = on;
SET auto_explain.log_timing = off;
SET auto_explain.log_format = 'json';
SET auto_explain.log_level = 'notice';
SET auto_explain.log_nested_statements = on;
"""

# The driver asks the catalog for types that it does not know, once a connection.
_DRIVERS_OWN = ("typeinfo_tree", "'jit'")


@dataclass(frozen=True)
class Scan:
    """One table read, by an index or whole."""

    kind: str
    table: str
    index: str | None
    pages: int
    removed: int
    """Rows that were read and then thrown away, of all loops."""


@dataclass(frozen=True)
class Plan:
    statement: str
    text: str
    pages: int
    """Shared pages touched, hit or read."""
    scans: list[Scan]


class Explained:
    """A connection that remembers the plan of everything that ran on it."""

    def __init__(self, connection: "asyncpg.Connection[Any]") -> None:
        self.connection = connection
        self.plans: list[Plan] = []

    def _heard(self, _: Any, message: Any) -> None:
        _, found, plan = message.message.partition("plan:\n")
        if found and not any(name in plan for name in _DRIVERS_OWN):
            self.plans.append(_read(json.loads(plan)))

    async def taken(self) -> list[Plan]:
        """Those since the last call."""
        # A statement is over for the server when its portal is closed, which the next one does.
        await self.connection.execute("SELECT")
        await asyncio.sleep(0)  # the driver hands notices over by the loop
        plans, self.plans = self.plans, []
        return plans

    @classmethod
    @asynccontextmanager
    async def connect(cls, url: str, role: Role = "pombo_worker") -> AsyncIterator["Explained"]:
        settings = {"search_path": "pombo,public", "timezone": "UTC", "jit": "off"}
        connection = await asyncpg.connect(url, server_settings=settings)
        try:
            await connection.execute(f"{_EXPLAIN}SET ROLE {role}")
            explained = cls(connection)
            connection.add_log_listener(explained._heard)
            yield explained
        finally:
            await connection.close()


def _read(document: dict[str, Any]) -> Plan:
    root = document["Plan"]
    scans = [
        Scan(
            node["Node Type"],
            node["Relation Name"],
            node.get("Index Name"),
            _pages(node),
            int(sum(node.get(f"Rows Removed by {what}", 0) for what in ("Filter", "Index Recheck")))
            * int(node["Actual Loops"]),
        )
        for node in _nodes(root)
        if "Scan" in node["Node Type"] and "Relation Name" in node
    ]
    return Plan(document["Query Text"], "\n".join(_lines(root)), _pages(root), scans)


def _pages(node: dict[str, Any]) -> int:
    pages: int = node.get("Shared Hit Blocks", 0) + node.get("Shared Read Blocks", 0)
    return pages


def _lines(node: dict[str, Any], depth: int = 0) -> Iterator[str]:
    """A line a node: what it is, how many rows it gave in how many loops, and what that touched."""
    name = " ".join(str(node[key]) for key in ("Node Type", "Relation Name", "Index Name", "CTE Name") if key in node)
    vain = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Join Filter", 0)
    rows = f"{node['Actual Rows']:g} x {node['Actual Loops']:g}"
    yield f"{'  ' * depth}{name}: {rows}, {_pages(node)} pages, {vain:g} in vain"
    for child in node.get("Plans", ()):
        yield from _lines(child, depth + 1)


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)
