"""`wrk` against the same answer with the same request: what no sender on this machine can exceed."""

import re
import shutil
import subprocess
from pathlib import Path

_SCRIPT = """
wrk.method = "POST"
wrk.path = "/v26.0/1000001/messages"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer token-of-a-realistic-length-of-about-two-hundred-characters"
wrk.body = '{"recipient":{"id":"1234567890123456"},"messaging_type":"UPDATE","message":{"text":"Hello","metadata":"x"}}'
"""


def available() -> str | None:
    """What is missing, as a sentence; None when nothing is."""
    missing = [name for name in ("wrk", "nginx") if not (shutil.which(name) or Path(f"/usr/sbin/{name}").exists())]
    if not missing:
        return None
    return f"The bench needs {' and '.join(missing)}: `apt-get install {' '.join(missing)}` (Debian's packages)."


def requests_per_second(directory: Path, url: str, *, connections: int = 500, seconds: int = 5) -> float:
    script = directory / "wrk.lua"
    script.write_text(_SCRIPT)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), url]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Requests/sec:\s+([0-9.]+)", printed)
    assert found, printed
    return float(found.group(1))
