"""The results as tables in docs/benchmarks.md."""

from typing import Any

from bench.results import render, table


def write() -> list[str]:
    """The names of the sections that were rewritten."""
    return render(
        {
            "rivals": rivals,
            "sending": _sending,
            "steady": _steady,
            "reply": _reply,
            "reading": _reading,
            "realtime": _realtime,
            "inbox": _inbox,
        }
    )


def _sending(document: dict[str, Any]) -> str:
    rows = []
    for result in document["results"]:
        top = sum(result["ceilings"]) / 2
        worker, database = (result[f"{part}_cpu_s"] * 1e6 / result["messages"] for part in ("worker", "database"))
        rows.append(
            [
                f"{result['latency_s'] * 1000:.0f} ms",
                f"{result['channels']}",
                f"{result['rate'] / top:.2f}",
                f"{result['rate']:,.0f}",
                f"{top:,.0f}",
                f"{worker:.1f} + {database:.1f} ms",
            ]
        )
    head = ["latency", "channels", "ratio", "messages/s", "ceiling", "CPU per 1,000 messages: worker + database"]
    return table(head, rows)


def rivals(document: dict[str, Any]) -> str:
    options = document["options"]
    about = (
        f"{options['messages']:,} messages a run over {options['channels']} channels, {options['connections']} "
        f"connections, {options['processes']} worker process each, medians of {options['rounds']} runs in turn."
    )
    parts = [about]
    for case in document["cases"]:
        if case["kind"] == "full":
            parts += [_title(case, f"{case['receipts']} receipts per message"), _full(case)]
        else:
            parts += [_title(case, "messages due at half of the system's own rate"), _paced(case)]
    return "\n\n".join(parts)


def _title(case: dict[str, Any], rest: str) -> str:
    latency = f"{case['latency_s'] * 1000:.0f} ms" if case["latency_s"] else "no"
    title = f"**{latency} latency, {rest}**"
    if case.get("ceilings"):
        title += f" (`wrk`: {sum(case['ceilings']) / len(case['ceilings']):,.0f}/s)"
    return title


def _full(case: dict[str, Any]) -> str:
    systems = case["systems"]
    pombo = systems.get("pombo", {})
    rows = []
    for name, system in systems.items():
        if "rate" not in system:
            rows.append([name, "failed", *[""] * 6])
            continue
        cpu = system["cpu_ms_per_1000"]
        total = sum(cpu.values())
        mine = sum(pombo["cpu_ms_per_1000"].values()) if "rate" in pombo else 0
        worker = cpu["worker"] + cpu.get("receiver", 0)
        rows.append(
            [
                name,
                _times(pombo.get("rate", 0) / system["rate"]),
                _times(total / mine if mine else 0),
                f"{system['rate']:,.0f}",
                f"{worker:.0f} + {cpu['database'] + cpu.get('broker', 0):.0f} ms",
                f"{system['peak_rss_mb']['worker']:.0f}",
                f"{system['peak_rss_mb']['broker']:.0f}" if "broker" in system["peak_rss_mb"] else "",
                f"{system['read']:.1%}" if case["receipts"] else "",
            ]
        )
    head = [
        "system",
        "Pombo is faster",
        "needs more CPU than Pombo",
        "messages/s",
        "CPU per 1,000 messages: workers + database and broker",
        "peak memory of the worker, MB",
        "of the broker, MB",
        "receipts applied",
    ]
    keep = len(head) if case["receipts"] else len(head) - 1
    return table(head[:keep], [row[:keep] for row in rows])


def _paced(case: dict[str, Any]) -> str:
    rows = [
        [name, f"{system['rate']:,.0f}/s", *(_ms(system.get(f"{p}_ms")) for p in ("p50", "p99"))]
        for name, system in case["systems"].items()
    ]
    return table(["system", "pace", "p50 from due to accepted", "p99"], rows)


