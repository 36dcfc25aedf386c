"""The table at the end of the demo."""

from typing import Any

from rich.console import Console
from rich.table import Table

from pombo.run.progress import RunFigures
from pombo.run.reconcile import Comparison, first


def print_table(console: Console, run: RunFigures, comparison: Comparison, http: dict[str, Any], api_url: str) -> None:
    table = Table(title="First flight", show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name, value in (
        ("messages", run.total),
        ("accepted", run.accepted),
        ("delivered", run.delivered),
        ("read", run.read),
        ("failed for the recipient", run.failed),
        ("accepted, then undelivered", run.undelivered),
        ("uncertain", run.uncertain),
        ("in the sandbox's ledger", comparison.ledger_messages),
    ):
        table.add_row(name, f"{value:,}")
    table.add_row("requests on a reused connection", f"{http['reuseRatio']:.2%}" if "reuseRatio" in http else "?")
    console.print(table)
    if comparison.agrees:
        console.print("[green]The sandbox's ledger and Pombo's books agree on every message.[/]")
    else:
        console.print("[red]The ledger and the books disagree:[/]")
        for line in first(comparison.disagreements):
            console.print(f"  {line}", highlight=False)
    console.print(f"API: {api_url} (documentation at {api_url}/docs)")
