"""Reads errors by the error table (its form: `error_table`; its rows: `messenger_errors`, `whatsapp_errors`)."""

from collections.abc import Sequence

from pombo.domain.channels import ChannelKind
from pombo.domain.content import RenderError
from pombo.domain.outcomes import ErrorClass, ErrorScope, SendError
from pombo.meta import messenger_errors, whatsapp_errors
from pombo.meta.error_table import WAIT_FOR_EVIDENCE, ErrorRule

_RULES = (*messenger_errors.RULES, *whatsapp_errors.RULES)


def all_rules() -> Sequence[ErrorRule]:
    """Every row, for the documentation: Messenger's, then WhatsApp's."""
    return _RULES


def find_rule(kind: ChannelKind, code: int, subcode: int | None = None) -> ErrorRule:
    """The most exact row: code with subcode or none, then the subcode under any code, then the code; else "unknown"."""
    return (
        _INDEX.get((kind, code, subcode or 0))
        # Meta gives some of these numbers as a code as well.
        or _INDEX.get((kind, None, subcode or code))
        or _INDEX.get((kind, code, None))
        or _UNKNOWN[kind]
    )


def send_error(kind: ChannelKind, code: int, subcode: int | None, message: str) -> SendError:
    """An error as Meta gave it, with our reading of it."""
    rule = find_rule(kind, code, subcode)
    return SendError(
        code=code,
        subcode=subcode or 0,
        title=message,
        error_class=rule.error_class,
        scope=rule.scope,
        proves_not_accepted=rule.proves_not_accepted,
        words=rule.words,
        next_step=rule.next_step,
        backoff=rule.backoff,
        opt_out=rule.opt_out,
    )


def connection_error(title: str, proves_not_accepted: bool) -> SendError:
    """A failure of the connection, which proves something only before the first byte of the request was written."""
    if proves_not_accepted:
        error_class, words, step = ErrorClass.TRANSIENT, "Meta cannot be reached.", "Nothing to do: it is tried again."
    else:
        error_class, words, step = ErrorClass.AMBIGUOUS, "Meta's answer was lost on its way.", WAIT_FOR_EVIDENCE
    return SendError(0, 0, title, error_class, ErrorScope.CHANNEL, proves_not_accepted, words, step)


def content_error(error: RenderError) -> SendError:
    """A message that could not be made of its recipient's values, and never left."""
    step = "Complete this contact's values, or give the variable a default, and resend to failed."
    return SendError(0, 0, error.code, ErrorClass.PERMANENT, ErrorScope.MESSAGE, True, error.sentence, step)


def _codes(rule: ErrorRule) -> Sequence[int | None]:
    return (rule.code,) if rule.code is None or rule.last_code is None else range(rule.code, rule.last_code + 1)


# Ranges first, so that a row for one code within them counts for more.
_INDEX = {
    (rule.kind, code, rule.subcode): rule
    for rule in sorted(_RULES, key=lambda rule: rule.last_code is None)
    for code in _codes(rule)
}

_UNKNOWN = {
    kind: ErrorRule(
        kind,
        code=None,
        subcode=None,
        error_class=ErrorClass.AMBIGUOUS,
        scope=ErrorScope.MESSAGE,
        proves_not_accepted=False,
        words="Meta gave an error that Pombo does not know.",
        next_step=WAIT_FOR_EVIDENCE,
    )
    for kind in ChannelKind
}
