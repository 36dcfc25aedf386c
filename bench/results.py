"""Where results go: JSON under bench/results/, and tables between markers of docs/benchmarks.md."""

import json
import os
import platform
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"


def machine() -> dict[str, Any]:
    return {
        "day": f"{datetime.now(UTC):%Y-%m-%d}",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.system(),
    }


def save(name: str, document: dict[str, Any], path: Path | None = None) -> Path:
    path = path or DIRECTORY / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")
    return path


def load(name: str) -> dict[str, Any] | None:
    path = DIRECTORY / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def seen(document: dict[str, Any]) -> str:
    """The line above a table: when and where."""
    about = document["machine"]
    return f"Seen on {about['day']}: {about['cores']} cores, Python {about['python']}, {about['system']}."


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows])


def render(sections: dict[str, Callable[[dict[str, Any]], str]]) -> list[str]:
    """Replaces each section of the page for which there are results; returns the names of those it replaced."""
    page, replaced = PAGE.read_text(), []
    for name, section in sections.items():
        document = load(name)
        if document is None:
            continue
        begin, end = f"<!-- figures: {name} -->", f"<!-- end of figures: {name} -->"
        text = f"{begin}\n\n{seen(document)}\n\n{section(document)}\n\n{end}"
        page = page[: page.index(begin)] + text + page[page.index(end) + len(end) :]
        replaced.append(name)
    PAGE.write_text(page)
    return replaced
