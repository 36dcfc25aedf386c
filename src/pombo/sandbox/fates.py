"""What becomes of an accepted message: which webhooks will tell of it, and when."""

from typing import NamedTuple

from pombo.sandbox.accounts import Channel
from pombo.sandbox.chance import Chance
from pombo.sandbox.faults import Strike
from pombo.sandbox.ledger import DELIVERED, FAILED, READ, SENT


class Step(NamedTuple):
    """`event` is the state the webhook tells of; `delay` counts from acceptance, in seconds."""

    delay: float
    event: int


def script(channel: Channel, chance: Chance, about: str, *, fails: bool, is_reaction: bool) -> list[Step]:
    """The steps of one message, by the channel's rates and delays; the last one is its final state.

    A reaction is only ever sent: Meta reports neither its delivery nor its reading.
    """
    settings = channel.settings
    sent = settings.sent_delay_ms / 1000
    steps = [Step(sent, SENT)]
    if is_reaction:
        return steps
    delivery, delivery_jitter, reading, reading_jitter = chance.rolls(f"fate\x1f{about}")
    delivered = sent + (settings.delivered_delay_ms + delivery_jitter * settings.delivered_jitter_ms) / 1000
    if fails:
        steps.append(Step(delivered, FAILED))
    elif delivery < settings.delivered_rate:
        steps.append(Step(delivered, DELIVERED))
        if reading < settings.read_rate:
            read = delivered + (settings.read_delay_ms + reading_jitter * settings.read_jitter_ms) / 1000
            steps.append(Step(read, READ))
    return steps


def disturb(steps: list[Step], strikes: list[Strike]) -> list[Step]:
    """The same steps with webhook faults applied: dropped, late, doubled, or told in the wrong order."""
    for strike in strikes:
        match strike.fault.kind:
            case "webhook_drop":
                steps = [step for step in steps if not strike.installed.concerns(step.event)]
            case "webhook_late":
                steps = [
                    Step(step.delay + strike.delay, step.event) if strike.installed.concerns(step.event) else step
                    for step in steps
                ]
            case "webhook_duplicate":
                again = [
                    Step(step.delay + strike.delay, step.event)
                    for step in steps
                    if strike.installed.concerns(step.event)
                ]
                steps = steps + again
            case "webhook_disorder":
                events = [step.event for step in steps if strike.installed.concerns(step.event)]
                steps = [
                    Step(step.delay, events.pop()) if strike.installed.concerns(step.event) else step for step in steps
                ]
            case _:
                raise AssertionError(strike.fault.kind)
    return sorted(steps, key=lambda step: step.delay)
