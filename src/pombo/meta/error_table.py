"""The form of the error table, whose rows stand in `messenger_errors` and `whatsapp_errors`.

The column `proves_not_accepted` decides between sending again and waiting for evidence, so it is set only where Meta
names a reason to refuse (a limit, a permission, a rule, a wrong value). A failure of the service proves nothing:
messages with Messenger's error 1/1357046 were all sent, by Meta's own words. HTTP statuses play no part in the table,
for the same error comes as 400, 403, 429 or 500.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from pombo.domain.channels import ChannelKind
from pombo.domain.outcomes import Backoff, ErrorClass, ErrorScope


@dataclass(frozen=True, slots=True)
class ErrorRule:
    """One row. `code` None: any code (some subcodes come with several); `subcode` None: any or none, 0: none.

    A row with `last_code` covers all codes from `code` to `last_code`. With `backoff` a retry waits so long instead of
    the usual 1, 2, 4 … s. `opt_out`: the recipient wants no more campaigns.
    """

    kind: ChannelKind
    code: int | None
    subcode: int | None
    error_class: ErrorClass
    scope: ErrorScope
    proves_not_accepted: bool
    words: str
    next_step: str
    last_code: int | None = None
    backoff: Backoff | None = None
    opt_out: bool = False


# A code, a code with its subcode, or a range of codes.
Codes = int | tuple[int | None, int] | range


class Table:
    """Collects the rows of one channel kind."""

    def __init__(self, kind: ChannelKind) -> None:
        self._kind = kind
        self.rules: list[ErrorRule] = []

    def proven(
        self,
        error_class: ErrorClass,
        scope: ErrorScope,
        codes: Iterable[Codes],
        words: str,
        next_step: str,
        *,
        backoff: Backoff | None = None,
        opt_out: bool = False,
    ) -> None:
        """Errors that prove that Meta did not accept the message."""
        self._add(error_class, scope, codes, words, next_step, True, backoff, opt_out)

    def doubtful(
        self, error_class: ErrorClass, scope: ErrorScope, codes: Iterable[Codes], words: str, next_step: str
    ) -> None:
        """Errors after which the message may still arrive."""
        self._add(error_class, scope, codes, words, next_step, False, None, False)

    def _add(
        self,
        error_class: ErrorClass,
        scope: ErrorScope,
        codes: Iterable[Codes],
        words: str,
        next_step: str,
        proves: bool,
        backoff: Backoff | None,
        opt_out: bool,
    ) -> None:
        for entry in codes:
            code: int | None
            subcode: int | None = None
            last_code: int | None = None
            match entry:
                case int():
                    code = entry
                case range():
                    code, last_code = entry.start, entry.stop - 1
                case (code, subcode):
                    pass
            self.rules.append(
                ErrorRule(
                    self._kind,
                    code,
                    subcode,
                    error_class,
                    scope,
                    proves,
                    words,
                    next_step,
                    last_code,
                    backoff,
                    opt_out,
                )
            )


# What to do next, where many rows say the same.
SLOWS_DOWN = "Nothing to do: the channel slows down and sends it again."
NEW_TOKEN = "Give the channel a new access token; what waits is then sent."  # noqa: S105
PERMISSIONS = "Give the app the permission and the token's owner a role on the asset, then start the channel."
APPEAL = "Open the account's quality page at Meta, appeal or wait there, then start the channel."
SETTLE = "Open the account in Meta Business Suite, settle what it asks for, then start the channel."
SUPPRESSED = "Nothing to do: campaigns leave this person out from now on."
LEAVE_OUT = "Leave this recipient out; the others are not concerned."
WAIT_FOR_REPLY = "Wait until this person writes again."
CORRECT = "Correct the content and resend to failed."
WAIT_FOR_EVIDENCE = "Wait: an echo or a status settles it; after the grace time the channel's policy decides."
