"""What makes a whole audience unusable. One bad recipient is no error: it is a `RejectedLine`.

AudienceError
├── BodyInvalid       what came in cannot be read on, at all
└── NobodyToSendTo    it could be read, but no recipient is left
"""

from collections.abc import Sequence

from pombo.store.audience import RejectedLine


class AudienceError(Exception):
    """`code` is stable, `sentence` says what to do."""

    def __init__(self, code: str, sentence: str) -> None:
        self.code = code
        self.sentence = sentence
        super().__init__(sentence)


class BodyInvalid(AudienceError):
    """Codes: json_invalid, csv_invalid, value_too_large, validation_failed."""


class NobodyToSendTo(AudienceError):
    """Codes: recipients_missing, recipients_invalid (then with the first rejects)."""

    def __init__(self, code: str, sentence: str, rejects: Sequence[RejectedLine] = ()) -> None:
        super().__init__(code, sentence)
        self.rejects = rejects
