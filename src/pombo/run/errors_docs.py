"""`python -m pombo.run.errors_docs` writes the tables of docs/subsystems/errors.md anew from Meta's error table.

A test compares the page with the code, so that a changed row is documented, or the build is red.
"""

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from pombo.domain.channels import ChannelKind
from pombo.domain.outcomes import ErrorScope
from pombo.domain.reactions import Reaction, reaction_to
from pombo.meta.error_table import ErrorRule
from pombo.meta.errors import all_rules

PAGE = Path(__file__).parents[3] / "docs" / "subsystems" / "errors.md"
_NOTE = "Written by `python -m pombo.run.errors_docs`."

_HEADS = {
    Reaction.STOP: "Stops until somebody acts",
    Reaction.PAUSE_RUNS: "Pauses campaigns",
    Reaction.SLOW_DOWN: "Slows down",
    Reaction.RETRY: "The message waits",
    Reaction.FAIL: "The message fails",
    Reaction.DOUBT: "The message is in doubt",
}
_REACH = {
    (ChannelKind.MESSENGER, ErrorScope.CHANNEL): "the Page",
    (ChannelKind.MESSENGER, ErrorScope.APP): "all Pages of the Meta app",
    (ChannelKind.WHATSAPP, ErrorScope.CHANNEL): "the number",
    (ChannelKind.WHATSAPP, ErrorScope.ACCOUNT): "all numbers of the WhatsApp account",
    (ChannelKind.WHATSAPP, ErrorScope.APP): "all numbers of the Meta app",
}


def page(current: str) -> str:
    """The page with its two tables written anew; the text around them stays. Raises ValueError without their marks."""
    for kind in ChannelKind:
        begin, end = f"<!-- {kind}: {_NOTE} -->\n", f"\n<!-- end of {kind} -->"
        head, tail = current.index(begin) + len(begin), current.index(end)
        current = f"{current[:head]}\n{_table(kind)}\n{current[tail:]}"
    return current


def _table(kind: ChannelKind) -> str:
    lines = ["| code | Meta means | Pombo | you |", "|---|---|---|---|"]
    rules = [rule for rule in all_rules() if rule.kind is kind]
    order = list(_HEADS)
    for reaction in sorted({reaction_to(rule) for rule in rules}, key=order.index):
        lines.append(f"| **{_HEADS[reaction]}** | | | |")
        matching = (rule for rule in rules if reaction_to(rule) is reaction)
        for _, group in groupby(matching, key=lambda rule: (rule.words, rule.next_step, rule.scope)):
            lines.append(_row(list(group)))
    return "\n".join(lines)


def _row(rules: list[ErrorRule]) -> str:
    return f"| {_codes(rules)} | {rules[0].words} | {_doing(rules[0])} | {rules[0].next_step} |"


def _codes(rules: Iterable[ErrorRule]) -> str:
    return ", ".join(
        f"{rule.code}–{rule.last_code}"
        if rule.last_code is not None
        else f"{'any' if rule.code is None else rule.code}{_subcode(rule)}"
        for rule in rules
    )


def _subcode(rule: ErrorRule) -> str:
    if rule.subcode is None:
        bare = any(other.subcode == 0 and (other.kind, other.code) == (rule.kind, rule.code) for other in all_rules())
        return "/any other" if bare else ""
    return f"/{rule.subcode}" if rule.subcode else ""


def _doing(rule: ErrorRule) -> str:
    match reaction_to(rule):
        case Reaction.STOP:
            return f"stops {_REACH[rule.kind, rule.scope]}"
        case Reaction.SLOW_DOWN:
            return f"slows down {_REACH[rule.kind, rule.scope]}"
        case Reaction.PAUSE_RUNS:
            return "pauses all campaigns with the template"
        case Reaction.RETRY:
            backoff = rule.backoff
            waits = "1, 2, 4 …" if backoff is None else f"{', '.join(map(str, _waits(*backoff)))} …"
            return f"tries again after {waits} s"
        case Reaction.FAIL:
            return "fails the message, and suppresses the person" if rule.opt_out else "fails the message"
        case Reaction.DOUBT:
            return "waits for evidence"


def _waits(first: int, factor: int) -> list[int]:
    return [first * factor**n for n in range(3)]


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
