"""Messages/s and CPU of the whole sender against a constant answer, as a ratio of what `wrk` gets from it.

Each case: a fresh database, the messages in the outbox, one `pombo worker` process, everything on (rendering, leases,
pacing, intents, delivery log, counters). The ceiling is measured right before and right after each case.
"""

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import uvloop

from bench import answer, ceiling, sending
from pombo.store import embedded, partitions, schema

_PORT = 18_480
_LATENCY_S = 0.08


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--channels", type=int, nargs="+", default=[1, 20, 500])
    parser.add_argument("--latency-ms", type=float, nargs="+", default=[0, 80], help="of the answers")
    parser.add_argument("--variables", action="store_true", help="personalise each message")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    options = parser.parse_args()
    if missing := ceiling.available():
        print(missing, file=sys.stderr)
        return 1
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, {options.messages:,} messages a case\n")
    print(f"{'latency':>8} {'channels':>8} {'messages/s':>11} {'ceiling':>9} {'ratio':>6} {'CPU ms per 1,000':>30}")
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        directory.chmod(0o755)
        with embedded.start(directory / "postgres") as server:
            results = [
                _case(server, directory, latency_ms / 1000, count, options)
                for latency_ms in options.latency_ms
                for count in options.channels
            ]
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results, indent=1))
    return 0


def _case(
    server: embedded.EmbeddedServer, directory: Path, latency_s: float, count: int, options: argparse.Namespace
) -> dict[str, Any]:
    url = server.fresh_database("bench")
    schema.migrate(url)
    asyncio.run(partitions.create(url, 1))
    serving = answer.after(latency_s, _PORT) if latency_s else answer.at_once(directory, _PORT)
    with serving as server_url:
        before = ceiling.requests_per_second(directory, server_url)
        result = uvloop.run(sending.measure(url, server.pid, server_url, count, options.messages, options.variables))
        after = ceiling.requests_per_second(directory, server_url)
    top = (before + after) / 2
    worker, database = result.per_1000_ms(result.worker_cpu_s), result.per_1000_ms(result.database_cpu_s)
    print(
        f"{latency_s * 1000:>5.0f} ms {count:>8} {result.rate:>11,.0f} {top:>9,.0f} {result.rate / top:>6.2f} "
        f"worker {worker:>5.1f} + database {database:>5.1f}",
        flush=True,
    )
    return {**asdict(result), "latency_s": latency_s, "rate": result.rate, "ceilings": [before, after]}


if __name__ == "__main__":
    raise SystemExit(main())
