"""Why an agent's wish cannot be done.

InboxError
├── Missing    something that it names is not there
└── Collision  somebody else was faster
"""

from typing import Any


class InboxError(Exception):
    """`code` is stable, `sentence` says what to do. Codes of its own: reply_window_closed, group_not_supported,
    message_not_retryable, message_not_quotable."""

    def __init__(self, code: str, sentence: str, details: Any = None) -> None:
        self.code = code
        self.sentence = sentence
        self.details = details
        super().__init__(sentence)


class Missing(InboxError):
    """Codes: conversation_not_found, message_not_found, agent_not_found, label_not_found, media_not_found."""


class Collision(InboxError):
    """Codes: conversation_changed, answered_meanwhile; the details hold the state that there is now."""


def conversation_not_found(conversation_id: int) -> Missing:
    return Missing(
        "conversation_not_found", f"There is no conversation {conversation_id}; GET /api/conversations lists them."
    )
