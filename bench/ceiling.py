"""`wrk` against the same answer with the same request: what no sender on this machine can exceed."""

import re
import subprocess
from pathlib import Path

from bench.wire import FIRST_CHANNEL, TOKEN, VERSION, Wire

_SCRIPT = """
wrk.method = "POST"
wrk.path = "/{version}/{channel}/messages"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer {token}"
wrk.body = '{body}'
"""


def requests_per_second(
    directory: Path, url: str, wire: Wire, *, connections: int = 500, seconds: int = 5, threads: int = 1
) -> float:
    script = directory / "wrk.lua"
    script.write_text(_SCRIPT.format(version=VERSION, channel=FIRST_CHANNEL, token=TOKEN, body=wire.wrk_body))
    command = ["wrk", f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "-s", str(script), url]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Requests/sec:\s+([0-9.]+)", printed)
    assert found, printed
    return float(found.group(1))
