import re
import tempfile
from pathlib import Path

from tests.e2e.pombo_process import Installation


def test_the_demo_ends_with_books_that_agree_with_the_ledger() -> None:
    with tempfile.TemporaryDirectory(prefix="pombo-e2e-") as name:
        printed = Installation(Path(name)).run("demo", "--once", "--contacts", "600", timeout=120)
    assert "agree on every message" in printed
    [answers] = re.findall(r"answers of customers\W+(\d+)", printed)
    [conversations] = re.findall(r"open conversations\W+(\d+)", printed)
    assert int(answers) >= int(conversations) > 0
