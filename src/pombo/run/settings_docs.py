"""`python -m pombo.run.settings_docs` writes docs/operate/settings.md and .env.example anew from `pombo.settings`.

A test compares the files with the code, so that a new setting is documented, or the build is red.
"""

import textwrap
from pathlib import Path

from pydantic.fields import FieldInfo

from pombo.legacy_settings import API_URL, FAMILIES, SUCCESSORS, legacy_notices
from pombo.settings import Settings

_ROOT = Path(__file__).parents[3]
PAGE = _ROOT / "docs" / "operate" / "settings.md"
EXAMPLE = _ROOT / ".env.example"

_WIDTH = 100
_NOTE = "Written by `python -m pombo.run.settings_docs`."


def page(current: str) -> str:
    """The page with its two tables written anew; the text around them stays. Raises ValueError without their marks."""
    return _put(_put(current, "settings", _settings_table()), "old variables", _old_variables_table())


def example() -> str:
    """The whole of .env.example: every setting with its default, commented out."""
    blocks = [
        "\n".join((*_comment(_meaning(field)), f"# {name.upper()}={_default(field)}"))
        for name, field in Settings.model_fields.items()
    ]
    intro = _comment(f"Copy to .env, take away the # of what you change. All of it: docs/operate/settings.md. {_NOTE}")
    return "\n\n".join(("\n".join(intro), *blocks)) + "\n"


def main() -> None:
    PAGE.write_text(page(PAGE.read_text()))
    EXAMPLE.write_text(example())


def _settings_table() -> str:
    rows = [
        f"| `{name.upper()}` | {f'`{default}`' if (default := _default(field)) else ''} | {_meaning(field)} |"
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join(("| setting | default | meaning |", "|---|---|---|", *rows))


def _old_variables_table() -> str:
    names = sorted([*SUCCESSORS, API_URL]) + [f"{beginning}…" for beginning in FAMILIES]
    rows = []
    for name in names:
        (notice,) = legacy_notices({name.replace("…", "X"): "x"})
        rows.append(f"| `{name}` | {notice.partition(' ')[2]} |")
    return "\n".join(("| old variable | |", "|---|---|", *rows))


def _put(text: str, name: str, table: str) -> str:
    begin, end = f"<!-- {name}: {_NOTE} -->\n", f"\n<!-- end of {name} -->"
    head, tail = text.index(begin) + len(begin), text.index(end)
    return f"{text[:head]}\n{table}\n{text[tail:]}"


def _meaning(field: FieldInfo) -> str:
    assert field.description, "every setting has a description"
    return field.description


def _default(field: FieldInfo) -> str:
    """As it would be written in the environment; empty when there is none."""
    value = field.default
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="# ")


if __name__ == "__main__":
    main()
