"""docs/api.md names every code, and no code that is not there."""

import re
from pathlib import Path

from pombo.api.errors import STATUS

_ROOT = Path(__file__).parents[2]
_DOCUMENT = (_ROOT / "docs" / "api.md").read_text()
_SOURCES = [*(_ROOT / "src/pombo/domain").glob("*.py"), *(_ROOT / "src/pombo/campaigns").glob("*.py")]


def test_every_code_of_the_table_is_documented_with_its_status() -> None:
    documented = {
        code: int(status)
        for codes, status in re.findall(r"^\| (`.*?`) \| (\d{3}) \|", _DOCUMENT, re.MULTILINE)
        for code in re.findall(r"`(\w+)`", codes)
    }
    assert documented == STATUS


def test_every_code_of_contents_and_recipients_is_documented_and_exists() -> None:
    listed = set(re.findall(r"`(\w+)`", _DOCUMENT[_DOCUMENT.index("A content that cannot be sent") :]))
    listed -= {"details"}
    text = "\n".join(source.read_text() for source in _SOURCES)
    made = set(re.findall(r'(?:ContentProblem|RecipientProblem)\(\s*"(\w+)"', text))
    made |= set(re.findall(r'RejectedLine\([^"]*?"(\w+)"', text))
    assert len(made) > 25
    assert made <= listed
    assert all(f'"{code}"' in text for code in listed)
