"""Turns what routes raise into the API's errors. What is not known here is a bug, and `guard` logs it."""

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from pombo.api.errors import ApiError, database_unavailable, internal_error, try_again
from pombo.api.runs import show_reject
from pombo.campaigns.errors import AudienceError, NobodyToSendTo
from pombo.campaigns.reading import cleaned
from pombo.domain.content import ContentError
from pombo.inbox.errors import InboxError
from pombo.store.database import TRY_AGAIN
from pombo.store.errors import DatabaseUnavailable, Duplicate


def install(app: FastAPI) -> None:
    for kind, translate in _TRANSLATIONS.items():
        app.add_exception_handler(kind, _handler(translate))


def validation_error(errors: Sequence[Any]) -> ApiError:
    """From pydantic's list of errors."""
    if any(error["type"] == "json_invalid" for error in errors):
        return ApiError("json_invalid", "The body is not valid JSON.")
    details = [{"path": _path(error["loc"]), "message": _words(error)} for error in errors]
    first = details[0]
    where = f"'{first['path']}': " if first["path"] else "The body: "
    return ApiError("validation_failed", f"{where}{first['message']}.", details)


def _path(location: Sequence[str | int]) -> str:
    return cleaned("".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix("."))


def _words(error: Any) -> str:
    if error["type"] in _NO_OBJECT:
        return "must be a JSON object"
    # Our own validators' sentences come with a word of pydantic's before them.
    return cleaned(error["msg"].removeprefix("Value error, "))


# Pydantic's sentences for these speak of Python.
_NO_OBJECT = frozenset({"model_attributes_type", "model_type", "dict_type"})


def _of_request(error: Any) -> ApiError:
    # The first part of the framework's paths says where in the request it was: body, query, path.
    return validation_error([{**each, "loc": each["loc"][1:]} for each in error.errors()])


def _of_http(error: Any) -> ApiError:
    if isinstance(error.__cause__, ApiError):
        return error.__cause__
    match error.status_code:
        case 404:
            return ApiError("not_found", "There is nothing at this address; /openapi.json lists what there is.")
        case 405:
            return ApiError("method_not_allowed", "This address does not take this method; see /openapi.json.")
        case _:
            # FastAPI's way of saying that it could not read the body.
            return ApiError("json_invalid", "The body cannot be read as JSON.")


def _of_audience(error: Any) -> ApiError:
    rejects = error.rejects if isinstance(error, NobodyToSendTo) else ()
    return ApiError(error.code, error.sentence, [show_reject(reject).model_dump() for reject in rejects] or None)


def _of_content(error: Any) -> ApiError:
    details = [{"code": p.code, "path": p.path, "message": p.sentence} for p in error.problems]
    return ApiError(error.code, error.sentence, details, status=422)


_TRANSLATIONS: dict[type[Exception], Any] = {
    ApiError: lambda error: error,
    RequestValidationError: _of_request,
    HTTPException: _of_http,
    AudienceError: _of_audience,
    ContentError: _of_content,
    InboxError: lambda error: ApiError(error.code, error.sentence, error.details),
    Duplicate: lambda error: ApiError("name_taken", str(error)),
    DatabaseUnavailable: lambda error: database_unavailable(),
    **dict.fromkeys(TRY_AGAIN, lambda error: try_again()),
    Exception: lambda error: internal_error(),
}


def _handler(translate: Any) -> Any:
    async def handle(request: Request, error: Exception) -> Response:
        translated: ApiError = translate(error)
        return translated.response(getattr(error, "headers", None))

    return handle
