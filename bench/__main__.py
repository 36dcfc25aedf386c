"""Measures Pombo, and Pombo against its rivals. Results are written to bench/results/ as JSON; `report` puts what is
there into docs/benchmarks.md."""

import argparse
import sys
from pathlib import Path

from bench import inbox, reading, realtime, reply, report, results, sending, setup, steady
from bench.rivals import runner

_COMMANDS = {
    "sending": sending,
    "steady": steady,
    "reply": reply,
    "reading": reading,
    "realtime": realtime,
    "inbox": inbox,
    "rivals": runner,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, module in _COMMANDS.items():
        description = (module.__doc__ or "").partition(": ")[2]
        command = commands.add_parser(name, description=description, help=description.split("\n\n")[0])
        module.add_options(command)
        command.add_argument("--json", type=Path, help="where to write the results instead")
    commands.add_parser("setup", help="install all that the bench needs")
    commands.add_parser("report", help="put the results into docs/benchmarks.md")
    options = parser.parse_args()
    try:
        if options.command == "setup":
            setup.ensure_all()
        elif options.command == "report":
            print(f"Rewritten: {', '.join(report.write()) or 'nothing, there are no results'}")
        else:
            document = _COMMANDS[options.command].main(options)
            print(f"\n{results.save(options.command, document, options.json)}")
    except setup.SetupError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
