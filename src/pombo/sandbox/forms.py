"""Form-encoded requests: Graph takes every parameter as a form field too, objects as JSON inside it."""

import re
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import msgspec

_BOUNDARY = re.compile(rb"boundary=([^;]+)", re.IGNORECASE)
_PART_NAME = re.compile(r'\bname="([^"]*)"')
_PART_FILENAME = re.compile(r'\bfilename="([^"]*)"')
_PART_TYPE = re.compile(r"^content-type:([^\r\n]*)", re.IGNORECASE | re.MULTILINE)


def is_form(content_type: bytes, body: bytes) -> bool:
    """By the declared type; a body that is plainly a JSON object is JSON whatever it is called, as with Graph."""
    if body[:1] in (b"{", b""):
        return False
    return b"json" not in content_type


def parse_form(body: bytes) -> dict[str, str]:
    """Raises UnicodeDecodeError for bytes that are not UTF-8."""
    return dict(parse_qsl(body.decode(), keep_blank_values=True))


class Upload(NamedTuple):
    """A file of a multipart request."""

    filename: str
    content_type: str
    content: bytes


def is_multipart(content_type: bytes) -> bool:
    return content_type.lower().startswith(b"multipart/form-data")


def parse_multipart(content_type: bytes, body: bytes) -> tuple[dict[str, str], Upload | None]:
    """The fields, and the (last) file. Raises ValueError."""
    match = _BOUNDARY.search(content_type)
    if match is None:
        raise ValueError("the multipart body has no boundary")
    fields: dict[str, str] = {}
    upload = None
    for part in (b"\r\n" + body).split(b"\r\n--" + match[1].strip(b'"'))[1:]:
        if part.startswith(b"--"):
            return fields, upload
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        words = head.decode()
        name = _PART_NAME.search(words)
        if name is None:
            raise ValueError("a part of the multipart body has no name")
        if (filename := _PART_FILENAME.search(words)) is not None:
            kind = _PART_TYPE.search(words)
            upload = Upload(filename[1], "application/octet-stream" if kind is None else kind[1].strip(), content)
        else:
            fields[name[1]] = content.decode()
    raise ValueError("the multipart body has no end")


def unfold(form: dict[str, str]) -> dict[str, Any]:
    """The form with its JSON objects and arrays decoded. Raises msgspec.DecodeError."""
    return {name: msgspec.json.decode(value) if value[:1] in ("{", "[") else value for name, value in form.items()}
