"""Every error that the API answers with: `{"error": {"code": …, "message": …, "details": …}}`.

The codes are stable and the sentences are not. A content that cannot be sent has the code of its first problem, always
with status 422 (see `pombo.domain.content_rules`); all others stand in the table below. docs/api.md lists them all.
"""

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

STATUS: dict[str, int] = {
    # Who asks
    "key_missing": 401,
    "key_invalid": 401,
    # The request as a whole
    "json_invalid": 400,
    "csv_invalid": 400,
    "body_incomplete": 400,
    "idempotency_key_invalid": 400,
    "not_found": 404,
    "method_not_allowed": 405,
    "body_timeout": 408,
    "body_too_large": 413,
    "value_too_large": 413,
    "media_type_unsupported": 415,
    "validation_failed": 422,
    # What it names
    "campaign_not_found": 404,
    "channel_not_found": 404,
    "run_not_found": 404,
    "suppression_not_found": 404,
    "webhook_not_found": 404,
    "conversation_not_found": 404,
    "message_not_found": 404,
    "agent_not_found": 404,
    "label_not_found": 404,
    "canned_reply_not_found": 404,
    "media_not_found": 404,
    "sync_not_found": 404,
    # What it wants of a conversation
    "agent_required": 403,
    "conversation_changed": 409,
    "answered_meanwhile": 409,
    "name_taken": 409,
    "message_not_retryable": 409,
    "message_not_quotable": 422,
    "reply_window_closed": 422,
    "group_not_supported": 422,
    # What it wants of media and history
    "media_pending": 409,
    "media_failed": 410,
    "media_not_retryable": 409,
    "range_not_satisfiable": 416,
    "media_empty": 422,
    "history_unavailable": 422,
    "action_unavailable": 422,
    # What it wants to send
    "channel_required": 422,
    "content_missing": 422,
    "audience_empty": 422,
    "recipients_missing": 422,
    "recipients_invalid": 422,
    # What it wants of a run
    "run_not_pausable": 409,
    "run_not_resumable": 409,
    "run_not_cancellable": 409,
    # Idempotency-Key
    "request_in_progress": 409,
    "idempotency_conflict": 422,
    # Our side
    "internal_error": 500,
    "database_unavailable": 503,
    "try_again": 503,
    "media_unavailable": 503,
    "upload_interrupted": 503,
    "worker_not_available": 503,
}

# Seconds after which a client may well try again.
_RETRY_AFTER = {
    "database_unavailable": 2,
    "try_again": 1,
    "upload_interrupted": 2,
    "worker_not_available": 60,
    "request_in_progress": 5,
}
# After these the rest of the body is not read, so the connection cannot carry another request.
_CLOSES = frozenset({"body_too_large", "body_timeout", "value_too_large", "body_incomplete"})


class ApiError(Exception):
    def __init__(self, code: str, message: str, details: Any = None, *, status: int | None = None) -> None:
        """`status` is only for codes that are not in the table."""
        self.code = code
        self.message = message
        self.details = details
        self.status = STATUS[code] if status is None else status
        super().__init__(message)

    @property
    def headers(self) -> dict[str, str]:
        headers = {}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        if self.code in _RETRY_AFTER:
            headers["Retry-After"] = str(_RETRY_AFTER[self.code])
        if self.code in _CLOSES:
            headers["Connection"] = "close"
        return headers

    def response(self, headers: Mapping[str, str] | None = None) -> JSONResponse:
        error = {"code": self.code, "message": self.message, "details": self.details}
        return JSONResponse({"error": error}, self.status, {**self.headers, **(headers or {})})


def database_unavailable() -> ApiError:
    return ApiError("database_unavailable", "The database does not answer at the moment; try again in a few seconds.")


def try_again() -> ApiError:
    return ApiError("try_again", "Somebody else changed the same at the same moment; nothing was done, try again.")


def internal_error() -> ApiError:
    return ApiError("internal_error", "Something went wrong on our side; the log of the API says what.")