def _steady(document: dict[str, Any]) -> str:
    latency = f", {document['latency_ms']:.0f} ms latency" if document["latency_ms"] else ""
    row = [
        f"{document['channels']}{latency}",
        f"{document['rate'] / document['wanted']:.3f}",
        f"{document['rate']:,.0f} of {document['wanted']:,.0f}",
        *(f"{document[name]:.1f}" for name in ("least", "median", "most")),
        f"{document['worker_cpu_ms_per_1000']:.1f} + {document['database_cpu_ms_per_1000']:.1f} ms",
    ]
    head = ["channels", "ratio", "messages/s", "slowest channel, messages/s", "median", "fastest"]
    return table([*head, "CPU per 1,000 messages: worker + database"], [row])


def _reply(document: dict[str, Any]) -> str:
    rows = [
        [
            f"{result['latency_ms']:.0f} ms",
            "none" if result["rate_per_channel"] is None else f"{result['rate_per_channel']:g}/s",
            *(_ms(result[f"{name}_ms"]) for name in ("p50", "p99", "max")),
            _ms(result["p99_ms"] - result["latency_ms"]),
            f"{result['bulk_rate']:,.0f}/s",
        ]
        for result in document["results"]
    ]
    head = ["latency", "channels' limit", "p50", "p99", "slowest", "p99 without the latency", "bulk messages meanwhile"]
    return f"{document['waiting']:,} bulk messages waiting, {document['replies_per_s']:g} replies/s.\n\n" + table(
        head, rows
    )


def _reading(document: dict[str, Any]) -> str:
    reads = [*document["waiting"], *([document["paused"]] if document["paused"] else [])]
    rows = [
        [
            f"{read['rows']:,}",
            f"{read['paused']:,}",
            f"{read['rows_a_read']:,.0f}",
            *(_ms(read[f"{name}_ms"]) for name in ("on", "on_most", "from_beginning")),
        ]
        for read in reads
    ]
    head = ["waiting", "paused", "rows a read", "a read", "the slowest", "from the beginning"]
    text = table(head, rows)
    if snapshot := document["snapshot"]:
        text += (
            f"\n\nUnder a snapshot held open for {snapshot['seconds']:.0f} s, while {snapshot['sent']:,} messages were "
            f"sent at {snapshot['rate']:,.0f}/s: {_ms(snapshot['begin_ms'])} a read at first, "
            f"{_ms(snapshot['end_ms'])} at last, {_ms(snapshot['most_ms'])} in the slowest ten seconds. At last "
            f"{snapshot['share_at_last']:.1%} of the time went into reading."
        )
    return text


def _realtime(document: dict[str, Any]) -> str:
    row = [
        f"{document['events_per_s']:,}",
        f"{document['sockets']:,} in {document['workspaces']:,} workspaces",
        *(_ms(document[f"{name}_ms"]) for name in ("p50", "p99", "p999", "max")),
        f"{document['missing']:,}",
        " + ".join(f"{ms:.0f}" for ms in document["cpu_ms_per_1000"].values()) + " ms",
    ]
    parts = " + ".join(document["cpu_ms_per_1000"])
    head = ["events/s", "sockets", "p50", "p99", "p99.9", "slowest", "missing", f"CPU per 1,000 events: {parts}"]
    about = f"From {document['start']} to socket."
    if answer := document["webhook_answer"]:
        about += f" Webhooks were answered in {_ms(answer['p50_ms'])} (p50), {_ms(answer['p99_ms'])} (p99)."
    return f"{about}\n\n" + table(head, [row])


def _inbox(document: dict[str, Any]) -> str:
    rows = [
        [kind["name"], *(_ms(kind[f"{name}_ms"]) for name in ("p50", "p99", "most")), f"{kind['rows']}"]
        for kind in document["kinds"]
    ]
    about = f"{document['messages']:,} messages in {document['conversations']:,} conversations.\n\n"
    return about + table(["asked for", "p50", "p99", "slowest", "rows at most"], rows)


def _ms(value: float | None) -> str:
    return "failed" if value is None else f"{value:,.1f} ms"


def _times(ratio: float) -> str:
    return f"{ratio:.1f} ×" if ratio else ""
