"""`rivals`: all systems in turn, several times over; medians, ratios first.

A system that fails is reported with the end of what it said, and the others go on.
"""

import argparse
import traceback
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from functools import partial
from statistics import median
from typing import Any, TypeVar

import uvloop

from bench import answer, ceiling, setup
from bench.place import ANSWER_PORT, Place, open_place
from bench.results import machine
from bench.rivals import measure
from bench.rivals.measure import Case
from bench.rivals.pombo import POMBO
from bench.rivals.queue import RIVALS
from bench.rivals.system import System
from bench.wire import WIRES
from pombo.domain.channels import ChannelKind

SYSTEMS = {system.name: system for system in (POMBO, *RIVALS)}
T = TypeVar("T")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--messages", type=int, default=100_000, help="a run")
    parser.add_argument("--rounds", type=int, default=3, help="of all systems in turn")
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS))
    parser.add_argument("--latency-ms", type=float, nargs="+", default=[0, 80], help="of the answers")
    parser.add_argument("--receipts", type=int, nargs="+", choices=[0, 3], default=[0, 3], help="per message")
    parser.add_argument("--channels", type=int, default=20)
    parser.add_argument("--connections", type=int, default=500)
    parser.add_argument("--processes", type=int, default=1, help="workers of each system")
    parser.add_argument("--pace", type=float, default=0.5, help="of paced runs, as a part of the system's own rate")
    parser.add_argument("--paced-seconds", type=float, default=10.0, help="how long paced runs take; 0: none")


def main(options: argparse.Namespace) -> dict[str, Any]:
    setup.ensure_programs("nginx", "wrk")
    systems = [SYSTEMS[name] for name in options.systems]
    for system in systems:
        system.installs()
    cases: list[dict[str, Any]] = []
    with open_place() as place:
        for ms in options.latency_ms:
            case = Case(ms / 1000, options.channels, options.connections, options.processes)
            cases += _case(place, systems, case, options)
    return {"machine": machine(), "options": _plain(options), "cases": cases}


def _case(place: Place, systems: list[System], case: Case, options: argparse.Namespace) -> list[dict[str, Any]]:
    """All that is measured at one latency."""
    title = f"{case.latency_s * 1000:.0f} ms"
    ceilings = [_ceiling(place, case)]
    entries = []
    for receipts in options.receipts:
        run = partial(measure.full, place=place, case=case, messages=options.messages, with_receipts=bool(receipts))
        runs = _in_turn(systems, options.rounds, f"{title}, {receipts} receipts", run, _say)
        entries.append(_full_entry(case, receipts, runs))
    ceilings.append(_ceiling(place, case))
    for entry in entries:
        entry["ceilings"] = ceilings
    if options.paced_seconds:
        # Of what was measured without receipts, if it was.
        measured = entries[options.receipts.index(min(options.receipts))]["systems"]
        rates = {name: system["rate"] * options.pace for name, system in measured.items() if "rate" in system}
        able = [system for system in systems if system.name in rates]
        pace = partial(measure.paced, place=place, case=case, rates=rates, seconds=options.paced_seconds)
        delays = _in_turn(able, options.rounds, f"{title}, paced", pace, _say_delays)
        entries.append(_paced_entry(case, rates, delays))
    return entries


def _in_turn(
    systems: list[System],
    rounds: int,
    title: str,
    run: Callable[[System], Coroutine[Any, Any, T]],
    say: Callable[[T], str],
) -> dict[str, list[T | str]]:
    """A B C D E, A B C D E, …: what the machine does meanwhile then meets all alike. A failure is kept as its text."""
    results: dict[str, list[T | str]] = {system.name: [] for system in systems}
    for _ in range(rounds):
        for system in systems:
            try:
                result = uvloop.run(run(system))
            except Exception as error:
                results[system.name].append(f"{type(error).__name__}: {error}")
                print(f"{title:<22} {system.name:<16} failed\n{traceback.format_exc(limit=-2)}", flush=True)
            else:
                results[system.name].append(result)
                print(f"{title:<22} {system.name:<16} {say(result)}", flush=True)
    return results


def _full_entry(case: Case, receipts: int, runs: dict[str, list[measure.Run | str]]) -> dict[str, Any]:
    systems: dict[str, Any] = {}
    for name, all_of_it in runs.items():
        good = [run for run in all_of_it if isinstance(run, measure.Run)]
        systems[name] = {
            "runs": [asdict(run) for run in good],
            "failures": [run for run in all_of_it if isinstance(run, str)],
        }
        if good:
            systems[name] |= {
                "rate": median(run.messages / run.seconds for run in good),
                "cpu_ms_per_1000": {
                    part: median(run.cpu_ms_per_1000[part] for run in good) for part in good[0].cpu_ms_per_1000
                },
                "peak_rss_mb": {part: median(run.peak_rss_mb[part] for run in good) for part in good[0].peak_rss_mb},
                "read": median(run.read / run.messages for run in good),
            }
    return {"kind": "full", "receipts": receipts, **asdict(case), "systems": systems}


def _paced_entry(case: Case, rates: dict[str, float], delays: dict[str, list[list[float] | str]]) -> dict[str, Any]:
    systems: dict[str, Any] = {}
    for name, all_of_it in delays.items():
        good = [run for run in all_of_it if not isinstance(run, str)]
        systems[name] = {"rate": rates[name], "failures": [run for run in all_of_it if isinstance(run, str)]}
        if good:
            systems[name] |= {
                "runs": [{"p50_ms": _at(run, 0.5), "p99_ms": _at(run, 0.99), "max_ms": run[-1] * 1000} for run in good],
                "p50_ms": median(_at(run, 0.5) for run in good),
                "p99_ms": median(_at(run, 0.99) for run in good),
            }
    return {"kind": "paced", **asdict(case), "systems": systems}


def _ceiling(place: Place, case: Case) -> float:
    wire = WIRES[ChannelKind.WHATSAPP]
    with answer.answering(place.directory, ANSWER_PORT, wire, case.latency_s) as url:
        return ceiling.requests_per_second(place.directory, url, wire, connections=case.connections)


def _at(ascending: list[float], part: float) -> float:
    """The quantile, in milliseconds."""
    return ascending[min(len(ascending) - 1, int(len(ascending) * part))] * 1000


def _say(run: measure.Run) -> str:
    cpu = " + ".join(f"{part} {ms:.0f}" for part, ms in sorted(run.cpu_ms_per_1000.items(), reverse=True))
    receipts = f", {run.read / run.messages:.1%} read" if run.read else ""
    return f"{run.messages / run.seconds:>9,.0f} messages/s, CPU ms per 1,000 {cpu}{receipts}"


def _say_delays(delays: list[float]) -> str:
    return f"p50 {_at(delays, 0.5):>8.1f} ms, p99 {_at(delays, 0.99):>8.1f} ms"


def _plain(options: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(options).items() if isinstance(value, int | float | list)}
