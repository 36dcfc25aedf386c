"""The table at the end of the demo."""

from typing import Any

from rich.console import Console
from rich.table import Table

from pombo.run.progress import RunFigures
from pombo.run.reconcile import Comparison, first
from pombo.store.audit import InboxFigures


def print_table(
    console: Console,
    run: RunFigures,
    comparison: Comparison,
    inbox: InboxFigures,
    http: dict[str, Any],
    api_url: str,
) -> None:
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
        ("answers of customers", inbox.answers),
        ("reactions to what was sent", inbox.reactions),
        ("open conversations", inbox.open),
        ("asked for no more", inbox.opted_out),
    ):
        table.add_row(name, f"{value:,}")
    total = http["total"]
    others = total["requests"] - total["firstRequests"]
    table.add_row("sockets to Meta", f"{total['firstRequests']:,}")
    table.add_row("requests on a reused one (all but the first of each)", f"{others:,} of {total['requests']:,}")
    console.print(table)
    if comparison.agrees:
        console.print("[green]The sandbox's ledger and Pombo's books agree on every message.[/]")
    else:
        console.print("[red]The ledger and the books disagree:[/]")
        for line in first(comparison.disagreements):
            console.print(f"  {line}", highlight=False)
    console.print(f"The inbox: {api_url}/api/conversations", highlight=False)
    console.print(f"API: {api_url} (its document: {api_url}/openapi.json)")
