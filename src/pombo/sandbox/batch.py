"""Graph batch requests: up to 50 requests in one POST to the root, answered in their order."""

from collections.abc import Callable
from typing import Any

import msgspec

from pombo.sandbox.errors import MetaError
from pombo.sandbox.reply import Reply

_MAX_ITEMS = 50

Dispatch = Callable[[bytes, bytes, str | None, bytes, bytes], Reply]
"""method, target, token, content type, body"""


class Item(msgspec.Struct):
    method: str
    relative_url: str
    body: str = ""
    name: str | None = None


_decode_items = msgspec.json.Decoder(list[Any]).decode
_FORM = b"application/x-www-form-urlencoded"


def run_batch(parameters: dict[str, Any], token: str | None, dispatch: Dispatch) -> Reply:
    """Items fail one by one. A lost answer of one item loses the whole batch's; a latency delays it."""
    if token is None:
        raise missing_token()
    items = _items(parameters.get("batch"))
    with_headers = str(parameters.get("include_headers", True)).lower() not in ("false", "0")
    answers: list[dict[str, Any] | None] = []
    batch = Reply(b"")
    for item in items:
        reply = _answer(item, token, dispatch)
        batch.delay = max(batch.delay, reply.delay)
        if reply.ending in ("close", "hang"):
            batch.ending = reply.ending
        answers.append(None if reply.ending == "null" else _as_item(reply, with_headers=with_headers))
    batch.body = msgspec.json.encode(answers)
    return batch


def missing_token() -> MetaError:
    return MetaError("messenger", 104, message="An access token is required to request this resource.", status=401)


def _items(given: Any) -> list[Any]:
    try:
        items = _decode_items(given) if isinstance(given, str) else given
    except msgspec.DecodeError:
        items = None
    if not isinstance(items, list) or not items:
        raise MetaError("messenger", 100, message="(#100) Param batch must be a non-empty array.")
    if len(items) > _MAX_ITEMS:
        # The number of this error is not documented.
        message = f"Too many requests in batch message. Maximum batch size is {_MAX_ITEMS}"
        raise MetaError("messenger", -3, message=message, error_type="GraphBatchException")
    return items


def _answer(given: Any, token: str, dispatch: Dispatch) -> Reply:
    try:
        item = msgspec.convert(given, Item)
    except msgspec.ValidationError as error:
        return MetaError("messenger", 100, message=f"(#100) Invalid batch item: {error}").reply()
    target = "/" + item.relative_url.lstrip("/")
    return dispatch(item.method.upper().encode(), target.encode(), token, _FORM, item.body.encode())


def _as_item(reply: Reply, *, with_headers: bool) -> dict[str, Any]:
    item: dict[str, Any] = {"code": reply.status}
    if with_headers:
        lines = [line.partition(": ") for line in reply.headers.decode().split("\r\n") if line]
        headers = [("Content-Type", "application/json; charset=UTF-8"), *((name, value) for name, _, value in lines)]
        item["headers"] = [{"name": name, "value": value} for name, value in headers]
    item["body"] = reply.body.decode()
    return item
