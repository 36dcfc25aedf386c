"""Protocols that are broken on purpose: the model must find out each of them, or it proves nothing."""

from enum import Enum, auto


class Flaw(Enum):
    NO_EPOCH_CHECK = auto()
    """An intent is stored whoever owns the channel by now."""
    NO_KEY_SHARE_LOCK = auto()
    """A takeover does not wait for intents under way."""
    PROOF_OF_ANY_ATTEMPT = auto()
    """A late "never written" of a former attempt puts the message back."""
    SENDS_WHAT_WAS_NOT_RETURNED = auto()
    """A lost answer to the intent is taken for a yes."""
    FORGETS_INTENTS_WITH_LOST_ANSWERS = auto()
    """They are not looked for again when they may have committed late."""
    NO_DEADLINE = auto()
    """What was armed leaves however late it is."""
    A_LOST_ANSWER_IS_A_REFUSAL = auto()
    """It is tried again at once."""
    RESENDS_WITHOUT_GRACE = auto()
    """What is in doubt is sent again as soon as the rest allows."""
    COUNTS_GRACE_FROM_THE_DOUBT = auto()
    """And not from when nothing of the attempt could leave any more."""
    RESENDS_WHILE_THE_OWNER_LIVES = auto()
    """The advisory lock is not looked at."""
    RESENDS_WITHOUT_LATER_EVIDENCE = auto()
    """Whether echoes come at all is not asked."""
    TAKES_EVIDENCE_FROM_BEFORE_THE_END = auto()
    """Of an intent after this one's, but before its attempt was over."""
    TAKES_EVIDENCE_OF_ANOTHER_KIND = auto()
    """Of the same channel, whatever was sent."""
    RESENDS_BEFORE_WEBHOOKS_ARE_APPLIED = auto()
    """The evidence may lie in the queue."""
    HIDES_THE_SECOND_ID = auto()
    """What was accepted twice is not reported."""
    COUNTS_WHAT_DID_NOT_MOVE = auto()
    """A repeated outcome is counted again."""
    STARTS_WITH_A_FULL_BUCKET = auto()
    """A takeover doubles the rate for a moment."""
    GIVES_TOKENS_BACK_LATER = auto()
    """Those of messages that did not leave; others were taken in their place meanwhile."""

    @property
    def symptom(self) -> str:
        """What is seen of it."""
        return _SYMPTOMS.get(self, "accepted twice")


_SYMPTOMS = {
    Flaw.NO_EPOCH_CHECK: "an intent was stored after another took the channel",
    Flaw.NO_KEY_SHARE_LOCK: "an intent was stored after another took the channel",
    Flaw.SENDS_WHAT_WAS_NOT_RETURNED: "what left was not stored",
    Flaw.FORGETS_INTENTS_WITH_LOST_ANSWERS: "left as s",
    Flaw.HIDES_THE_SECOND_ID: "sent twice, and not reported",
    Flaw.COUNTS_WHAT_DID_NOT_MOVE: "miscounted",
    Flaw.STARTS_WITH_A_FULL_BUCKET: "faster than the rate",
    Flaw.GIVES_TOKENS_BACK_LATER: "faster than the rate",
}
