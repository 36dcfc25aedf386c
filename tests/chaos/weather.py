"""What goes wrong all the while, at random: on the way to Meta, in Meta, and on the way back."""

from collections.abc import Callable
from typing import Any

from tests.chaos.installation import Installation
from tests.chaos.proxy import Cuts

Faults = list[dict[str, Any]]


def connections_are_cut(installation: Installation) -> Faults:
    """In the middle of a request or of an answer."""
    installation.meta_line.cuts = Cuts(installation.chance, request=0.03, answer=0.03)
    return []


def answers_are_lost(installation: Installation) -> Faults:
    """After Meta has accepted the message; sometimes the connection does not even close."""
    return [{"kind": "lost_answer", "rate": 0.04}, {"kind": "lost_answer", "mode": "hang", "rate": 0.01}]


def errors_prove_nothing(installation: Installation) -> Faults:
    """Codes that Meta answers with before it has accepted a message, and after."""
    faults: Faults = []
    for handle in installation.handles:
        codes = [(1, 1357046), (2, None)] if handle.kind == "messenger" else [(131000, None), (2, None)]
        for when in ("before", "after"):
            faults += [
                {"kind": "error", "channel": handle.id, "code": code, "subcode": subcode, "when": when, "rate": 0.02}
                for code, subcode in codes
            ]
    return [*faults, {"kind": "disconnect", "rate": 0.02}]


def webhooks_come_late_twice_and_in_disorder(installation: Installation) -> Faults:
    """Within the grace, which begins when nothing of an attempt can leave any more: at once, if its worker lives."""
    return _disturbed(0.0, installation.scale.grace_s / 2)


def webhooks_come_later_than_a_takeover(installation: Installation) -> Faults:
    """Yet within the grace of what dead workers left, which does not begin before their leases have ended."""
    return _disturbed(installation.scale.lease_s * 0.75, installation.scale.grace_s / 2)


def _disturbed(at_least_s: float, jitter_s: float) -> Faults:
    delay = {"delay_ms": at_least_s * 1000, "jitter_ms": jitter_s * 1000}
    return [
        {"kind": "webhook_late", "rate": 0.4, **delay},
        {"kind": "webhook_duplicate", "rate": 0.1, **delay},
        {"kind": "webhook_disorder", "rate": 0.1},
    ]


Weather = Callable[[Installation], Faults]
ALL: tuple[Weather, ...] = (
    connections_are_cut,
    answers_are_lost,
    errors_prove_nothing,
    webhooks_come_late_twice_and_in_disorder,
)


async def rises(installation: Installation, *kinds: Weather) -> None:
    for kind in kinds:
        if faults := kind(installation):
            await installation.sandbox.add_faults(*faults)
