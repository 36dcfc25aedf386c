"""The documents are true to the code: settings, commands, log events, metrics, targets, links."""

import ast
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer

from pombo.legacy_settings import API_URL, FAMILIES, SUCCESSORS
from pombo.meta.transport import TransportStats
from pombo.run import settings_docs
from pombo.run.cli import app
from pombo.sending.outcomes import WriterStats
from pombo.sending.reader import ReaderStats
from pombo.sending.sender import SenderStats
from pombo.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
TELEMETRY = (ROOT / "docs/operate/telemetry.md").read_text()
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()

LEVELS = {"debug": "debug", "info": "info", "warning": "warning", "error": "error", "exception": "error"}
EVENT_NAME = re.compile(r"[a-z]+(_[a-z]+)*")


def relative(page: Path) -> str:
    return str(page.relative_to(ROOT))


def table_rows(text: str, head: str) -> list[list[str]]:
    """The cells of the table whose head line begins with `head`."""
    lines = text[text.index(f"\n{head}") + 1 :].splitlines()
    rows = []
    for line in lines[2:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return rows


def calls(source: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, ast.Call))


# --- settings -------------------------------------------------------------------------------------------------------


def test_the_settings_page_says_what_the_code_says() -> None:
    current = settings_docs.PAGE.read_text()
    assert current == settings_docs.page(current), "run `python -m pombo.run.settings_docs`"


def test_the_example_of_an_env_file_holds_every_setting_with_its_default() -> None:
    text = settings_docs.EXAMPLE.read_text()
    assert text == settings_docs.example(), "run `python -m pombo.run.settings_docs`"
    assert re.findall(r"^# ([A-Z_]+)=", text, re.MULTILINE) == [name.upper() for name in Settings.model_fields]


def test_documents_name_no_setting_that_is_none() -> None:
    beginnings = ("LOG_", "WORKER_", "CIRCUIT_", "RATE_", "MAX_", "DB_", "GRAPH_", "DATABASE_", "PARTITION_", "CRON_")
    known = {name.upper() for name in Settings.model_fields} | {*SUCCESSORS, API_URL}
    for page in PAGES:
        named = set(re.findall(r"\b[A-Z]{2,}(?:_[A-Z]+)+\b", page.read_text()))
        assert {name for name in named if name.startswith((*beginnings, *FAMILIES))} <= known, relative(page)


# --- commands -------------------------------------------------------------------------------------------------------


def commands(group: click.Command, path: str = "pombo") -> Iterator[tuple[str, click.Command]]:
    found = getattr(group, "commands", None)
    if found is None:
        yield path, group
        return
    for name, command in found.items():
        yield from commands(command, f"{path} {name}")


COMMANDS = dict(commands(typer.main.get_command(app)))


def test_the_readme_lists_every_command_and_no_other() -> None:
    listed = [row[0].strip("`") for row in table_rows(README, "| command |")]
    assert sorted(listed) == sorted(COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_commands_in_the_documents_exist_with_the_options_they_are_given(page: Path) -> None:
    code = re.findall(r"`([^`\n]+)`", page.read_text()) + fenced(page).splitlines()
    for line in code:
        for words, rest in re.findall(
            r"(?:^|[(/ ])pombo ([a-z]+(?: [a-z]+(?:-[a-z]+)*)*)([^|#]*)", line.removeprefix("python -m ")
        ):
            fitting = [command for name, command in COMMANDS.items() if begins(name.split()[1:], words.split())]
            options = {option for command in fitting for parameter in command.params for option in parameter.opts}
            assert fitting, line
            assert set(re.findall(r"(?<=[ \[])--[a-z-]+", rest)) <= options | {"--help"}, line


def begins(one: list[str], other: list[str]) -> bool:
    """Whether one is the beginning of the other: `channel add messenger` has an argument, `channel add` two words."""
    return all(a == b for a, b in zip(one, other, strict=False))


def fenced(page: Path) -> str:
    return "\n".join(re.findall(r"```\w*\n(.*?)```", page.read_text(), re.DOTALL))


# --- log events and metrics -----------------------------------------------------------------------------------------


def logged_events() -> dict[str, tuple[set[str], set[str]]]:
    """Levels and fields of each event, of all files that use `pombo.telemetry`."""
    events: dict[str, tuple[set[str], set[str]]] = {}
    for source in (ROOT / "src/pombo").rglob("*.py"):
        if "from pombo.telemetry import log" not in source.read_text():
            continue
        for call in calls(source):
            match call:
                case ast.Call(func=ast.Attribute(value=ast.Name("log"), attr=method)) if method in LEVELS:
                    assert isinstance(call.args[0], ast.Constant), f"{source.name}:{call.lineno} is not a static name"
                    levels, fields = events.setdefault(call.args[0].value, (set(), set()))
                    levels.add(LEVELS[method])
                    fields |= {keyword.arg for keyword in call.keywords if keyword.arg and keyword.arg != "exc_info"}
    return events


def test_every_log_event_is_documented_with_its_level_and_fields_and_no_other_is() -> None:
    documented = {
        event.strip("`"): ({level}, set(re.findall(r"\w+", fields)))
        for event, level, fields, _ in table_rows(TELEMETRY, "| event |")
    }
    assert documented == logged_events()


def test_event_names_are_words_joined_by_underscores() -> None:
    assert [name for name in logged_events() if not EVENT_NAME.fullmatch(name)] == []


def test_every_metric_is_documented_with_its_type_and_labels_and_no_other_is() -> None:
    exported = {}
    for call in calls(ROOT / "src/pombo/api/metrics.py"):
        match call:
            case ast.Call(func=ast.Name("CounterMetricFamily" | "GaugeMetricFamily" as family)):
                name = ast.literal_eval(call.args[0])
                labels = [label for k in call.keywords if k.arg == "labels" for label in ast.literal_eval(k.value)]
                kind = family.removesuffix("MetricFamily").lower()
                exported[f"{name}_total" if kind == "counter" else name] = (kind, ", ".join(labels))
    documented = {row[0].strip("`"): (row[1], row[2]) for row in table_rows(TELEMETRY, "| metric |")}
    assert documented == exported


def test_every_field_a_worker_publishes_of_itself_is_documented() -> None:
    page = (ROOT / "docs/subsystems/sending.md").read_text()
    text = page[page.index("## What a worker tells of itself") : page.index("## pombo send")]
    documented = set(re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\|([^|]*)\|", text, re.MULTILINE))))
    fields = {field.name for part in (TransportStats, WriterStats, SenderStats) for field in dataclasses.fields(part)}
    fields |= {f"read_ahead_{field.name}" for field in dataclasses.fields(ReaderStats)}
    lane = next(
        node
        for node in ast.walk(ast.parse((ROOT / "src/pombo/sending/stats.py").read_text()))
        if isinstance(node, ast.FunctionDef) and node.name == "_lane"
    )
    dicts = [node for node in ast.walk(lane) if isinstance(node, ast.Dict)]
    fields |= {key.value for key in dicts[0].keys if isinstance(key, ast.Constant)}
    assert documented == fields


# --- targets, links, addresses --------------------------------------------------------------------------------------


def test_every_target_is_in_the_contributors_table_and_targets_in_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):.* ## ", MAKEFILE, re.MULTILINE))
    listed = {
        target
        for row in table_rows((ROOT / "CONTRIBUTING.md").read_text(), "| target |")
        for target in re.findall(r"`make ([\w-]+)`", row[0])
    }
    assert listed == targets
    for page in PAGES:
        named = re.findall(r"`make ([\w-]+)[^`]*`", page.read_text()) + re.findall(
            r"^make ([\w-]+)", fenced(page), re.MULTILINE
        )
        assert set(named) <= targets, relative(page)


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_between_documents_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?://)([^)#\s]*)#?([^)\s]*)\)", page.read_text()):
        linked = (page.parent / target).resolve() if target else page
        assert linked.exists(), f"{relative(page)} links {target}"
        assert not anchor or anchor in anchors(linked), f"{relative(page)} links {target}#{anchor}"


def test_every_document_is_reached_from_the_readme() -> None:
    seen, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        seen.add(page)
        for target in re.findall(r"\]\((?!https?://)([^)#\s]+\.md)", page.read_text()):
            linked = (page.parent / target).resolve()
            if linked not in seen:
                waiting.append(linked)
    assert seen >= set(PAGES)


@pytest.mark.parametrize(
    "file",
    [
        *PAGES,
        *(ROOT / name for name in (".env.example", "Makefile", "pyproject.toml", "constraints.txt", ".ci/run")),
        *(ROOT / "bench" / "rivals").glob("*/[!.]*.*"),
    ],
    ids=relative,
)
def test_no_file_names_an_index_of_packages_or_a_directory_of_one_machine(file: Path) -> None:
    text = file.read_text()
    assert re.findall(r"\b(?:pypi|pythonhosted|npmjs|crates)\.(?:org|com|io)\b|--(?:extra-)?index-url", text) == []
    assert re.findall(r"(?<![\w.:/])/(?:work|home|root|tmp|Users|mnt)/\S+", text) == []
